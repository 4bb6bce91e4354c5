"""`python -m distill` with a kept teacher: what it learns, when it asks the original, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_distill import pruned, stage_process
from test_teacher_store import KEEP, V, flip, own_cache, relative  # noqa: F401 (a fixture)
from tiny import run_stage, write_tiny

from distill import capture as capture_module
from distill.memory import empty_model, estimate
from fastpath.config_distill import DistillConfig
from fastpath.models import Lineage
from fastpath.runs import read_json


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def recipe(base, tmp_path_factory):
    return pruned(tmp_path_factory.mktemp("run"), base)


def arguments(recipe, out, **keys):
    student = recipe.parent / "run/prune/model"
    return [f"distill.student={student}", f"out={out}", *(f"distill.{k}={v}" for k, v in keys.items())]


def distilled(recipe, out, **keys):
    assert run_stage("distill", recipe, *arguments(recipe, out, **keys)) == 0
    return out / "distill"


def rows_of_log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["top-k", "expected"])
def test_stage_learns_what_it_learns_beside_the_teacher(recipe, tmp_path, name, monkeypatch):
    keys = {"mode": "lora", "steps": 6}
    live = distilled(recipe, tmp_path / "live", **keys)
    loaded = []
    real = capture_module.load_model
    monkeypatch.setattr(capture_module, "load_model", lambda f, **how: loaded.append(f) or real(f, **how))
    kept = distilled(recipe, tmp_path / "kept", **keys, teacher=name, teacher_top_k=V)
    assert len(loaded) == 2
    for a, b in zip(rows_of_log(kept), rows_of_log(live), strict=True):
        assert a["kd_nats_per_token"] == pytest.approx(b["kd_nats_per_token"], rel=1e-4)
        assert a["learnt_tokens"] == b["learnt_tokens"]
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (kept, live)]
    for key, tensor in weights[1].items():
        assert relative(weights[0][key], tensor) <= 1e-4
    assert Lineage.read(kept / "model").distillation["teacher"] == name


def test_student_is_trained_without_the_teacher(recipe, tmp_path, monkeypatch):
    from distill import job

    read, original = [], job.load_model
    monkeypatch.setattr(job, "load_model", lambda f, **how: read.append(f) or original(f, **how))
    distilled(recipe, tmp_path, steps=2, teacher="top-k", teacher_top_k=16)
    assert set(read) == {recipe.parent / "run/prune/model"}


def test_run_with_another_seed_asks_the_teacher_no_more(recipe, tmp_path, caplog):
    """Another order, other rows, other settings of training: only what is new is captured."""
    data = tmp_path / "mine.jsonl"
    texts = [{"text": f"Ticket {n}: the door of room {n * 7} is open."} for n in range(20)]
    data.write_text("".join(json.dumps(text) + "\n" for text in texts))
    sources = f"[{{source: {data}}}]"
    keys = {"steps": 8, "teacher": "top-k", "teacher_top_k": 16, "tasks": "[]", "data": sources}
    distilled(recipe, tmp_path / "one", **keys)
    caplog.set_level("INFO", "fastpath")
    caplog.clear()
    out = tmp_path / "two"
    options = arguments(recipe, out, **keys, pack="never", learning_rate=2e-3, kd_weight=0.5, temperature=2.0)
    assert run_stage("distill", recipe, "seed=5", *options) == 0
    assert "holds 20 of 20 samples; 0 learnt tokens are to be captured" in caplog.text
    assert "8 of them asked again" in caplog.text
    caplog.clear()
    data.write_text(data.read_text() + json.dumps({"text": "One more."}) + "\n")
    distilled(recipe, tmp_path / "three", **keys)
    assert "holds 20 of 21 samples; 8 learnt tokens are to be captured" in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"teacher": "expected", "freeze_prefix": "false"},
            "expected needs a frozen head, and mode full trains",
        ),
        ({"teacher": "top-k", "teacher_top_k": 1000}, "teacher_top_k: 1000 of 259 tokens"),
    ],
)
def test_stage_refuses_before_it_captures(recipe, tmp_path, keys, message, capsys):
    assert run_stage("distill", recipe, *arguments(recipe, tmp_path / "run", **keys)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_stage_names_a_corrupted_shard(recipe, tmp_path, cache, capsys):
    keys = {"steps": 2, "teacher": "top-k", "teacher_top_k": 16}
    distilled(recipe, tmp_path / "one", **keys)
    (path,) = cache.rglob("*.safetensors")
    flip(path, -5)
    assert run_stage("distill", recipe, *arguments(recipe, tmp_path / "two", **keys)) == 2
    error = capsys.readouterr().err
    assert f"{path}: its content was changed" in error
    assert "Traceback" not in error


def test_memory_estimate_has_no_teacher_beside_the_student(recipe, tmp_path, base):
    models = [
        empty_model(folder, dtype=torch.float32, trust=False)
        for folder in (base, recipe.parent / "run/prune/model")
    ]
    configs = (DistillConfig(teacher=t, last_blocks=2) for t in ("live", "top-k"))
    live, kept = (estimate("lora", c, *models, KEEP, device=torch.device("cpu")) for c in configs)
    assert live.weights - kept.weights == 4 * sum(p.numel() for p in models[0].parameters())
    assert (live.training, live.activations) == (kept.training, kept.activations)
    assert live.capture == 0 < kept.capture


@pytest.mark.slow
def test_killed_while_it_captures_and_trains_it_ends_with_the_same_bytes(recipe, tmp_path, monkeypatch):
    slow = "import distill.capture as c; c.SHARD_BYTES = 1"
    keys = {"steps": 6, "teacher": "top-k", "teacher_top_k": 16, "micro_rows": 1}
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path / "calm_cache"))
    assert stage_process(recipe, *arguments(recipe, tmp_path / "calm", **keys)).wait() == 0
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path / "killed_cache"))
    command = [sys.executable, "-c", f"{slow}; import runpy, sys; sys.argv[0] = 'distill'; "
               "runpy.run_module('distill', run_name='__main__')"]  # fmt: skip
    where = {"cwd": Path(__file__).parents[1], "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    environment = os.environ | {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--config", str(recipe), *arguments(recipe, tmp_path / "killed", **keys)],
        env=environment, start_new_session=True, **where,
    )  # fmt: skip
    while process.poll() is None and len([*tmp_path.glob("killed_cache/teachers/*/0*")]) < 4:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert not (tmp_path / "killed/distill/DONE").exists()
    assert stage_process(recipe, *arguments(recipe, tmp_path / "killed", **keys)).wait() == 0
    for name in ("model.safetensors", "lineage.json"):
        first, second = (tmp_path / run / "distill/model" / name for run in ("calm", "killed"))
        assert first.read_bytes() == second.read_bytes()
    assert read_json(tmp_path / "killed/distill/mode.json") == "full"
