"""Depth slope: how fast a cost rises with the number of dependent steps k, format and length fixed."""

# N items, F families (dials), S samples of the items, L blocks

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lines:
    """The dials' lines, one set a sample; every array (S, L)."""

    slope: Floats
    """Mean over families of the slope, per step k."""
    deepest: Floats
    """Mean over families of the line's value at the family's largest k."""


def depth_lines(
    costs_NL: Floats,
    ks: Sequence[int],
    families: Sequence[str],
    clusters: Sequence[str],
    *,
    draws: int = 4000,
    seed: int = 0,
) -> tuple[Lines, Lines]:
    """(the lines of all items (S = 1), their bootstrap distribution (S = draws)).

    In each family f the items are demeaned and a line is fitted by least squares,

        b_f = sum_i (k_i - mean_f k) (cost_i - mean_f cost) / sum_i (k_i - mean_f k)^2,

    and the common slope is b = mean_f b_f: the weighted within-family regression in which each family has
    weight 1 / sum_i (k_i - mean_f k)^2, so that one with more levels or items counts no more than another.
    Likewise deepest = mean_f [mean_f cost + b_f (max_f k - mean_f k)].

    The bootstrap resamples the clusters of each family, and widens the deviations of a family of n clusters
    by sqrt(n / (n - 1)), as fastpath.bootstrap does. In every cluster the levels are balanced: a dial asks
    for all k of one context. A family of one cluster has no spread of its own.
    """
    random = np.random.default_rng(seed)
    names = sorted(set(families))
    points: list[Lines] = []
    spreads: list[Lines] = []
    for name in names:
        inside = [i for i, family in enumerate(families) if family == name]
        costs, levels = costs_NL[inside], np.asarray(ks, float)[inside]
        point = _line(costs, levels, np.ones((1, len(inside))))
        weights, num_clusters = _resampled([clusters[i] for i in inside], draws, random)
        drawn = _line(costs, levels, weights)
        wider = np.sqrt(num_clusters / max(1, num_clusters - 1))
        points.append(point)
        spreads.append(Lines(wider * (drawn.slope - point.slope), wider * (drawn.deepest - point.deepest)))
    line, spread = _mean(points), _mean(spreads)
    return line, Lines(line.slope + spread.slope, line.deepest + spread.deepest)


def _line(costs_NL: Floats, ks_N: Floats, weights_SN: Floats) -> Lines:
    """The weighted least-squares line of one family, for every row of weights."""
    size_S1 = weights_SN.sum(1, keepdims=True)
    mean_k_S1 = (weights_SN @ ks_N)[:, None] / size_S1
    mean_SL = weights_SN @ costs_NL / size_S1
    variance_S1 = (weights_SN @ ks_N**2)[:, None] / size_S1 - mean_k_S1**2
    covariance_SL = weights_SN @ (ks_N[:, None] * costs_NL) / size_S1 - mean_k_S1 * mean_SL
    slope_SL = covariance_SL / variance_S1
    return Lines(slope_SL, mean_SL + slope_SL * (ks_N.max() - mean_k_S1))


def _resampled(clusters: Sequence[str], draws: int, random: np.random.Generator) -> tuple[Floats, int]:
    """((draws, N) times that each item is drawn, number of clusters)."""
    number = {cluster: j for j, cluster in enumerate(dict.fromkeys(clusters))}
    counts = random.multinomial(len(number), np.full(len(number), 1 / len(number)), size=draws)
    return counts[:, [number[cluster] for cluster in clusters]].astype(float), len(number)


def _mean(lines: Sequence[Any]) -> Lines:
    """Families count alike."""
    return Lines(np.mean([line.slope for line in lines], 0), np.mean([line.deepest for line in lines], 0))
