"""Depth dials: accuracy and nats against the number of dependent steps k, base beside every variant.

Context, vocabulary and answer format stay the same, only k changes. The headline is the depth contrast: gap
at k_high - gap at k_low, k_high being the largest k at which the base is above chance. Above zero it says
that the variant loses more where more steps depend on one another, which neither format nor length explains.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.gap import Outcomes, same_items
from fastpath.bootstrap import Difference, macro_bootstrap
from fastpath.stats import above_chance, holm, mover, suite_gap, wilson

Rows = Sequence[Mapping[str, Any]]
CONFIDENCE = 0.95


def depth_facts(dials: Mapping[str, Mapping[str, Outcomes]], *, seed: int) -> dict[str, Any]:
    """{"dials": {name: facts}, "contrast": {variant: mean over dials or None}} of {dial: {model: outcomes}}.

    Gaps and contrasts are base - variant in accuracy, variant - base in nats: positive means lost.
    """
    facts = {name: dial_facts(name, models, seed=seed) for name, models in dials.items()}
    labels = list(next(iter(dials.values()), {}))[1:]
    return {"dials": facts, "contrast": {label: _mean_contrast(facts, label) for label in labels}}


def dial_facts(name: str, models: Mapping[str, Outcomes], *, seed: int) -> dict[str, Any]:
    """One dial: {"chance", "k_low", "k_high", "levels": [a level each k], "contrast": {variant: ...}}.

    k_high is None where the base is above chance at no k beyond the lowest (Holm over the levels, 5 %): there
    is nothing to lose, and no contrast.
    """
    base, *variants = models
    for label in variants:
        same_items(name, models[base], models[label])
    levels = {
        k: {label: [row for row in outcomes["rows"] if row["k"] == k] for label, outcomes in models.items()}
        for k in sorted({row["k"] for row in models[base]["rows"]})
    }
    chance = models[base]["chance"]
    rights = [[int(row["right"]) for row in rows[base]] for rows in levels.values()]
    ps = holm([above_chance(sum(right), [chance] * len(right)) for right in rights])
    k_low, *higher = levels
    k_high = max((k for k, p in zip(levels, ps, strict=True) if p < 0.05 and k in higher), default=None)
    contrasts: dict[str, Any] = {}
    for label in variants:
        contrasts[label] = None
        if k_high is not None:
            ends = [(levels[k][base], levels[k][label]) for k in (k_high, k_low)]
            contrasts[label] = _contrast(*ends, seed=seed)
    return {
        "chance": chance,
        "k_low": k_low,
        "k_high": k_high,
        "levels": [
            {
                "k": k,
                "num_items": len(rows[base]),
                "base_above_chance_p": p,
                "models": {label: _level(of_model, seed=seed) for label, of_model in rows.items()},
            }
            for (k, rows), p in zip(levels.items(), ps, strict=True)
        ],
        "contrast": contrasts,
    }


def _contrast(high: tuple[Rows, Rows], low: tuple[Rows, Rows], *, seed: int) -> dict[str, Any]:
    gaps = {"accuracy": _accuracy_gap, "nats": _nats_gap}
    return {unit: _words(mover([gap(*high, seed=seed), gap(*low, seed=seed)], (1, -1))) for unit, gap in
            gaps.items()}  # fmt: skip


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
