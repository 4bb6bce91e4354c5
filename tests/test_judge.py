"""The verdict on a repair: items that nothing else has seen, and what does not help is not applied."""

import numpy as np
import pytest
from tiny import byte_tokenizer, tiny_llama

from fastpath.config import PruneConfig
from fastpath.data import item_batches
from fastpath.plan import repair_words
from prune.calibration import calibration_items, dial_items, held_out_items
from prune.judge import Parts, judged, mean_nats, repair_items, suite_nats
from prune.repair import Mended, changed, put

CONFIG = PruneConfig(drop=1, items_per_task=4)


def test_changes_are_compared_by_the_nats_of_the_whole_changed_model():
    """Only the blocks from the changed one on are computed again."""
    cut = tiny_llama()
    suites = repair_items(CONFIG, seed=0).choose
    batches = {
        name: item_batches(items, byte_tokenizer(), batch_tokens=500) for name, items in suites.items()
    }
    name = "model.layers.3.mlp.down_proj.weight"
    changes = [{}, {name: 2 * cut.state_dict()[name]}, {name: -cut.state_dict()[name]}]
    want = []
    for weights in changes:
        with changed(cut, weights):
            pairs = [suite_nats(cut, items, byte_tokenizer(), batch_tokens=500) for items in suites.values()]
        want.append(sum(nats.sum() / tokens.sum() for nats, tokens in pairs))
    assert mean_nats(cut, 3, changes, suites=batches) == pytest.approx(want, abs=1e-6)
    assert len({round(x, 3) for x in want}) == 3


def test_parts_share_no_template():
    parts = repair_items(PruneConfig(drop=1), seed=0)
    assert isinstance(parts, Parts)
    templates = [
        {(item.task, item.template) for items in part.values() for item in items}
        for part in (parts.fit, parts.choose, parts.judge)
    ]
    assert all(templates)
    assert len(set.union(*templates)) == sum(map(len, templates))
    assert {item.split for part in (parts.fit, parts.judge) for i in part.values() for item in i} == {
        "calibration"
    }


@pytest.mark.parametrize("items_per_task", [2, 32])  # dials overlapped at 2, held-out items at 32
def test_parts_share_no_item_with_what_a_score_a_search_or_the_frontier_sees(items_per_task):
    config = PruneConfig(drop=1, items_per_task=items_per_task)
    seen = *calibration_items(config, seed=0), dial_items(config, seed=0), *held_out_items(config, seed=0)
    parts = repair_items(config, seed=0)
    assert not {item.id for items in seen for item in items} & set(parts.ids)
    for part in (parts.fit, parts.choose, parts.judge):
        assert all(part[suite] for suite in ("simple", "complex"))


def verdict(model, weights, suites=None):
    judge = suites or repair_items(CONFIG, seed=0).judge
    return judged(
        "linear", Mended(weights, ("x",)), model, judge, byte_tokenizer(), seed=0, batch_tokens=1024
    )


def test_rise_is_that_of_the_mended_model_and_its_undoing_is_the_opposite():
    cut = tiny_llama()
    name = "model.layers.5.mlp.down_proj.weight"
    own, other = cut.state_dict()[name], 10 * cut.state_dict()[name]
    there = verdict(cut, {name: other})
    assert there.simple_rise[0] == pytest.approx(there.simple_after_nats - there.simple_before_nats)
    put(cut, {name: other})
    back = verdict(cut, {name: own})
    assert back.simple_before_nats == pytest.approx(there.simple_after_nats)
    assert back.simple_rise[0] == pytest.approx(-there.simple_rise[0])
    assert back.complex_rise[0] == pytest.approx(-there.complex_rise[0])
    same = verdict(cut, {})
    assert not same.applied and same.simple_rise == (0, 0, 0)


@pytest.mark.parametrize(
    ("simple", "complex", "applied"),
    [(-0.1, 0.0, True), (-0.1, -0.1, True), (0.1, -0.1, False), (0.0, 0.0, False), (-0.1, 0.1, False)],
)
def test_useless_repair_is_not_applied_and_says_so_with_both_numbers(monkeypatch, simple, complex, applied):
    """Planted: every item of a suite changes by the same, so the interval is a point."""
    suites = repair_items(CONFIG, seed=0).judge
    calls = iter([1.0, 1.0 + simple, 2.0, 2.0 + complex])

    def planted(model, items, tokenizer, *, batch_tokens):
        return np.full(len(items), 3 * next(calls)), np.full(len(items), 3.0)

    monkeypatch.setattr("prune.judge.suite_nats", planted)
    found = verdict(tiny_llama(), {}, suites)
    assert found.applied is applied
    assert found.simple_rise == pytest.approx((simple,) * 3)
    assert found.complex_rise == pytest.approx((complex,) * 3)
    words = repair_words(found)
    assert ("NOT applied" in words) is not applied
    assert f"simple 1.000 -> {1 + simple:.3f}" in words and f"complex 2.000 -> {2 + complex:.3f}" in words


def test_complex_items_may_not_tell_on_the_rise(monkeypatch):
    """A rise on complex items whose interval holds 0 does not count against a repair."""
    suites = repair_items(CONFIG, seed=0).judge
    change = iter(
        [np.zeros, lambda n: np.full(n, -1.0), np.zeros, lambda n: 0.1 + 3.0 * (-1) ** np.arange(n)]
    )

    def planted(model, items, tokenizer, *, batch_tokens):
        return next(change)(len(items)), np.ones(len(items))

    monkeypatch.setattr("prune.judge.suite_nats", planted)
    found = verdict(tiny_llama(), {}, suites)
    assert found.complex_rise[1] < 0 < found.complex_rise[2]
    assert found.applied
