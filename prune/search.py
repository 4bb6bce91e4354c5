"""Search for the drop set of lowest cost, for every number of dropped blocks from 1 on. No torch, no model.

A search sees costs alone: a function from drop sets to a number each, LOW is better. It asks for many at
once, so that whoever computes them can share work. Everything is a function of the costs and the seed: with
the costs it was told before, a killed search goes on as if nothing had happened.
"""

import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

RUNNERS_UP = 2
"""Drop sets kept beside the best of each size: a distillation may turn their order around."""
Drop = frozenset[int]
Costs = Callable[[list[Drop], int], list[float]]
"""The cost of each drop set; inf may stand for one that is not among the so many cheapest of them."""


@dataclass(frozen=True)
class Found:
    """The best drop set that a search found for one number of blocks, and the next best."""

    drop: tuple[int, ...]
    cost: float
    others: tuple[tuple[int, ...], ...] = ()
    """Up to RUNNERS_UP more, the cheapest first: those whose cost the search came to know."""


def found(ranked: Sequence[tuple[float, Collection[int]]]) -> Found:
    """The first of some (cost, drop set) pairs, cheapest first, with those after it."""
    (cost, best), *rest = ranked[: 1 + RUNNERS_UP]
    return Found(tuple(sorted(best)), cost, tuple(tuple(sorted(drop)) for _, drop in rest))


@dataclass
class Ledger:
    """Costs, asked for once each, and the best of every size. Equal costs: the earlier blocks."""

    costs: Costs
    known: dict[Drop, float] = field(default_factory=dict)

    def cheapest(self, drops: Iterable[Drop], num: int) -> list[Drop]:
        """The `num` cheapest of the drop sets, the cheapest first."""
        drops = set(drops)
        new = sorted((drop for drop in drops if drop not in self.known), key=sorted)
        if new:
            costs = zip(new, self.costs(new, num), strict=True)
            self.known |= {drop: cost for drop, cost in costs if cost < math.inf}
        return sorted(drops & self.known.keys(), key=lambda drop: (self.known[drop], sorted(drop)))[:num]

    def best(self, size: int) -> Found:
        """The cheapest drop sets of this size that were ever asked for."""
        drops = self.cheapest([d for d in self.known if len(d) == size], 1 + RUNNERS_UP)
        return found([(self.known[drop], drop) for drop in drops])


def greedy(costs: Costs, free: Sequence[int], num_drop: int) -> list[Found]:
    """Drop the cheapest block, score all others again, and so on: SLEB (arXiv 2402.09025), algorithm 1."""
    return beam(costs, free, num_drop, width=1)


def beam(costs: Costs, free: Sequence[int], num_drop: int, *, width: int) -> list[Found]:
    """Greedy that carries the `width` best drop sets of every size, and never does worse than greedy.

    A wider beam may lose the drop set that greedy goes through; so that one is carried too.
    """
    return beam_of(Ledger(costs), free, num_drop, width=width)


def beam_of(ledger: Ledger, free: Sequence[int], num_drop: int, *, width: int) -> list[Found]:
    """`beam`, on what a ledger knows already."""
    carried, path, best = [Drop()], Drop(), []
    for size in range(1, num_drop + 1):
        children = [drop | {i} for drop in [*carried, path] for i in free if i not in drop]
        carried = ledger.cheapest(children, width)
        path = carried[0] if width == 1 else _cheapest_child(ledger, path, free)
        best.append(ledger.best(size))
    return best


def _cheapest_child(ledger: Ledger, parent: Drop, free: Sequence[int]) -> Drop:
    return ledger.cheapest([parent | {i} for i in free if i not in parent], 1)[0]


