"""Rows and gaps: what lm-eval logs is read as it reads it; what is not known is not counted."""

import numpy as np
import pytest

from eval.gap import at_floor, claim_facts, task_facts
from eval.run import joined_rows
from fastpath.stats import items_needed


def sample(target, responses, **facts):
    arguments = {f"gen_args_{n}": {"arg_0": "q", "arg_1": f" {n}"} for n in range(len(responses))}
    logged = {"doc": {"q": 1}, "doc_hash": "h", "doc_id": 0, "acc": 1.0, "filter": "none"}
    return logged | {"target": target, "arguments": arguments, "filtered_resps": responses} | facts


class Task:
    OUTPUT_TYPE = "multiple_choice"

    def doc_to_choice(self, doc):
        return ["7", "8", "9"]


@pytest.mark.parametrize(
    ("target", "nats"), [("8", 2.0), (1, 2.0), ("7", 1.0), (["7", "8"], None), (5, None)]
)
def test_gold_is_read_as_lm_eval_reads_it(target, nats):
    from eval.outcomes import outcomes

    (row,) = outcomes(Task(), [sample(target, [(-1.0, True), (-2.0, False), (-3.0, False)])])["rows"]
    assert row.get("nats") == nats
    assert row["answer"] == "7"


def test_item_of_a_task_with_two_filters_counts_once():
    from eval.outcomes import outcomes

    twice = [sample(0, [(-1.0, True)] * 3, filter=name) for name in ("strict", "flexible")]
    facts = outcomes(Task(), twice)
    assert len(facts["rows"]) == 1
    assert facts["filter"] == "strict"
    assert facts["chance"] == pytest.approx(1 / 3)


def test_interval_has_a_width_where_nothing_differs():

    rows = [{"id": str(n), "source": str(n), "right": 1.0, "template": str(n)} for n in range(50)]
    side = {"metric": "acc", "kind": "likelihood", "chance": 0.25, "control": [], "rows": rows}
    facts = task_facts("t", side, side, seed=0)
    assert facts["gap"] == 0 > facts["gap_low"]
    assert facts["gap_high"] > 0.03


def test_rows_of_different_items_are_never_paired():
    from fastpath.errors import RunError

    def side(ids):
        rows = [{"id": i, "source": i, "right": 1.0, "template": "t"} for i in ids]
        return {"metric": "acc", "kind": "likelihood", "chance": 0.5, "rows": rows, "control": []}

    with pytest.raises(RunError, match="answered different items"):
        task_facts("t", side("ab"), side("ba"), seed=0)
    assert next(joined_rows({"base": {"simple": {"t": side("a")}}}))["task"] == "t"


def test_a_task_counts_by_either_model_so_that_luck_of_the_base_is_no_gap():
    """Equal models at 28 % where chance is 25 %: judged by the base alone, it would seem to lose 3 points."""

    random, gaps = np.random.default_rng(0), []
    for _ in range(2000):
        base, fast = (random.random((2, 100)) < 0.28).astype(float)
        if not at_floor(base, fast, chance=0.25):
            gaps.append(base.mean() - fast.mean())
    assert len(gaps) > 100
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / len(gaps) ** 0.5
    fell = [1.0] * 69 + [0.0] * 231, [1.0] * 12 + [0.0] * 288
    assert not at_floor(*fell, chance=0.12), "who falls to the floor has lost something"
    assert at_floor([1.0] * 2 + [0.0] * 298, [0.0] * 300, chance=0.0), "2 of 300 is nothing to lose"


def test_what_was_kept_is_told_only_where_the_base_is_above_chance():
    """A share of next to nothing would be a thousand percent."""

    def side(right):
        rows = [
            {"id": str(n), "source": str(n), "template": str(n), "right": float(n < right)}
            for n in range(100)
        ]
        return {"metric": "acc", "kind": "likelihood", "chance": 0.25, "control": [], "rows": rows}

    facts = task_facts("t", side(26), side(60), seed=0)
    assert not facts["floor"] and "retention_above_chance" not in facts
    assert task_facts("t", side(75), side(50), seed=0)["retention_above_chance"] == pytest.approx(0.5)


def test_items_needed_are_those_of_independent_items_with_this_interval():

    random = np.random.default_rng(0)
    right = random.random(2000) < 0.7
    other = np.where(random.random(2000) < 0.2, random.random(2000) < 0.7, right)

    def side(values):
        rows = [{"id": str(n), "template": str(n), "right": float(v)} for n, v in enumerate(values)]
        return {"t": {"rows": rows}}

    claim = claim_facts(side(right), side(other), margin=0.02, floors=[], seed=0)
    assert claim["items_needed"] == pytest.approx(items_needed(claim["discordance"], 0.02), rel=0.15)
