"""`python -m distill`: what is trained is what is exported; killed == uninterrupted; bad input is one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import run_stage, write_recipe, write_tiny
from transformers import AutoModelForCausalLM

from distill.losses import LOSSES
from fastpath.config_distill import MODES, DistillConfig
from fastpath.models import Lineage, weights_sha256
from fastpath.runs import read_json

ROOT = Path(__file__).parents[1]
SMALL = {
    "mode": "full", "tasks": ["doc_type", "one_hop"], "items_per_task": 12, "steps": 4, "batch_rows": 4,
    "micro_rows": 2, "max_tokens": 512, "log_steps": 1, "checkpoint_steps": 2, "warmup_steps": 1,
    "last_blocks": 2, "lora_rank": 4, "learning_rate": 1e-3,
}  # fmt: skip


def recipe_of(folder, base, **distill):
    plan = folder / "given.json"
    plan.write_text(json.dumps({"depth": 6, "keep": [0, 1, 4, 5], "criterion": "given", "chooser": "given",
                                "cost": None, "unit": ""}))  # fmt: skip
    return write_recipe(
        folder / "r.yaml", model=base, out=folder / "run", prune={"drop": None, "plan": str(plan)},
        distill=SMALL | distill,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def recipe(base, tmp_path_factory):
    """A pruned run."""
    recipe = recipe_of(tmp_path_factory.mktemp("run"), base)
    assert run_stage("prune", recipe) == 0
    return recipe


def distilled(recipe, *overrides, out=None):
    """The folder of a stage that was run with other keys on the same student."""
    run = recipe.parent / "run"
    student = f"distill.student={run / 'prune' / 'model'}"
    assert run_stage("distill", recipe, student, f"out={out or run}", *overrides) == 0
    return (Path(out) if out else run) / "distill"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns_and_exports_a_stock_model(recipe, tmp_path, mode, base):
    folder = distilled(recipe, f"distill.mode={mode}", "distill.steps=12", out=tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["kd_nats_per_token"] < rows[0]["kd_nats_per_token"]
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert model.config.num_hidden_layers == 4
    lineage = Lineage.read(folder / "model")
    assert lineage.weights_sha256 == weights_sha256(folder / "model")
    assert lineage.base_weights_sha256 == weights_sha256(base)
    assert lineage.distillation["mode"] == mode
    assert lineage.distillation["learnt_tokens"] == rows[-1]["learnt_tokens"] > 0
    changed = load_file(folder / "model" / "model.safetensors")
    before = load_file(recipe.parent / "run/prune/model/model.safetensors")
    assert changed.keys() == before.keys()
    same = {name for name in before if torch.equal(before[name], changed[name])}
    frozen = {name for name in before if "layers.0." in name or "layers.1." in name or "embed" in name}
    assert frozen <= same, "before the first cut nothing changes"
    assert {name for name in before if "layers.3." in name and "_proj" in name}.isdisjoint(same)


def test_mode_of_the_memory_estimate_is_the_first_that_fits(recipe, tmp_path, caplog):
    folder = distilled(
        recipe, "distill.mode=auto", "distill.steps=1", "distill.checkpoint_steps=1", out=tmp_path
    )
    assert read_json(folder / "mode.json") == "full"


def test_what_does_not_fit_is_refused_and_says_what_would(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("distill.memory.free_bytes", lambda device: 10_000)
    student = f"distill.student={recipe.parent / 'run/prune/model'}"
    assert run_stage("distill", recipe, student, f"out={tmp_path}") == 2
    assert "recompute_activations" in capsys.readouterr().err


def stage_process(recipe, *overrides, **options):
    same_sums = {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "distill", "--config", str(recipe), *map(str, overrides)]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | same_sums | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["full", pytest.param("shared-lora", marks=pytest.mark.slow)])
def test_killed_it_ends_with_the_same_bytes(recipe, tmp_path, mode):
    student = f"distill.student={recipe.parent / 'run/prune/model'}"
    common = [student, f"distill.mode={mode}", "distill.steps=30"]
    assert stage_process(recipe, *common, f"out={tmp_path / 'calm'}").wait() == 0
    folder = tmp_path / "killed" / "distill"
    process = stage_process(recipe, *common, f"out={folder.parent}", start_new_session=True)
    while process.poll() is None and not (folder / "checkpoints/checkpoint-6/DONE").exists():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert stage_process(recipe, *common, f"out={folder.parent}").wait() == 0
    check_same(folder, tmp_path / "calm" / "distill")

    # As if killed when the last checkpoint had been begun.
    (folder / "DONE").unlink()
    (folder / "trained.json").unlink()
    shutil.rmtree(folder / "model")
    (folder / "checkpoints/checkpoint-30/DONE").unlink()
    (folder / "checkpoints/checkpoint-30/optimizer.pt").write_bytes(b"half")
    assert stage_process(recipe, *common, f"out={folder.parent}").wait() == 0
    check_same(folder, tmp_path / "calm" / "distill")


def check_same(folder, calm):
    for name in ("model.safetensors", "config.json", "lineage.json"):
        assert (folder / "model" / name).read_bytes() == (calm / "model" / name).read_bytes(), name
    logs = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (folder, calm)
    ]
    for row in (*logs[0], *logs[1]):
        del row["tokens_per_second"]
    assert logs[0] == logs[1]


def test_losses_of_a_recipe_are_those_there_are():
    assert DistillConfig.model_fields["loss"].annotation.__args__ == tuple(LOSSES)
