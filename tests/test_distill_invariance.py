"""The step is the same however its rows are dealt: to micro-batches, or to processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from test_distill import pruned
from tiny import run_stage, write_tiny

ROOT = Path(__file__).parents[1]
STEP = {
    "batch_rows": 8, "micro_rows": 8, "steps": 3, "checkpoint_steps": 3, "pack": "never",
    "tasks": ["doc_type", "counter"],
    "dev_items_per_task": 2, "dev_tasks": ["doc_type", "arithmetic"],
}  # fmt: skip

PHASES = ["distill.local_steps=2", "distill.on_policy={steps: 2, new_tokens: 5}"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A pruned run; the two tasks have answers of very different lengths."""
    folder = tmp_path_factory.mktemp("run")
    return pruned(folder, write_tiny(folder / "model"), **STEP)


def facts(folder):
    """(metrics without speed, weights)"""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("tokens_per_second", None)
    return rows, load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize(("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP")])
def test_shipped_launch_configurations_are_accelerates(name, kind):
    given = load_config_from_file(str(ROOT / f"configs/accelerate/{name}.yaml"))
    assert given.distributed_type == kind and given.num_processes == 2
    if kind == "FSDP":
        assert given.fsdp_config["fsdp_version"] == 2


def check_same(folder, other, before):
    (rows, weights), (want_rows, want) = facts(folder), facts(other)
    assert [row.keys() for row in rows] == [row.keys() for row in want_rows]
    for row, wanted in zip(rows, want_rows, strict=True):
        assert row.pop("phase") == wanted.pop("phase")
        assert row == pytest.approx(wanted, rel=2e-4)
    moved = torch.cat([(weights[name] - before[name]).flatten() for name in before])
    wanted = torch.cat([(want[name] - before[name]).flatten() for name in before])
    assert torch.cosine_similarity(moved, wanted, dim=0) > 0.999, "a mean of means has 0.8"


def test_accumulated_step_is_the_step(recipe, tmp_path):
    student = recipe.parent / "run/prune/model"
    for micro in (8, 4, 2):
        keys = [
            f"distill.student={student}",
            f"distill.micro_rows={micro}",
            f"out={tmp_path / str(micro)}",
            *PHASES,
        ]
        assert run_stage("distill", recipe, *keys) == 0
    before = load_file(student / "model.safetensors")
    for micro in ("4", "2"):
        check_same(tmp_path / micro / "distill", tmp_path / "8" / "distill", before)


# torchrun: on a CPU `accelerate launch` starts several processes through mpirun alone.
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "shared-lora"])
def test_two_processes_take_the_steps_of_one_in_every_phase(recipe, tmp_path, mode):
    student = recipe.parent / "run/prune/model"
    keys = [f"distill.student={student}", f"distill.mode={mode}", "distill.micro_rows=4", *PHASES]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    for out, command in (("one", [sys.executable, "-m"]), ("two", launch)):
        given = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        full = [*command, "distill", "--config", str(recipe), *keys, f"out={tmp_path / out}"]
        done = subprocess.run(
            full, env=given, capture_output=True, text=True, cwd=ROOT, timeout=500, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count('"stage"') == 1, "the first process alone prints"
    check_same(tmp_path / "two/distill", tmp_path / "one/distill", load_file(student / "model.safetensors"))
