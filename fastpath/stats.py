"""The statistics of base-versus-fast comparisons, on scipy.

Both models answer the same items, so everything is paired: outcome i of base and of fast belong to item i.
A gap is base - fast (positive: fast is worse), in the unit of the outcomes (0.02 = 2 points of accuracy).
How often each claim errs is measured by simulation in tests/test_stats.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import optimize, stats

from fastpath.bootstrap import Difference, Paired, checked, macro_bootstrap, paired_gaps, tail_of

Verdict = Literal["shown", "not shown", "refuted", "floor"]


@dataclass(frozen=True)
class Interval:
    """Both ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Items that only the base got right (lost), only fast got right (won), and the p value of the split."""

    lost: int
    won: int
    p: float


@dataclass(frozen=True)
class NonInferiority:
    """What is known about the claim "fast is less than `margin` worse than base"."""

    verdict: Verdict
    margin: float
    gap: Difference


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson 1927). Raises ValueError unless 0 <= successes <= n, n > 0."""
    ends = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Interval(float(ends.low), float(ends.high))


def above_chance(successes: int, chances: Sequence[float]) -> float:
    """One-sided p: how probable it is to guess `successes` or more right, item i with chance chances[i].

    Exact (Poisson-binomial; Biscarri et al. 2018). Raises ValueError if empty or not probabilities.
    """
    chance = checked(chances, "chances")
    if chance.min() < 0 or chance.max() > 1 or not 0 <= successes <= len(chance):
        raise ValueError(f"chances must lie in 0..1, and successes ({successes}) in 0..{len(chance)}")
    # As the lower tail of the errors: the upper tail would be 1 - cdf, which cannot tell 1e-20 from 0.
    return float(np.clip(stats.poisson_binom(1 - chance).cdf(len(chance) - successes), 0, 1))


def mcnemar(base_right: Sequence[float], fast_right: Sequence[float]) -> McNemar:
    """Exact two-sided test of "neither is better" on 0/1 outcomes (McNemar 1947, binomial form)."""
    gap = paired_gaps(base_right, fast_right, "mcnemar")
    if not np.isin([base_right, fast_right], (0, 1)).all():
        raise ValueError("mcnemar: outcomes must be 0 or 1 (wrong or right)")
    lost, won = int((gap == 1).sum()), int((gap == -1).sum())
    return McNemar(lost, won, float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0)


