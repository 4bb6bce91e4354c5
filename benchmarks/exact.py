"""Every plan of a small model: the cheapest by brute force, and where other plans stand among them."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from benchmarks.plan_tables import Plans, name_of
from fastpath.ablations import Ablations
from fastpath.data import item_batches
from fastpath.items.item import Item
from fastpath.plan import Scores

MOST = 1000
"""Plans that are tried one and all."""


def is_small(depth: int, sizes: Sequence[int]) -> bool:
    """Whether all plans of these sizes can be tried."""
    return sum(comb(depth, size) for size in sizes) <= MOST


def every_plan(depth: int, size: int) -> list[tuple[int, ...]]:
    """Every set of `size` dropped blocks."""
    return list(combinations(range(depth), size))


def cheapest(
    model: Any, tokenizer: Any, items: Sequence[Item], sizes: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Of each size the plan of the least nats on these items; of equal ones the earlier blocks."""
    ablations = Ablations(model, item_batches(items, tokenizer, batch_tokens=4096), device_bytes=2**28)
    depth, best = model.config.num_hidden_layers, {}
    for size in sizes:
        plans = every_plan(depth, size)
        nats = ablations.gains([frozenset(plan) for plan in plans]).sum(1)
        best[size] = plans[int(np.argmin(nats))]
    return best


def depth_blocks(scores: Scores) -> list[int]:
    """Blocks whose depth slope is above zero, while their simple cost is not, and is less than the slope."""
    simple, slope = scores.simple, scores.depth_slope
    return [i for i in range(scores.depth) if simple.low[i] <= 0 < slope.low[i] > simple.high[i]]


def places(
    folds: Mapping[str, tuple[Plans, Mapping[str, Any]]], of_interest: Sequence[int], depth: int
) -> dict[str, Any]:
    """Print, for every size and method, where its plan stands among all of its size on held-out simple items.

    Means over folds of the place (1 is the best), of the nats per answer token above the best plan, and of
    how many blocks `of_interest` it drops.
    """
    first, _ = next(iter(folds.values()))
    sizes = next(iter(first.values()))["drops"]
    facts: dict[str, Any] = {"depth_blocks": list(of_interest), "drops": {}}
    print(f"\nblocks with a depth slope above 0 and a simple cost not above it: {list(of_interest)}")
    for size in sizes:
        every = [name_of(plan) for plan in every_plan(depth, int(size))]
        print(f"\nthe {len(every)} plans of {size} dropped blocks by held-out simple nats"
              f"\n{'':20}place   over the best   of these blocks")  # fmt: skip
        rows = facts["drops"][size] = {}
        means = [np.mean([simple_nats(f, p) for p in every]) - min(simple_nats(f, p) for p in every)
                 for _, f in folds.values()]  # fmt: skip
        hits = int(size) * len(of_interest) / depth
        print(f"{'a plan at random':20}{(1 + len(every)) / 2:5.1f}{np.mean(means):12.4f} nats{hits:12.1f}")
        for method in first:
            found = []
            for plans, families in folds.values():
                drop = plans[method]["drops"][size]
                nats = {plan: simple_nats(families, plan) for plan in every}
                mine = nats[name_of(drop)]
                better = sum(value < mine for value in nats.values())
                found.append((1 + better, mine - min(nats.values()), len({*drop} & {*of_interest})))
            place, regret, hits = (float(np.mean(column)) for column in zip(*found, strict=True))
            rows[method] = {"place": place, "regret_nats": regret, "depth_blocks": hits}
            print(f"{method:20}{place:5.1f}{regret:12.4f} nats{hits:12.1f} of {size}", flush=True)
    return facts


def simple_nats(families: Mapping[str, Any], plan: str) -> float:
    """Nats per answer token, the mean over simple families."""
    answers = [facts["answers"][plan] for facts in families.values() if facts["suite"] == "simple"]
    return float(np.mean([np.sum(nats) / np.sum(tokens) for _, nats, tokens in answers]))
