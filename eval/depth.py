"""Depth dials: accuracy and nats against the number of dependent steps k, base beside every variant.

Context, vocabulary and answer format stay the same, only k changes. The headline is the depth contrast: gap
at k_high - gap at k_low, the largest and smallest k at which the base is above chance. Above zero it says
that the variant loses more where more steps depend on one another, which neither format nor length explains.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from eval.gap import Outcomes, same_items
from fastpath.bootstrap import Difference, macro_bootstrap
from fastpath.stats import above_chance, holm, mover, suite_gap, wilson

Rows = Sequence[Mapping[str, Any]]
CONFIDENCE = 0.95
FOLDS = 8


def depth_facts(dials: Mapping[str, Mapping[str, Outcomes]], *, seed: int) -> dict[str, Any]:
    """{"dials": {name: facts}, "contrast": {variant: mean over dials or None}} of {dial: {model: outcomes}}.

    Gaps and contrasts are base - variant in accuracy, variant - base in nats: positive means lost.
    """
    facts = {name: dial_facts(name, models, seed=seed) for name, models in dials.items()}
    labels = list(next(iter(dials.values()), {}))[1:]
    return {"dials": facts, "contrast": {label: _mean_contrast(facts, label) for label in labels}}


def dial_facts(name: str, models: Mapping[str, Outcomes], *, seed: int) -> dict[str, Any]:
    """One dial: {"chance", "k_low", "k_high", "levels": [a level each k], "contrast": {variant: ...}}.

    k_low and k_high are the smallest and the largest k at which the base is above chance (Holm over the
    levels, 5 %); k_high is None where these are not two: there is nothing to lose, and no contrast. It is
    cross-fitted: the gaps of each eighth of the templates are measured at the k that the others pick.
    Picked and measured on the same items, k would be where the base was lucky, and equal models would differ.
    """
    base, *variants = models
    for label in variants:
        same_items(name, models[base], models[label])
    chance = models[base]["chance"]
    rows = {label: outcomes["rows"] for label, outcomes in models.items()}
    ks = sorted({row["k"] for row in rows[base]})
    picked = pick_levels(rows[base], ks, chance=chance)
    folds = _folds(rows[base], seed=seed)
    return {
        "chance": chance,
        "k_low": picked[0] if picked else ks[0],
        "k_high": picked[1] if picked else None,
        "levels": [
            {
                "k": k,
                "num_items": len(_at(rows[base], k)),
                "models": {label: _level(_at(of, k), seed=seed) for label, of in rows.items()},
            }
            for k in ks
        ],
        "contrast": {
            label: _cross_fitted(rows[base], rows[label], folds, ks, chance=chance, seed=seed)
            for label in variants
        },
    }


def pick_levels(base: Rows, ks: Sequence[int], *, chance: float) -> tuple[int, int] | None:
    """The smallest and the largest k at which the base is above chance; None where these are not two."""
    rights = [[int(row["right"]) for row in _at(base, k)] for k in ks]
    ps = holm([above_chance(sum(right), [chance] * len(right)) if right else 1.0 for right in rights])
    above = [k for k, p in zip(ks, ps, strict=True) if p < 0.05]
    return (above[0], above[-1]) if len(above) > 1 else None


def _cross_fitted(
    base: Rows, fast: Rows, folds: Sequence[set[str]], ks: Sequence[int], *, chance: float, seed: int
) -> dict[str, Any] | None:
    """Contrasts of the folds at the levels that the other folds pick; folds of one pick count together."""
    measured: dict[tuple[int, int], set[str]] = {}
    for fold in folds:
        others = [row for row in base if row["template"] not in fold]
        if picked := pick_levels(others, ks, chance=chance):
            measured[picked] = measured.get(picked, set()) | fold
    contrasts, shares = [], []
    for picked, templates in measured.items():
        inside = [[row for row in rows if row["template"] in templates] for rows in (base, fast)]
        low, high = ([_at(rows, k) for rows in inside] for k in picked)
        if low[0] and high[0]:
            contrasts.append(_contrast(high, low, seed=seed))
            shares.append(len(inside[0]))
    if not contrasts:
        return None
    weights = [share / sum(shares) for share in shares]
    return {unit: _words(mover([c[unit] for c in contrasts], weights)) for unit in ("accuracy", "nats")}


def _contrast(high: Sequence[Rows], low: Sequence[Rows], *, seed: int) -> dict[str, Difference]:
    gaps = {"accuracy": _accuracy_gap, "nats": _nats_gap}
    return {unit: mover([gap(*high, seed=seed), gap(*low, seed=seed)], (1, -1)) for unit, gap in gaps.items()}


def _folds(rows: Rows, *, seed: int) -> list[set[str]]:
    """The templates of a dial, dealt at random into parts."""
    names = sorted({row["template"] for row in rows})
    random.Random(seed).shuffle(names)
    return [set(names[start::FOLDS]) for start in range(min(FOLDS, len(names)))]


def _at(rows: Rows, k: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["k"] == k]


def _level(rows: Rows, *, seed: int) -> dict[str, Any]:
    """Accuracy with its Wilson band, nats of the right answer with a bootstrap band, the short-cut rate."""
    right = int(sum(row["right"] for row in rows))
    band = wilson(right, len(rows), confidence=CONFIDENCE)
    nothing = [{**row, "nats": 0.0} for row in rows]
    nats = _nats_gap(nothing, rows, seed=seed)
    tempting = [row for row in rows if row["short_cut"] not in (None, "")]  # at k = 0 there is none
    taken = sum(row["answer"] == row["short_cut"] for row in tempting)
    return {
        "accuracy": right / len(rows),
        "accuracy_low": band.low,
        "accuracy_high": band.high,
        "nats": nats.value,
        "nats_low": nats.low,
        "nats_high": nats.high,
        "short_cut_rate": taken / len(tempting) if tempting else None,
    }


def _accuracy_gap(base: Rows, fast: Rows, *, seed: int) -> Difference:
    before, after = ([row["right"] for row in rows] for rows in (base, fast))
    return suite_gap({"level": (before, after, _templates(base))}, seed=seed, confidence=CONFIDENCE)


def _nats_gap(base: Rows, fast: Rows, *, seed: int) -> Difference:
    more, fewer = ([row["nats"] for row in rows] for rows in (fast, base))  # more nats: worse
    return macro_bootstrap({"level": (more, fewer, _templates(base))}, seed=seed, confidence=CONFIDENCE)


def _templates(rows: Rows) -> list[str] | None:
    """Clusters of a bootstrap; items that are all of one template stand alone, or there were no interval."""
    names = [str(row["template"]) for row in rows]
    return names if len(set(names)) > 1 else None


def _mean_contrast(facts: Mapping[str, Any], label: str) -> dict[str, Any] | None:
    """The mean over the dials that have a contrast."""
    shown = {name: dial["contrast"][label] for name, dial in facts.items() if dial["contrast"][label]}
    if not shown:
        return None
    means = {}
    for unit in ("accuracy", "nats"):
        gaps = [Difference(c[unit]["gap"], c[unit]["gap_low"], c[unit]["gap_high"], CONFIDENCE, 1) for c in
                shown.values()]  # fmt: skip
        means[unit] = _words(mover(gaps, [1 / len(gaps)] * len(gaps)))
    return {**means, "dials": list(shown)}


def _words(gap: Difference) -> dict[str, float]:
    return {"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high}
