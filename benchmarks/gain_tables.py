"""What benchmarks/distill_gain.py found: before and after, with intervals, a table for each size."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastpath.bootstrap import interval_of
from fastpath.stats import non_inferiority, suite_gap

MODELS = ("base", "cut", "distilled", "fine_tuned")
MARGIN = 0.02
LOOKUPS = ("one_hop", "field_lookup")
"""Families that read a value off their prompt, as other families that are trained on do."""
DRAWS = 4000
Families = Mapping[str, Mapping[str, Any]]


def joined(folds: Mapping[str, Any], model: str, suite: str) -> dict[str, np.ndarray]:
    """ "fold family" -> (3, items) of correct, nats, tokens. The folds' models differ: nothing is pooled."""
    return {
        f"{fold} {family}": np.array([facts[key] for key in ("correct", "nats", "tokens")])
        for fold, models in folds.items()
        for family, facts in models[model].items()
        if facts["suite"] == suite
    }


def templates(folds: Mapping[str, Any]) -> dict[str, list[str]]:
    """family -> the template of each of its items: items of one template are right or wrong together."""
    return {family: names for models in folds.values() for family, names in models["templates"].items()}


def recovered(folds: Mapping[str, Any], side: str) -> list[float]:
    """[share of the nats that the cut lost which `side` has back, 95 % low, high].

    (cut - side) / (cut - base), each the mean over complex families of nats per answer token; templates are
    resampled within their family, the same ones for all three models.
    """
    random = np.random.default_rng(0)
    tables = {name: joined(folds, name, "complex") for name in ("base", "cut", side)}
    numbers = {family: np.unique(of, return_inverse=True)[1] for family, of in templates(folds).items()}
    sizes = {family: int(numbers[family].max()) + 1 for _, family in map(str.split, tables["base"])}
    picks = {family: random.integers(num, size=(DRAWS, num)) for family, num in sizes.items()}
    drawn, values = ({name: dict.fromkeys(picks, 0.0) for name in tables} for _ in range(2))
    for name, table in tables.items():
        for key, (_, *of_items) in table.items():
            family = key.split()[1]
            nats, tokens = (np.bincount(numbers[family], weights=of) for of in of_items)
            chosen = picks[family]  # what both folds are asked is one draw
            value = nats.sum() / tokens.sum()
            of_draws = nats[chosen].sum(1) / tokens[chosen].sum(1)
            values[name][family] += value
            # a bootstrap of n templates spreads by (n - 1) / n of their variance
            widen = math.sqrt(sizes[family] / (sizes[family] - 1))
            drawn[name][family] = drawn[name][family] + value + widen * (of_draws - value)

    def share(of: Any, families: Iterable[str]) -> Any:
        lost, back = (sum(of["cut"][f] - of[other][f] for f in families) for other in ("base", side))
        return back / lost

    value = share(values, picks)
    spread = [np.var(share({n: values[n] | {f: drawn[n][f]} for n in tables}, picks)) for f in picks]
    few = sum(v**2 / (sizes[f] - 1) for f, v in zip(picks, spread, strict=True))
    freedom = (
        sum(spread) ** 2 / few if few else 1
    )  # Satterthwaite: most of the spread may be of few templates
    (low,), (high,) = interval_of(share(drawn, picks)[:, None], freedom=int(freedom))
    return [round(float(v), 4) for v in (value, low, high)]


