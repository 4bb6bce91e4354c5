"""Gaps and ratios with bootstrap intervals over clusters; stats.py builds the tests on them.

Items made from one template, problem or document resemble each other: that name is their cluster, and whole
clusters are resampled.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable] | None
"""One name an item; None: every item stands alone."""
Paired = tuple[Sequence[float], Sequence[float], Clusters]
"""Outcomes of the base, outcomes of the fast model, clusters."""


@dataclass(frozen=True)
class Difference:
    """base - fast with its interval (positive: fast is worse), and how many independent units it rests on."""

    value: float
    low: float
    high: float
    confidence: float
    num_units: int
    """Clusters, else items. 1: some task has a single one, its spread is unknown, and the interval is the
    whole possible range."""


def macro_bootstrap(
    groups: Mapping[str, Paired], *, draws: int = 4000, seed: int = 0, confidence: float = 0.95
) -> Difference:
    """Mean over tasks of each task's mean gap, every task resampled on its own (stratified).

    Percentile bootstrap (Efron 1979) of the ratio of cluster totals to cluster sizes, widened for few
    clusters (t in place of normal quantiles, Hesterberg 2015; degrees of freedom by Satterthwaite 1946).
    Order and cluster names do not matter. Raises ValueError, naming the task, on empty, unequal or
    non-finite outcomes, and on a single cluster of outcomes beyond 0..1, which has no interval.
    """
    if not groups:
        raise ValueError("no tasks: a mean over tasks needs at least one")
    strata = {
        name: (paired_gaps(base, fast, name), clusters) for name, (base, fast, clusters) in groups.items()
    }
    limited = all(_in_unit_range(side) for base, fast, _ in groups.values() for side in (base, fast))
    return _bootstrap(strata, (-1.0, 1.0) if limited else None, draws, seed, confidence)


def bootstrap_ratio(
    numerators: Floats, denominators: Floats, *, clusters: Clusters = None, draws: int = 4000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Ratios of column sums, and their bootstrap distribution over clusters (draws, columns).

    numerators: (items, columns); denominators: (items,), above 0. Every column is resampled with the same
    items, so differences of columns may be taken draw by draw. One cluster: every draw is the ratio itself.
    """
    names = range(len(numerators)) if clusters is None else clusters
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(names))}
    membership = np.zeros((len(number), len(numerators)))
    membership[[number[cluster] for cluster in names], range(len(numerators))] = 1
    sums, sizes = membership @ numerators, membership @ denominators
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(number), np.full(len(number), 1 / len(number)), size=draws)
    return sums.sum(0) / sizes.sum(), (counts @ sums) / (counts @ sizes)[:, None]


def interval_of(draws: Floats, *, freedom: int, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """(low, high) of each column of bootstrap draws: percentiles, widened for few clusters.

    t in place of normal quantiles (Hesterberg 2015) with `freedom` degrees of freedom: clusters beyond one a
    stratum.
    """
    tail = stats.norm.cdf(stats.t.ppf(tail_of(confidence), max(1, freedom)))
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def _bootstrap(
    strata: Mapping[str, tuple[Floats, Clusters]],
    bounds: tuple[float, float] | None,
    draws: int,
    seed: int,
    confidence: float,
) -> Difference:
    """The mean over strata of each one's mean; `bounds` is the whole possible range, where there is one."""
    tail, random = tail_of(confidence), np.random.default_rng(seed)
    values, deviations, variances, freedoms = [], [], [], []
    for name in sorted(strata):
        totals, sizes = cluster_totals(*strata[name], name)
        values.append(float(totals.sum() / sizes.sum()))
        freedoms.append(len(totals) - 1)
        if len(totals) > 1:
            spread = (_resampled_means(totals, sizes, draws, random) - values[-1]) / len(strata)
            deviations.append(spread * math.sqrt(len(totals) / (len(totals) - 1)))
            variances.append(float(deviations[-1].var()))
        elif bounds is None:
            raise ValueError(f"{name}: one cluster only, so its mean has no interval; it takes 2 or more")
    value = math.fsum(values) / len(values)
    if bounds is not None and min(freedoms) == 0:
        return Difference(value, *bounds, confidence, 1)
    pooled = sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    freedom = sum(variances) ** 2 / pooled if pooled else sum(freedoms)
    tail = stats.norm.cdf(stats.t.ppf(tail, freedom))
    low, high = np.clip(value + np.quantile(sum(deviations), (tail, 1 - tail)), *(bounds or (None, None)))
    return Difference(value, float(low), float(high), confidence, sum(freedoms) + len(freedoms))


def cluster_totals(values: Floats, clusters: Clusters, name: str) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, sorted by these, so that what is drawn depends on no name or order."""
    names = range(len(values)) if clusters is None else clusters
    if len(names) != len(values):
        raise ValueError(f"{name}: {len(names)} cluster names for {len(values)} items")
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(names))}
    index = [number[cluster] for cluster in names]
    totals, sizes = np.bincount(index, weights=values), np.bincount(index)
    order = np.lexsort((sizes, totals))
    return totals[order].astype(float), sizes[order].astype(float)


def _resampled_means(totals: Floats, sizes: Floats, draws: int, random: np.random.Generator) -> Floats:
    resampled = stats.bootstrap(
        (totals, sizes),
        lambda total, size, axis: total.sum(axis) / size.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=draws,
        batch=max(1, 4_000_000 // len(totals)),  # 32 MB an array
        method="percentile",
        rng=random,
    )
    return resampled.bootstrap_distribution


def paired_gaps(base: Sequence[float], fast: Sequence[float], name: str) -> Floats:
    """base - fast, item by item. Raises ValueError, naming `name`, unless they are as many numbers."""
    before, after = checked(base, f"{name}: base"), checked(fast, f"{name}: fast")
    if len(before) != len(after):
        raise ValueError(
            f"{name}: {len(before)} outcomes of base, {len(after)} of fast; both need the same items"
        )
    return before - after


def _in_unit_range(values: Sequence[float] | Floats) -> bool:
    return bool(np.min(values) >= 0 and np.max(values) <= 1)


def checked(values: Sequence[float], name: str) -> Floats:
    """The values as an array. Raises ValueError, naming `name`, unless they are finite numbers."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a non-empty list of finite numbers")
    return array


def tail_of(confidence: float) -> float:
    """Probability below the interval of this confidence. Raises ValueError outside 0..1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie between 0 and 1, got {confidence}")
    return (1 - confidence) / 2
