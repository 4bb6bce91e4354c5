"""Costs of items -> the columns of Scores: means, bootstrap intervals over templates, rank stability."""

# N items, C columns (blocks or spans), L blocks

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fastpath.bootstrap import bootstrap_ratio, interval_of
from fastpath.items.item import Item
from fastpath.plan import Column
from prune.slope import Lines, depth_lines

Floats = NDArray[np.float64]
NUM_DRAWS, NUM_HALVINGS = 4000, 20


@dataclass(frozen=True)
class Measured:
    """What a criterion measured on some items."""

    items: Sequence[Item]
    sums: Floats
    """(N, C)."""
    tokens: Floats
    """(N,): what the sums are to be divided by."""
    halvings: NDArray[np.bool_]
    """(NUM_HALVINGS, N): two halves of the items, again and again; a cluster is never split."""

    def where(self, mask_N: NDArray[np.bool_]) -> "Measured":
        """The marked items alone."""
        items = [item for item, wanted in zip(self.items, mask_N, strict=True) if wanted]
        return Measured(items, self.sums[mask_N], self.tokens[mask_N], self.halvings[:, mask_N])

    def half(self, number: int, second: bool) -> "Measured":
        """One half of the items."""
        return self.where(self.halvings[number] ^ second)

    @property
    def cost(self) -> Floats:
        """(C,) cost per token."""
        return self.sums.sum(0) / self.tokens.sum()

    @property
    def freedom(self) -> int:
        """Clusters beyond one a task: the degrees of freedom of an interval."""
        return len(set(self.clusters)) - len({item.task for item in self.items})

    @property
    def clusters(self) -> list[str]:
        """The cluster of each item: items of one template resemble each other."""
        return [cluster_of(item) for item in self.items]


def cluster_of(item: Item) -> str:
    """Name of the items that resemble this one: the same task and template."""
    return f"{item.task}/{item.template}"


def halvings_of(items: Sequence[Item], *, seed: int) -> NDArray[np.bool_]:
    """(NUM_HALVINGS, N) which half each item is in: half of the templates of every task, drawn anew."""
    random = np.random.default_rng(seed)
    of_task: dict[str, list[str]] = {}
    for item in items:
        if (cluster := cluster_of(item)) not in of_task.setdefault(item.task, []):
            of_task[item.task].append(cluster)
    rows = []
    for _ in range(NUM_HALVINGS):
        first: set[str] = set()
        for clusters in of_task.values():
            order, start = random.permutation(len(clusters)), random.integers(2)
            first |= {clusters[i] for i in order[start::2]}
        rows.append([cluster_of(item) in first for item in items])
    return np.array(rows)


def suite_columns(simple: Measured, both: Measured, *, seed: int) -> dict[str, Column]:
    """The columns simple, complex and reasoning = complex - simple (the suites are resampled apart)."""
    costs, draws = zip(_bootstrap(simple, seed), _bootstrap(both, seed + 1), strict=True)
    gap = _stability(lambda one, other: other.cost - one.cost, simple, both)
    return {
        "simple": _column(costs[0], draws[0], simple, stability=_stability(_cost, simple)),
        "complex": _column(costs[1], draws[1], both, stability=_stability(_cost, both)),
        "reasoning": _column(costs[1] - costs[0], draws[1] - draws[0], simple, both, stability=gap),
    }


def ratio_column(suite: Measured, *, seed: int) -> Column:
    """The cost per token with its bootstrap interval."""
    return _column(*_bootstrap(suite, seed), suite, stability=_stability(_cost, suite))


def depth_columns(dials: Measured, *, seed: int) -> dict[str, Column]:
    """The columns depth_slope and deepest: see prune/slope.py."""

    def lines(part: Measured, draws: int) -> tuple[Lines, Lines]:
        costs = part.sums / part.tokens[:, None]
        ks, families = [item.k for item in part.items], [item.task for item in part.items]
        return depth_lines(costs, ks, families, part.clusters, draws=draws, seed=seed)

    line, drawn = lines(dials, NUM_DRAWS)
    slopes = _stability(lambda part: lines(part, 1)[0].slope[0], dials)
    deepest = _stability(lambda part: lines(part, 1)[0].deepest[0], dials)
    return {
        "depth_slope": _column(line.slope[0], drawn.slope, dials, stability=slopes),
        "deepest": _column(line.deepest[0], drawn.deepest, dials, stability=deepest),
    }


def _cost(suite: Measured) -> Floats:
    return suite.cost


def _bootstrap(suite: Measured, seed: int) -> tuple[Floats, Floats]:
    return bootstrap_ratio(suite.sums, suite.tokens, clusters=suite.clusters, draws=NUM_DRAWS, seed=seed)


def _stability(cost_of: Callable[..., Floats], *suites: Measured) -> float | None:
    """Mean Spearman correlation of the costs of the two halves of the items, over the halvings.

    None where it is not defined: fewer than two blocks, constant costs, or an empty half.
    """
    values = []
    for number in range(NUM_HALVINGS):
        halves = [[suite.half(number, second) for suite in suites] for second in (False, True)]
        if all(part.items for parts in halves for part in parts):
            first, second = (cost_of(*parts) for parts in halves)
            if len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0:
                values.append(float(spearmanr(first, second).statistic))
    return float(np.mean(values)) if values else None


def _column(cost: Floats, draws: Floats, *suites: Measured, stability: float | None) -> Column:
    low, high = interval_of(draws, freedom=min(suite.freedom for suite in suites))
    return Column(
        items=sum(len(suite.items) for suite in suites),
        tokens=int(sum(suite.tokens.sum() for suite in suites)),
        cost=tuple(cost),
        low=tuple(low),
        high=tuple(high),
        stability=stability,
    )