def simple_change(folds: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Points of accuracy over the base (negative: worse), 90 % interval by template, verdict at 2 points.

    An item that both folds are asked counts once, with the mean of both models' outcomes.
    """
    return _change(_paired(folds, side))


def without_lookups(folds: Mapping[str, Any], side: str) -> dict[str, Any]:
    """simple_change of the families but LOOKUPS."""
    return _change({name: pair for name, pair in _paired(folds, side).items() if name not in LOOKUPS})


def family_changes(folds: Mapping[str, Any], side: str) -> dict[str, dict[str, Any]]:
    """family -> the same of this family by itself: gains in one do not make up for another."""
    return {family: _change({family: pair}) for family, pair in _paired(folds, side).items()}


def _paired(folds: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Simple family -> (outcomes of the base, of the side, templates)."""
    base, mine = (joined(folds, name, "simple") for name in ("base", side))
    families = sorted({key.split()[1] for key in base})

    def outcomes(table: Mapping[str, np.ndarray], family: str) -> Any:
        return np.mean([of[0] for key, of in table.items() if key.split()[1] == family], axis=0)

    of = templates(folds)
    return {family: (outcomes(base, family), outcomes(mine, family), of[family]) for family in families}


def _change(groups: Any) -> dict[str, Any]:
    gap = suite_gap(groups)
    verdict = non_inferiority(gap, margin=MARGIN).verdict
    points = [round(-100 * v, 2) for v in (gap.value, gap.high, gap.low)]
    sizes = [(len(outcomes), len(set(names))) for outcomes, _, names in groups.values()]
    items, clusters = (sum(of) for of in zip(*sizes, strict=True))
    return {"points": points, "verdict": verdict, "items": items, "templates": clusters}


def summary(folds: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Accuracy of both suites, and nats per token of the complex one: means over families."""
    simple, hard = (joined(folds, model, suite) for suite in ("simple", "complex"))
    asked: dict[str, list[float]] = {}
    for key, table in simple.items():
        asked.setdefault(key.split()[1], []).append(table[0].mean())
    by_family = {family: np.mean(of) for family, of in asked.items()}  # as in simple_change
    facts: dict[str, Any] = {
        "simple_accuracy": float(np.mean(list(by_family.values()))),
        "step_accuracy": float(np.mean([t[0].mean() for t in hard.values()])),
        "complex_nats_per_token": float(np.mean([t[1].sum() / t[2].sum() for t in hard.values()])),
        "families": {name: round(float(t[0].mean()), 4) for name, t in (simple | hard).items()},
    }
    if model != "base":
        facts["simple_over_base"] = simple_change(folds, model)
        facts["families_over_base"] = family_changes(folds, model)
        facts["simple_over_base_without_lookups"] = without_lookups(folds, model)
    if model in ("distilled", "fine_tuned"):
        facts["complex_nats_recovered"] = recovered(folds, model)
        facts["trained"] = {fold: models["trained"][model] for fold, models in folds.items()}
    return facts


def report(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Print a table for each number of dropped blocks, of the sides there are; the first size's in front."""
    facts: dict[str, Any] = {"drops": {}}
    for drop, folds in found.items():
        models = [model for model in MODELS if all(model in of for of in folds.values())]
        rows = facts["drops"][str(drop)] = {model: summary(folds, model) for model in models}
        print(f"\n{drop} blocks dropped   simple   over base, 90 %: points      at 2 points   steps right"
              "   complex nats   recovered, 95 %")  # fmt: skip
        for model, row in rows.items():
            change = row.get("simple_over_base")
            over = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*change["points"]) if change else ""
            back = row.get("complex_nats_recovered")
            share = "{:.2f} [{:.2f}, {:.2f}]".format(*back) if back else ""
            print(
                f"{model:16}{row['simple_accuracy']:8.3f}   {over:26}{change['verdict'] if change else '':14}"
                f"{row['step_accuracy']:11.3f}{row['complex_nats_per_token']:15.3f}   {share}"
            )
        if {"distilled", "fine_tuned"} <= rows.keys():
            pairs = {fold: {**of, "base": of["fine_tuned"]} for fold, of in folds.items()}
            over = rows["distilled"]["simple_over_fine_tuned"] = simple_change(pairs, "distilled")["points"]
            print(
                "{:16}distilled over fine_tuned, simple: {:+.1f} [{:+.1f}, {:+.1f}] points, 90 %".format(
                    "", *over
                )
            )
        print(f"{'':16}simple items {rows['cut']['simple_over_base']['items']} of "
              f"{rows['cut']['simple_over_base']['templates']} templates; by family, "
              + "/".join(models) + ":")  # fmt: skip
        for family in rows["base"]["families"]:
            print(f"{'':18}{family:20}" + " ".join(f"{rows[m]['families'][family]:.3f}" for m in models))
        for side in [model for model in models if model in ("distilled", "fine_tuned")]:
            print(f"{'':16}{side}, each simple family by itself, points over base (90 %):")
            for family, change in rows[side]["families_over_base"].items():
                over = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*change["points"])
                print(f"{'':18}{family:20}{over:24}{change['verdict']}")
            rest = rows[side]["simple_over_base_without_lookups"]
            over = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*rest["points"])
            print(f"{'':18}{'but look-ups':20}{over:24}{rest['verdict']}")
    first = next(iter(facts["drops"].values()))
    told = {}
    if "distilled" in first:
        told["complex_nats_recovered"] = first["distilled"]["complex_nats_recovered"][0]
        told["simple_accuracy_change_points"] = first["distilled"]["simple_over_base"]["points"][0]
    if "fine_tuned" in first:
        told["sft_complex_nats_recovered"] = first["fine_tuned"]["complex_nats_recovered"][0]
    return {**told, **facts}
