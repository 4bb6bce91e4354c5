"""Searches find planted optima, agree with brute force, and never end worse with more budget."""

import itertools
import random

import numpy as np
import pytest
import torch
from tiny import byte_tokenizer, tiny_llama

from fastpath.ablations import Ablations
from fastpath.data import item_batches
from fastpath.items.catalog import generate
from prune.search import Drop, beam, best_spans, evolution, greedy, spans

DEPTH, NUM_DROP = 12, 4
SEARCHES = {
    "greedy": greedy,
    "beam": lambda costs, free, n: beam(costs, free, n, width=3),
    "evolution": lambda costs, free, n: evolution(
        [costs, costs], free, n, generations=40, offspring=12, seed=0
    ),
    "spans": spans,
}


def additive(seed):
    single = np.random.default_rng(seed).normal(size=DEPTH)
    return lambda drops, num=1: [sum(single[i] for i in sorted(drop)) for drop in drops]


def rugged(seed):
    """Pairs matter, so that single blocks mislead."""
    pair = np.random.default_rng(seed).normal(size=(DEPTH, DEPTH))
    return lambda drops, num=1: [float(pair[np.ix_(sorted(d), sorted(d))].sum()) for d in drops]


def every(size, free=range(DEPTH)):
    return [Drop(c) for c in itertools.combinations(free, size)]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", range(3))
def test_additive_costs_give_the_optimum_of_brute_force(search, seed):
    costs = additive(seed)
    for size, found in enumerate(SEARCHES[search](costs, range(DEPTH), NUM_DROP), 1):
        assert found.cost == pytest.approx(min(costs(every(size))))
        assert found.cost == pytest.approx(costs([Drop(found.drop)])[0])
        assert len(found.drop) == size and list(found.drop) == sorted(found.drop)


@pytest.mark.parametrize("search", SEARCHES)
def test_protected_blocks_stay(search):
    costs = additive(0)
    free = [i for i in range(DEPTH) if i not in (0, 3, 5)]
    found = SEARCHES[search](costs, free, NUM_DROP)[-1]
    assert found.cost == pytest.approx(min(costs(every(NUM_DROP, free))))
    assert not set(found.drop) & {0, 3, 5}


@pytest.mark.parametrize("search", SEARCHES)
def test_dropping_all_that_is_free_is_possible(search):
    assert SEARCHES[search](additive(0), [1, 2, 4], 3)[-1].drop == (1, 2, 4)


@pytest.mark.parametrize("search", SEARCHES)
def test_order_of_the_blocks_and_of_what_is_asked_changes_nothing(search):
    free = list(range(DEPTH))
    random.Random(0).shuffle(free)
    costs = rugged(0)
    assert SEARCHES[search](costs, free, NUM_DROP) == SEARCHES[search](costs, range(DEPTH), NUM_DROP)


def test_searching_more_is_never_worse_and_pays_where_greedy_is_misled():
    gains = []
    for seed in range(6):
        costs = rugged(seed)
        alone = [f.cost for f in greedy(costs, range(DEPTH), NUM_DROP)]
        before = alone
        for generations in (0, 1, 3, 10):
            found = evolution(
                [costs], range(DEPTH), NUM_DROP, generations=generations, offspring=6, seed=seed
            )
            after = [f.cost for f in found]
            assert all(a <= b for a, b in zip(after, before, strict=True))
            before = after
        for width in (1, 2, 5):
            wide = [f.cost for f in beam(costs, range(DEPTH), NUM_DROP, width=width)]
            assert all(a <= b for a, b in zip(wide, alone, strict=True))
        gains.append(alone[-1] - after[-1])
    assert max(gains) > 0


def test_evolution_returns_the_best_it_ever_saw():
    """EvoPress does not reload it after the loop."""
    seen = {}

    def costs(drops, num):
        seen.update(zip(drops, rugged(1)(drops), strict=True))
        return [seen[d] for d in drops]

    found = evolution([rugged(2), costs], range(DEPTH), NUM_DROP, generations=5, offspring=8, seed=0)
    for size, best in enumerate(found, 1):
        assert best.cost == min(cost for drop, cost in seen.items() if len(drop) == size)


def test_multi_step_selection_asks_all_items_about_few():
    asked = {"some": 0, "all": 0}

    def counted(name):
        def costs(drops, num):
            asked[name] += len(drops)
            return rugged(0)(drops)

        return costs

    greedy(counted("all"), range(DEPTH), NUM_DROP)
    start = asked.pop("all")
    asked["all"] = 0
    evolution([counted("some"), counted("all")], range(DEPTH), NUM_DROP, generations=3, offspring=8, seed=0)
    assert asked["all"] - start <= NUM_DROP * 3 * 2 < asked["some"]


def test_no_drop_set_is_asked_for_twice():
    asked = []
    costs = rugged(0)

    def counted(drops, num):
        asked.extend(drops)
        return costs(drops)

    beam(counted, range(DEPTH), NUM_DROP, width=4)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("seed", range(4))
def test_spans_by_dynamic_programming_equal_brute_force(seed):
    """Every drop set is one set of separated runs: the sum of their costs, over all sets of the size."""
    draw = np.random.default_rng(seed)
    cost = {(i, j): draw.normal() for i in range(10) for j in range(i + 1, 11) if draw.random() < 0.8}
    cost |= {(i, i + 1): draw.normal() for i in range(10)}

    def runs(drop):
        return [
            (i, next(j for j in range(i, 11) if j not in drop)) for i in sorted(drop) if i - 1 not in drop
        ]

    for size in range(1, 9):
        sums = {d: sum(cost.get(r, np.inf) for r in runs(d)) for d in every(size, range(10))}
        chosen = best_spans(cost, size)
        assert sum(cost[r] for r in chosen) == pytest.approx(min(sums.values()))
        assert sum(j - i for i, j in chosen) == size


def test_spans_that_are_not_there():
    with pytest.raises(ValueError, match="no spans of 3 blocks"):
        best_spans({(0, 1): 1.0, (1, 2): 1.0}, 3)


@pytest.mark.parametrize("search", SEARCHES)
def test_blocks_that_do_nothing_are_found_in_a_model(search):
    """The squared rise in nats, as a KL, is 0 for them alone."""
    model, planted = tiny_llama(depth=8), (2, 3, 6)
    with torch.no_grad():
        for i in planted:
            model.model.layers[i].self_attn.o_proj.weight.zero_()
            model.model.layers[i].mlp.down_proj.weight.zero_()
    items = generate("doc_type", split="calibration", seed=0, num_items=3)
    batches = item_batches(items, byte_tokenizer(), batch_tokens=10**6)
    ablations = Ablations(model, batches, device_bytes=10**8)
    found = SEARCHES[search](
        lambda drops, num: (ablations.rises(drops) ** 2).mean(1).tolist(), range(8), len(planted)
    )
    assert found[-1].drop == planted
    assert found[-1].cost < 1e-9


def test_runners_up_are_the_next_cheapest_that_the_search_knows():
    blocks = (0.4, 0.1, 0.3, 0.2)
    best = greedy(lambda drops, _: [sum(blocks[i] for i in drop) for drop in drops], range(4), 2)
    assert [(f.drop, f.others) for f in best] == [((1,), ((3,), (2,))), ((1, 3), ((1, 2), (0, 1)))]
