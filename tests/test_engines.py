"""Other engines than ours: vLLM by recipe, and lm-eval's own command on our tasks."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from tiny import run_stage, write_recipe, write_tiny

from eval import engines
from eval.engines import GPU_SHARE, build_lm
from eval.harness import OUR_TASKS
from eval.lm import FastLM
from eval.zoo import Zoo
from fastpath.sources import Source

WITHOUT_VLLM = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")


@pytest.fixture
def zoo(tmp_path):
    folders = {label: write_tiny(tmp_path / label) for label in ("base", "fast")}
    sources = {label: Source(label, "local", folder) for label, folder in folders.items()}
    return Zoo(sources, dtype=torch.float32, device=torch.device("cpu"), trust=False)


@WITHOUT_VLLM
def test_vllm_that_is_not_installed_is_refused_before_any_work(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", model=tmp_path / "nowhere", out=tmp_path / "run")
    assert run_stage("eval", recipe, "eval.engine=vllm") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "eval.engine: vllm is not installed" in error[0]


def test_vllm_is_given_the_folder_and_type_of_the_run_and_a_share_of_the_memory(zoo, monkeypatch):
    given = {}
    monkeypatch.setattr(engines, "check_engine", lambda engine: None)
    monkeypatch.setattr(engines, "get_model", lambda name: lambda **keys: given.update(keys, model=name))
    build_lm("vllm", zoo, "fast", batch_size=4)
    assert given == {
        "model": "vllm", "pretrained": str(zoo.sources["fast"].folder), "dtype": "float32",
        "trust_remote_code": False, "batch_size": 4, "gpu_memory_utilization": GPU_SHARE / 2,
    }  # fmt: skip


def test_hf_is_our_own(zoo):
    assert isinstance(build_lm("hf", zoo, "base", batch_size=4), FastLM)


@pytest.mark.slow
def test_lm_eval_s_own_command_runs_our_tasks(tmp_path):
    """From another folder, with its own model class: what `--model vllm` does for those who have it."""
    model = write_tiny(tmp_path / "model")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--limit", "2"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", str(OUR_TASKS)]
    command += ["--tasks", "fastpath_simple,fastpath_worked,fastpath_dial_hops", "--batch_size", "4"]
    path = os.pathsep.join([str(OUR_TASKS.parents[1]), os.environ.get("PYTHONPATH", "")])
    offline = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for task in ("fastpath_doc_type", "fastpath_worked", "fastpath_dial_hops", "step_nats"):
        assert task in done.stdout
