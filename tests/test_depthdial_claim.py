"""The project's claim, on weights that anyone can retrain: simple stays, and the loss grows with depth."""

import json
from pathlib import Path

import pytest
from tiny import run_stage

from benchmarks.exact import depth_blocks
from fastpath.plan import read_plan, read_scores

RECIPE = Path(__file__).parents[1] / "configs/depthdial.yaml"
DIALS = {"fastpath_dial_tiny_links", "fastpath_dial_tiny_sums"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depthdial") / "run"
    small = [
        "eval.items_per_task=150",
        "eval.items_per_level=30",
        "eval.speed.prompt_tokens=8",
        "eval.speed.new_tokens=2",
    ]
    assert run_stage("prune", RECIPE, f"out={folder}") == 0
    assert run_stage("eval", RECIPE, f"out={folder}", *small) == 0
    return folder


def test_depth_has_blocks_of_its_own_and_the_default_drops_these(run):
    scores, plan = read_scores(run / "prune/scores.json"), read_plan(run / "prune/plan.json")
    deep = depth_blocks(scores)
    assert len(deep) >= len(plan.drop) == 3
    assert max(deep) == scores.depth - 1 and 0 not in deep
    assert set(plan.drop) <= set(deep)


def test_simple_tasks_are_not_inferior_at_two_points(run):
    claim = json.loads((run / "eval/results.json").read_text())["variants"]["fast"]["claim"]
    assert claim["margin"] == 0.02 and claim["verdict"] == "shown"


def test_accuracy_falls_with_the_number_of_steps(run):
    depth = json.loads((run / "eval/results.json").read_text())["depth"]
    assert depth["dials"].keys() == DIALS
    for dial in depth["dials"].values():
        right = [[level["models"][m]["accuracy"] for level in dial["levels"]] for m in ("base", "fast")]
        base, fast = right
        assert min(base) >= 0.9
        assert min(fast[:3]) >= 0.9 and max(fast[-2:]) <= 0.7
        assert dial["contrast"]["fast"]["accuracy"]["gap_low"] > 0.2
