"""Depth facts from planted outcomes: the contrast is what was planted, and levels at chance show none."""

import numpy as np
import pytest

from eval.depth import depth_facts
from fastpath.errors import RunError


def outcomes(right_of_k, *, nats=lambda k: 1.0, short_cut="9", wrong="8", items=60):
    """One model on one dial: share right_of_k[k] of the items of level k is right."""
    rows = []
    for k, share in right_of_k.items():
        for n in range(items):
            right = n < share * items
            rows.append(
                {
                    "id": f"{k}-{n}", "source": f"{k}-{n}", "template": str(n % 12), "k": k, "nats": nats(k),
                    "right": float(right), "answer": "1" if right else wrong,
                    "short_cut": short_cut if k else "",
                }
            )  # fmt: skip
    return {"metric": "acc", "kind": "likelihood", "chance": 0.25, "control": [], "rows": rows}


def facts_of(base, fast):
    return depth_facts({"dial": {"base": base, "fast": fast}}, seed=0)


def test_contrast_is_the_gap_at_high_k_minus_the_gap_at_low_k():
    base = outcomes({0: 0.9, 1: 0.8, 2: 0.8, 3: 0.25}, nats=lambda k: 1.0 + k)
    fast = outcomes({0: 0.9, 1: 0.6, 2: 0.3, 3: 0.25}, nats=lambda k: 1.0 + 2 * k)
    facts = facts_of(base, fast)
    dial = facts["dials"]["dial"]
    assert (dial["k_low"], dial["k_high"]) == (0, 2), "at k = 3 the base is at chance"
    contrast = dial["contrast"]["fast"]
    assert contrast["accuracy"]["gap"] == pytest.approx(0.5)
    assert 0 < contrast["accuracy"]["gap_low"] < 0.5 < contrast["accuracy"]["gap_high"] < 1
    assert contrast["nats"]["gap"] == pytest.approx(2)
    assert facts["contrast"]["fast"]["accuracy"] == pytest.approx(contrast["accuracy"])
    assert facts["contrast"]["fast"]["dials"] == ["dial"]


def test_without_a_level_above_chance_there_is_no_contrast():
    side = outcomes({0: 0.9, 1: 0.25, 2: 0.25})
    facts = facts_of(side, side)
    assert facts["dials"]["dial"]["k_high"] is None
    assert facts["dials"]["dial"]["contrast"] == {"fast": None}
    assert facts["contrast"] == {"fast": None}


def test_a_model_beside_itself_has_a_contrast_of_zero_inside_its_interval():
    side = outcomes({0: 0.9, 2: 0.7})
    contrast = facts_of(side, side)["contrast"]["fast"]["accuracy"]
    assert contrast["gap_low"] < contrast["gap"] == 0 < contrast["gap_high"]


def test_a_gap_that_is_the_same_at_every_k_is_no_contrast():
    """A worse model is not one that loses depth."""
    facts = facts_of(outcomes({0: 0.9, 2: 0.8}), outcomes({0: 0.7, 2: 0.6}))
    assert facts["contrast"]["fast"]["accuracy"]["gap"] == pytest.approx(0)


def test_short_cut_rate_counts_items_that_have_one():
    tempted = outcomes({0: 0.5, 1: 0.75}, wrong="9")
    levels = facts_of(tempted, tempted)["dials"]["dial"]["levels"]
    assert [level["k"] for level in levels] == [0, 1]
    assert levels[0]["models"]["base"]["short_cut_rate"] is None, "no step, no short cut"
    assert levels[1]["models"]["base"]["short_cut_rate"] == pytest.approx(0.25)


def test_bands_hold_the_value_and_do_not_vanish():
    side = outcomes({0: 1.0, 1: 1.0})
    level = facts_of(side, side)["dials"]["dial"]["levels"][0]["models"]["base"]
    assert level["accuracy"] == 1.0 > level["accuracy_low"] > 0.9
    assert level["nats_low"] <= level["nats"] <= level["nats_high"]


def test_other_items_are_refused():
    with pytest.raises(RunError, match="different items"):
        facts_of(outcomes({0: 0.9, 1: 0.9}), outcomes({0: 0.9, 1: 0.9}, items=30))


def test_no_dials_no_facts():
    assert depth_facts({}, seed=0) == {"dials": {}, "contrast": {}}


def rates(random, accuracy, *, items=60):
    return [(k, n, float(random.random() < share)) for k, share in accuracy.items() for n in range(items)]


def drawn(random, accuracy):
    rows = [
        {
            "id": f"{k}-{n}",
            "template": str(n % 12),
            "k": k,
            "nats": 1.0,
            "right": right,
            "answer": "",
            "short_cut": "",
        }
        for k, n, right in rates(random, accuracy)
    ]
    return {"metric": "acc", "kind": "likelihood", "chance": 0.25, "control": [], "rows": rows}


def test_equal_models_do_not_seem_to_lose_depth():
    """Picked and measured on the same items, k is where the base was lucky: +4 points at these sizes."""
    accuracy, random = {0: 0.95, 1: 0.6, 2: 0.42, 3: 0.38, 4: 0.33}, np.random.default_rng(0)
    contrasts = []
    for _ in range(60):
        found = facts_of(drawn(random, accuracy), drawn(random, accuracy))["contrast"]["fast"]
        if found is not None:
            contrasts.append(found["accuracy"])
    gaps = np.array([c["gap"] for c in contrasts])
    assert len(gaps) > 50
    assert abs(gaps.mean()) < 3 * gaps.std() / len(gaps) ** 0.5
    assert np.mean([c["gap_low"] > 0 for c in contrasts]) < 0.1
