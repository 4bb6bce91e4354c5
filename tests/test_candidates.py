"""The frontier's best plans are trained a little; the one that the dev items then prefer goes on."""

import json
import os
import subprocess
import sys

import pytest
from test_distill import ROOT, SMALL, check_one_line, check_same, stopped_at
from tiny import run_stage, write_recipe, write_tiny
from transformers import AutoModelForCausalLM

from distill.candidates import best_candidate
from fastpath.models import Lineage, weights_sha256
from fastpath.plan import read_plan
from fastpath.runs import read_json

CHOICE = {
    "candidates": 3, "candidate_steps": 2, "dev_items_per_task": 2, "dev_tasks": ["doc_type", "arithmetic"],
    "checkpoint_steps": 1, "steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A pruned run with a frontier."""
    folder = tmp_path_factory.mktemp("run")
    recipe = write_recipe(
        folder / "r.yaml", model=write_tiny(folder / "base"), out=folder / "run", distill=SMALL | CHOICE
    )
    assert run_stage("prune", recipe) == 0
    return recipe


@pytest.fixture(scope="module")
def done(recipe):
    """The distilled run."""
    assert run_stage("distill", recipe) == 0
    return recipe.parent / "run/distill"


def test_best_candidate_goes_on(recipe, done, capsys):
    facts = read_json(done / "candidates.json")
    drops = [tuple(row["drop"]) for row in facts["candidates"]]
    cut = read_plan(recipe.parent / "run/prune/plan.json")
    assert drops[0] == cut.drop
    assert len(set(drops)) == 3 and {len(drop) for drop in drops} == {2}
    assert facts["chosen"] == best_candidate(facts["candidates"])
    winner = drops[facts["chosen"]]
    assert read_plan(done / "plan.json").drop == winner
    lineage = Lineage.read(done / "model")
    assert lineage.keep == tuple(i for i in range(6) if i not in winner)
    assert lineage.weights_sha256 == weights_sha256(done / "model")
    assert lineage.distillation["phases"] == {"candidate": 2, "logits": 2}
    model = AutoModelForCausalLM.from_pretrained(done / "model")
    assert model.config.num_hidden_layers == 4
    assert run_stage("distill", recipe) == 0
    shown = capsys.readouterr().out
    assert "Candidates after a short distillation" in shown and "goes on" in shown


def test_winner_goes_on_from_its_short_training(done):
    number = read_json(done / "candidates.json")["chosen"]
    (short,) = read_json(done / f"candidates/{number}/phases.json")
    first = json.loads((done / "metrics.jsonl").read_text().splitlines()[0])
    assert first["eval_complex_nats_per_token"] == pytest.approx(short["complex_nats_per_token"])
    assert first["learnt_tokens"] == short["learnt_tokens"]


@pytest.mark.parametrize("at", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_stopped_at_any_candidate_it_ends_with_the_same_bytes(recipe, done, tmp_path, at):
    (tmp_path / "prune").symlink_to(recipe.parent / "run/prune")
    with stopped_at(at):
        assert run_stage("distill", recipe, f"out={tmp_path}") == 130
    assert run_stage("distill", recipe, f"out={tmp_path}") == 0
    check_same(tmp_path / "distill", done)


@pytest.mark.slow
def test_two_processes_choose_as_one(recipe, done, tmp_path):
    (tmp_path / "prune").symlink_to(recipe.parent / "run/prune")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "distill"]
    given = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*launch, "--config", str(recipe), f"out={tmp_path}"], env=given, cwd=ROOT, timeout=500, check=True
    )
    one, two = (read_json(folder / "candidates.json") for folder in (done, tmp_path / "distill"))
    assert one["chosen"] == two["chosen"]
    for row, wanted in zip(two["candidates"], one["candidates"], strict=True):
        assert row["drop"] == wanted["drop"]
        assert row["complex_nats_per_token"] == pytest.approx(wanted["complex_nats_per_token"], rel=1e-3)


def test_lowest_complex_wins_unless_its_simple_items_are_surely_worse():
    def row(nats, low):
        return {"complex_nats_per_token": nats, "simple_rise_nats": (low + 0.1, low, low + 0.2)}

    assert best_candidate([row(3.0, 0.0), row(2.0, -0.05), row(2.5, -0.3)]) == 1
    assert best_candidate([row(3.0, 0.0), row(2.0, 0.01), row(2.5, -0.3)]) == 2


def test_given_plan_has_no_others(tmp_path, capsys):
    plan = tmp_path / "given.json"
    plan.write_text(json.dumps({"depth": 6, "keep": [0, 1, 4, 5], "criterion": "given", "chooser": "given",
                                "cost": None, "unit": ""}))  # fmt: skip
    recipe = write_recipe(
        tmp_path / "r.yaml", model=write_tiny(tmp_path / "base"), out=tmp_path / "run",
        prune={"drop": None, "plan": str(plan)}, distill=SMALL | CHOICE,
    )  # fmt: skip
    assert run_stage("prune", recipe) == 0
    capsys.readouterr()
    assert run_stage("distill", recipe) == 2
    check_one_line(capsys, "distill.candidates: prune was given its plan")
