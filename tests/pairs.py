"""Paired outcomes that tests of the statistics share."""

import numpy as np

from fastpath.bootstrap import Difference, macro_bootstrap


def outcomes(lost: int, won: int, same: int) -> tuple[list[int], list[int]]:
    """0/1 outcomes of base and fast with so many items lost, won and right in both."""
    return [1] * lost + [0] * won + [1] * same, [0] * lost + [1] * won + [1] * same


def clustered(random, *, num_clusters: int, size: int, gap: float, discordance: float, spread: float):
    """Outcomes whose mean gap is `gap`; every cluster has its own gap, up to `spread` away."""
    own = np.repeat(gap + random.uniform(-spread, spread, num_clusters), size)
    draw = random.random(num_clusters * size)
    lost, won = draw < (discordance + own) / 2, draw > 1 - (discordance - own) / 2
    base = np.where(lost | won, lost, random.random(len(draw)) < 0.6)
    return base.astype(int), (base & ~lost | won).astype(int), np.repeat(np.arange(num_clusters), size)


def bootstrap_of(base, fast, *, clusters=None, **how) -> Difference:
    """Gap of one task."""
    return macro_bootstrap({"items": (base, fast, clusters)}, **how)


def mean_of(values, **how) -> Difference:
    """Mean of values of any unit, as the gap to nothing."""
    return bootstrap_of(values, [0.0] * len(values), **how)
