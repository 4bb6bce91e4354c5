"""Outcomes of base and variants on the same items -> the gap: facts as plain data, no model."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastpath.bootstrap import Difference, Paired
from fastpath.errors import RunError
from fastpath.stats import above_chance, holm, items_needed, mcnemar, non_inferiority, suite_gap

LEAST = 0.02  # accuracy below which there is nothing to lose, whatever chance is
Z_90 = 1.645  # half a 90 % interval in standard errors
KINDS = ("likelihood", "generation")
Outcomes = Mapping[str, Any]
"""One model on one task, as harness.evaluate_task gives it."""


def suite_facts(base: Mapping[str, Outcomes], fast: Mapping[str, Outcomes], *, seed: int) -> dict[str, Any]:
    """Gap of one suite: every task, and means over the tasks on which a model is above chance.

    One mean a kind: choosing among answers (likelihood) and writing them (generation) are reported apart, for
    the first hides damage that the second shows. A task on which neither is cannot show a gap: it is
    marked and left out.
    """
    tasks = {name: task_facts(name, base[name], fast[name], seed=seed) for name in base}
    tested = [name for name, task in tasks.items() if "mcnemar_p" in task and not task["floor"]]
    for name, p in zip(tested, holm([tasks[name]["mcnemar_p"] for name in tested]), strict=True):
        tasks[name]["holm_p"] = p
    counted = {name: _paired(name, base[name], fast[name]) for name in base if not tasks[name]["floor"]}
    means = {}
    for kind in KINDS:
        if chosen := {name: pair for name, pair in counted.items() if tasks[name]["kind"] == kind}:
            means[kind] = _mean_facts(chosen, seed=seed)
    return {"tasks": tasks, "means": means}


def _mean_facts(counted: Mapping[str, Paired], *, seed: int) -> dict[str, Any]:
    outcomes = list(counted.values())
    return {
        "num_tasks": len(counted),
        "num_items": sum(len(b) for b, _, _ in outcomes),
        "base_accuracy": _macro([b for b, _, _ in outcomes]),
        "fast_accuracy": _macro([f for _, f, _ in outcomes]),
        **_gap(suite_gap(counted, seed=seed, confidence=0.95)),
    }


def task_facts(name: str, base: Outcomes, fast: Outcomes, *, seed: int) -> dict[str, Any]:
    """Gap of one task: accuracies, difference with its 95 % interval and exact McNemar, by template.

    Items that share a source (steps of one problem) are not independent: no McNemar test for these."""
    b, f, clusters = _paired(name, base, fast)
    facts: dict[str, Any] = {
        "metric": base["metric"],
        "kind": base["kind"],
        "num_items": len(b),
        "num_sources": len({row["source"] for row in base["rows"]}),
        "num_templates": len(set(clusters or ())),
        "chance": base["chance"],
        "base_accuracy": sum(b) / len(b),
        "fast_accuracy": sum(f) / len(f),
        **_gap(suite_gap({name: (b, f, clusters)}, seed=seed, confidence=0.95)),
    }
    if set(b) | set(f) <= {0.0, 1.0}:
        test = mcnemar(b, f, clusters)
        facts |= {"lost": test.lost, "won": test.won}
        if facts["num_sources"] == len(b):
            facts["mcnemar_p"] = test.p
        facts["floor"] = at_floor(b, f, chance=base["chance"])
        base_at_floor = at_floor(b, chance=base["chance"])
    else:
        facts["floor"] = base_at_floor = False
    if not base_at_floor and facts["base_accuracy"] > base["chance"]:
        above = facts["base_accuracy"] - base["chance"]
        facts["retention_above_chance"] = (facts["fast_accuracy"] - base["chance"]) / above
    for side, outcomes in (("base", base), ("fast", fast)):
        nats = [row["nats"] for row in outcomes["rows"] if row.get("nats") is not None]
        if nats:
            facts[f"{side}_nats_per_answer"] = sum(nats) / len(nats)
        if outcomes.get("control"):
            facts[f"{side}_prose_nats_per_byte"] = sum(outcomes["control"]) / len(outcomes["control"])
    return facts


def at_floor(*models: Sequence[float], chance: float) -> bool:
    """Whether no model's 0/1 outcomes are above chance, and above 2 %: there is nothing to lose.

    Of a gap both are asked. Judged on the base alone, a task would count where the base was lucky, and equal
    models would seem to differ (regression to the mean). Exact, one-sided, 2.5 % for each model.
    """
    limit = max(chance, LEAST)
    return all(above_chance(int(sum(side)), [limit] * len(side)) >= 0.025 for side in models)


def claim_facts(
    base: Mapping[str, Outcomes],
    fast: Mapping[str, Outcomes],
    *,
    margin: float,
    floors: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The claim "essentially unchanged": a non-inferiority test on the mean over tasks, one-sided 5 %.

    Verdict: shown (the loss is less than the margin), refuted (it is known to be larger), not shown (the
    margin lies inside the interval; items_needed says how many would tell if nothing were lost), or floor.
    """
    counted = {name: _paired(name, base[name], fast[name]) for name in base if name not in floors}
    if not counted:
        return {"margin": margin, "verdict": "floor"}
    gap: Difference = suite_gap(counted, seed=seed, confidence=0.90)
    test = non_inferiority(gap, margin=margin)
    pairs = [(x, y) for b, f, _ in counted.values() for x, y in zip(b, f, strict=True)]
    # Of as many independent items, from this interval: it knows of templates and of tasks of unequal spread.
    variance = len(pairs) * ((gap.high - gap.low) / (2 * Z_90)) ** 2
    return {
        "margin": margin,
        "verdict": test.verdict,
        "num_tasks": len(counted),
        "num_tasks_at_chance": len(floors),
        "confidence": gap.confidence,
        "gap": gap.value,
        "gap_low": gap.low,
        "gap_high": gap.high,
        "num_items": len(pairs),
        "num_clusters": gap.num_units,
        "discordance": sum(x != y for x, y in pairs) / len(pairs),
        "items_needed": items_needed(min(1.0, variance), margin),
    }


def _gap(difference: Difference) -> dict[str, float]:
    return {"gap": difference.value, "gap_low": difference.low, "gap_high": difference.high}


def same_items(name: str, base: Outcomes, fast: Outcomes) -> None:
    """Raise RunError if base and variant did not answer the same items."""
    base_ids, fast_ids = ([row["id"] for row in side["rows"]] for side in (base, fast))
    if base_ids != fast_ids:
        raise RunError(
            f"{name}: base and variant answered different items; delete the eval folder and run again"
        )


def _paired(name: str, base: Outcomes, fast: Outcomes) -> Paired:
    """Outcomes of both models, item by item."""
    same_items(name, base, fast)
    return (
        [row["right"] for row in base["rows"]],
        [row["right"] for row in fast["rows"]],
        [row["template"] for row in base["rows"]],
    )


def _macro(columns: Sequence[Sequence[float]]) -> float:
    return sum(sum(c) / len(c) for c in columns) / len(columns)