def evolution(
    costs: Sequence[Costs],
    free: Sequence[int],
    num_drop: int,
    *,
    generations: int,
    offspring: int,
    seed: int,
) -> list[Found]:
    """For every size, `generations` of swaps on greedy's drop set: EvoPress (arXiv 2410.14649), algorithm 1.

    `costs` are of growing subsets of the items, the last one of all: in each generation every subset passes
    the cheaper quarter on (multi-step selection). Elitist: a parent leaves only for a child that is cheaper
    on all items, and the best one of the whole search is what is returned. More generations with the same
    seed go the same way first, so they never end worse.
    """
    ledgers = [Ledger(c) for c in costs]
    start = beam_of(ledgers[-1], free, num_drop, width=1)
    for size, greedy_one in enumerate(start, 1):
        rng, parent = random.Random(f"{seed}/{size}"), Drop(greedy_one.drop)
        for _ in range(generations):
            children = _children(parent, free, ledgers[-1].known, rng, offspring)
            for ledger in ledgers[:-1]:
                children = ledger.cheapest(children, max(1, len(children) // 4))
            (parent,) = ledgers[-1].cheapest([parent, *children], 1)
    return [ledgers[-1].best(size) for size in range(1, num_drop + 1)]


def _children(
    parent: Drop, free: Sequence[int], known: Mapping[Drop, float], rng: random.Random, num: int
) -> list[Drop]:
    """Up to `num` new drop sets, each the parent with 1 to 3 (rather few) dropped blocks swapped for kept."""
    children: dict[Drop, None] = {}
    kept = sorted(set(free) - parent)
    for _ in range(4 * num):  # near the end of a small space there may be no more
        swaps = min(rng.randint(1, 3), rng.randint(1, 3), len(parent), len(kept))
        out, into = rng.sample(sorted(parent), swaps), rng.sample(kept, swaps)
        child = (parent - set(out)) | set(into)
        if child not in known and child != parent:
            children[child] = None
        if len(children) == num:
            break
    return list(children)


def spans(costs: Costs, free: Sequence[int], num_drop: int) -> list[Found]:
    """For every size the runs of blocks that are cheapest together if their costs add up.

    Every run of up to `num_drop` free blocks is measured alone, then the chosen runs together; a single run
    that is measured to be cheaper than these wins.
    """
    ledger, allowed = Ledger(costs), set(free)
    runs = [
        (i, j)
        for i in sorted(free)
        for j in range(i + 1, i + num_drop + 1)
        if allowed.issuperset(range(i, j))
    ]
    ledger.cheapest((Drop(range(*run)) for run in runs), len(runs))
    cost = {run: ledger.known[Drop(range(*run))] for run in runs}
    ledger.cheapest((_union(best_spans(cost, size)) for size in range(1, num_drop + 1)), num_drop)
    return [ledger.best(size) for size in range(1, num_drop + 1)]


def best_spans(cost: Mapping[tuple[int, int], float], size: int) -> list[tuple[int, int]]:
    """Half-open spans of `size` blocks in all with the lowest sum of costs, a kept block between any two.

    Exact, by dynamic programming over (end, blocks dropped before it). Spans that touch would be one longer
    span, whose cost is known. ValueError if no such spans are there.
    """
    end = max((j for _, j in cost), default=0)
    # best[j][r]: (cost, spans) with r blocks dropped before j; a span may begin at j, or is followed by a gap
    best: list[dict[int, tuple[float, list[tuple[int, int]]]]] = [{0: (0.0, [])}]
    closed: list[dict[int, tuple[float, list[tuple[int, int]]]]] = [{}]  # those whose last span ends at j
    for j in range(1, end + 1):
        closed.append({})
        best.append(dict(best[j - 1]))
        for dropped, plan in closed[j - 1].items():  # block j - 1 is kept: another span may begin
            _keep_better(best[j], dropped, plan)
        for i in range(j):
            for dropped, (before, plan_before) in best[i].items() if (i, j) in cost else ():
                if dropped + j - i <= size:
                    _keep_better(closed[j], dropped + j - i, (before + cost[i, j], [*plan_before, (i, j)]))
    plans = [options[size] for options in (best[end], closed[end]) if size in options]
    if not plans:
        raise ValueError(f"no spans of {size} blocks")
    return min(plans)[1]


def _keep_better(options: dict, dropped: int, plan: tuple[float, list[tuple[int, int]]]) -> None:
    if dropped not in options or plan < options[dropped]:
        options[dropped] = plan


def _union(spans_: Iterable[tuple[int, int]]) -> Drop:
    return Drop(i for span in spans_ for i in range(*span))