def tango(lost: int, won: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of the gap (lost - won) / n of n independent pairs of 0/1 outcomes (Tango 1998).

    Unlike the bootstrap it has a width when no item differs. Raises ValueError if these are not counts of n.
    """
    if n < 1 or min(lost, won) < 0 or lost + won > n:
        raise ValueError(f"lost {lost} and won {won} are not counts of {n} items")
    z = -float(stats.norm.ppf(tail_of(confidence)))

    def score(gap: float) -> float:
        # won_rate: maximum likelihood estimate of P(only fast right) if the true gap were `gap`.
        b = (2 * n - lost + won) * gap - lost - won
        won_rate = (math.sqrt(max(0.0, b * b + 8 * n * won * gap * (1 - gap))) - b) / (4 * n)
        return (lost - won - n * gap) / math.sqrt(max(n * (2 * won_rate + gap * (1 - gap)), 1e-12))

    def where(target: float) -> float:  # the score falls from the left end to the right end
        left, right = -1 + 1e-12, 1 - 1e-12
        if score(left) <= target or score(right) >= target:
            return -1.0 if score(left) <= target else 1.0
        return float(optimize.brentq(lambda gap: score(gap) - target, left, right))

    return Interval(where(z), where(-z))


def suite_gap(
    groups: Mapping[str, Paired], *, draws: int = 4000, seed: int = 0, confidence: float = 0.90
) -> Difference:
    """The gap that a claim may rest on, for one task or many: macro_bootstrap, but never too narrow.

    Where few items differ the bootstrap knows too little (none differs: no width at all). So each task of
    0/1 outcomes also gets Tango's interval, these are combined (MOVER; Zou and Donner 2008), and the outer
    ends of both count. The default confidence fits non_inferiority at one-sided 5 %.
    """
    gap = macro_bootstrap(groups, draws=draws, seed=seed, confidence=confidence)
    below = above = 0.0
    for name, (base, fast, _) in groups.items():
        gaps = paired_gaps(base, fast, name)
        if np.isin(gaps, (-1, 0, 1)).all():  # also where no item differs, whatever the unit
            ends = tango(int((gaps == 1).sum()), int((gaps == -1).sum()), len(gaps), confidence=confidence)
            below += (gaps.mean() - ends.low) ** 2
            above += (ends.high - gaps.mean()) ** 2
    low, high = gap.value - math.sqrt(below) / len(groups), gap.value + math.sqrt(above) / len(groups)
    return replace(gap, low=min(gap.low, low), high=max(gap.high, high))


def mover(gaps: Sequence[Difference], weights: Sequence[float]) -> Difference:
    """The weighted sum of independent gaps (a contrast, a mean) with its interval (Zou and Donner 2008).

    Estimates that move together (levels of a dial share templates) make the interval of a difference too
    wide, never too narrow. Raises ValueError unless all gaps have one confidence, and a weight each.
    """
    if not gaps or len({gap.confidence for gap in gaps}) != 1:
        raise ValueError("mover: the gaps must have one confidence")
    pairs = list(zip(gaps, weights, strict=True))
    below = sum((w * ((g.value - g.low) if w > 0 else (g.high - g.value))) ** 2 for g, w in pairs)
    above = sum((w * ((g.high - g.value) if w > 0 else (g.value - g.low))) ** 2 for g, w in pairs)
    value = math.fsum(w * g.value for g, w in pairs)
    units = min(g.num_units for g in gaps)
    return Difference(value, value - math.sqrt(below), value + math.sqrt(above), gaps[0].confidence, units)


def non_inferiority(
    gap: Difference, *, margin: float, alpha: float = 0.05, base_above_chance: bool = True
) -> NonInferiority:
    """Verdict on "essentially unchanged": is fast less than `margin` (unit of the gap) worse than base?

    shown: "the gap is `margin` or more" is rejected at one-sided `alpha`: the upper end of the 1 - 2 alpha
    interval is below the margin. refuted: its lower end is above the margin, the loss is known to be larger.
    not shown: the margin lies inside; more items may tell (items_needed). floor: the base is not above
    chance, had nothing to lose, and there is no verdict. That no difference was found is never evidence of
    no change. Raises ValueError if the confidence of the gap is not 1 - 2 alpha, or the margin not positive.
    """
    if margin <= 0:
        raise ValueError(f"margin: must be above 0, got {margin}")
    if not math.isclose(gap.confidence, 1 - 2 * alpha):
        raise ValueError(
            f"a test at {alpha} needs the {1 - 2 * alpha:.4g} interval, got {gap.confidence:.4g}"
        )
    verdict: Verdict = "shown" if gap.high < margin else "refuted" if gap.low > margin else "not shown"
    return NonInferiority(verdict if base_above_chance else "floor", margin, gap)


def items_needed(
    discordance: float, margin: float, *, true_gap: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Independent items for which "shown" has probability `power` (normal form; Liu et al. 2002).

    discordance is the share of items where the models differ, (lost + won) / n. Raises ValueError unless
    |true_gap| <= discordance <= 1, and if true_gap is not below the margin: no number of items is enough.
    """
    if not true_gap < margin:
        raise ValueError(
            f"true_gap {true_gap} is not below the margin {margin}: no number of items is enough"
        )
    if not abs(true_gap) <= discordance <= 1:
        raise ValueError(f"discordance: must lie between |true_gap| and 1, got {discordance}")
    z = stats.norm.isf(alpha) + stats.norm.ppf(power)
    return max(1, math.ceil(z**2 * (discordance - true_gap**2) / (margin - true_gap) ** 2))


def holm(ps: Sequence[float]) -> list[float]:
    """P values adjusted for testing all of them, in the given order (Holm 1979)."""
    p = np.asarray(ps, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()
