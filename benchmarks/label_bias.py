"""Families of the same labels throughout: which label a model likes whatever the prompt says (its length and
rarity count too), and what it gets right without that. Printed by benchmarks/distill_gain.py."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.gain_tables import MODELS, family_changes, simple_change, without_lookups
from fastpath.items.item import Item

Scores = Mapping[str, Sequence[float]]
"""label -> its log-probability after each prompt."""


def labelled(families: Mapping[str, tuple[str, list[Item]]]) -> dict[str, list[Item]]:
    """Family -> items, of the simple families of the same choices throughout."""
    return {
        name: items
        for name, (suite, items) in families.items()
        if suite == "simple" and len({item.choices for item in items}) == 1
    }


def chosen(scores: Scores, *, shift: bool) -> list[str]:
    """The most likely label of each item; `shift`: of probabilities over their mean (batch calibration).

    The mean of a label's probability among the labels, over the prompts of the family: how much the model
    likes it whatever the prompt says. No answer is needed, but labels have to be about equally frequent. Zhou
    et al. 2023, arXiv 2309.17249. The prompts are those that are scored: no interval knows the means' error.
    """
    names, table = list(scores), np.array(list(scores.values()))
    log_shares = table - np.logaddexp.reduce(table, axis=0)
    prior = np.logaddexp.reduce(log_shares, axis=1, keepdims=True)  # but for a constant
    return [names[i] for i in (log_shares - prior * shift).argmax(0)]


def without_preference(folds: Mapping[str, Any]) -> dict[str, Any]:
    """The same folds as if every model, the base too, had answered its label families without preference."""

    def answered(models: Mapping[str, Any], model: str) -> dict[str, Any]:
        right = {
            family: np.equal(chosen(models[model][family]["labels"], shift=True), answers).astype(float)
            for family, answers in models["labels"].items()
        }
        return models[model] | {
            family: {**models[model][family], "correct": correct} for family, correct in right.items()
        }

    return {
        fold: {**models, **{model: answered(models, model) for model in MODELS if model in models}}
        for fold, models in folds.items()
    }


def by_label(scores: Scores, answers: Sequence[str]) -> dict[str, list[float | None]]:
    """label -> [share right of the items whose answer it is (None: of none), share of all that get it]."""
    said, truth = np.array(chosen(scores, shift=False)), np.array(answers)
    return {
        label: [
            float((said == label)[truth == label].mean()) if label in answers else None,
            float((said == label).mean()),
        ]
        for label in sorted(scores)
    }


def label_tables(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Print and return, for each number of dropped blocks, what the labels tell of its models."""
    return {str(drop): _told(drop, folds) for drop, folds in found.items()}


def _told(drop: int, folds: Mapping[str, Any]) -> dict[str, Any]:
    models = [name for name in MODELS if all(name in of for of in folds.values())]
    facts: dict[str, Any] = {"labels": {}, "accuracy": {}, "over_base": {}}
    print(f"\n{drop} blocks dropped, families of fixed labels, {'/'.join(models)}: right, chosen")
    for fold, of in folds.items():
        for family, answers in of["labels"].items():
            by = {name: by_label(of[name][family]["labels"], answers) for name in models}
            facts["labels"][f"{fold} {family}"] = by
            for label in by["base"]:
                right, said = (" ".join(_share(by[name][label][i]) for name in models) for i in (0, 1))
                print(f"{'':18}{f'{fold} {family}: {label}':36}{right:24}{said}")
    print(f"{'':16}without the preference among labels (batch calibration):")
    without = without_preference(folds)
    for fold, of in without.items():
        for family in of["labels"]:
            share = {name: float(np.mean(of[name][family]["correct"])) for name in models}
            facts["accuracy"][f"{fold} {family}"] = share
            print(f"{'':18}{f'{fold} {family}':36}" + " ".join(f"{value:.3f}" for value in share.values()))
    names = {family for of in folds.values() for family in of["labels"]}
    for side in models[1:]:
        facts["over_base"][side] = changes = _changes(without, side, names)
        for family, change in changes.items():
            over = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*change["points"])
            print(f"{'':18}{f'{side} over base, {family}':36}{over:24}{change['verdict']}")
    return facts


def _share(value: float | None) -> str:
    return "   -" if value is None else f"{value:.2f}"


def _changes(folds: Mapping[str, Any], side: str, families: Collection[str]) -> dict[str, dict[str, Any]]:
    changes = family_changes(folds, side)
    return {
        **{name: changes[name] for name in sorted(families)},
        "simple suite": simple_change(folds, side),
        "but look-ups": without_lookups(folds, side),
    }
