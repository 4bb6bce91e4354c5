"""Plans and scores are valid or refused; a plan survives JSON and a text editor."""

import json

import pytest
from pydantic import ValidationError

from fastpath.errors import RunError
from fastpath.plan import Column, Plan, Scores, read_plan, spans_of

FACTS = {"criterion": "cosine", "chooser": "lowest", "cost": 0.1, "unit": "1 - cosine"}
COLUMNS = ("simple", "complex", "reasoning", "depth_slope", "deepest")


def plan(keep, depth=6):
    return Plan(depth=depth, keep=keep, **FACTS)


@pytest.mark.parametrize("keep", [(), (0, 0), (2, 1), (-1, 0), (0, 6)])
def test_impossible_keep_is_refused(keep):
    with pytest.raises(ValidationError):
        plan(keep)


def test_keep_and_drop_partition_the_blocks():
    made = plan((0, 2, 5))
    assert made.drop == (1, 3, 4)
    assert sorted(made.keep + made.drop) == list(range(6))


def test_plan_survives_json(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan((0, 2, 5)).model_dump_json())
    assert read_plan(path) == plan((0, 2, 5))


def test_plan_spoilt_by_hand_is_named(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan((0, 2)).model_dump() | {"keep": [2, 0]}))
    with pytest.raises(RunError, match=r"plan\.json: not a plan: .*keep must rise"):
        read_plan(path)


def test_scores_have_one_cost_a_block():
    column = Column(items=1, tokens=1, cost=(0.0,), low=(0.0,), high=(0.0,))
    with pytest.raises(ValidationError, match="one cost for each of 2 blocks"):
        Scores(criterion="cosine", unit="u", depth=2, **dict.fromkeys(COLUMNS, column))


@pytest.mark.parametrize(("drop", "spans"), [((), []), ((3,), [(3, 4)]), ((3, 4, 5, 9), [(3, 6), (9, 10)])])
def test_spans_are_half_open(drop, spans):
    assert spans_of(drop) == spans
