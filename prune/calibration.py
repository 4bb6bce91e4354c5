"""The calibration items of a recipe: what blocks are scored and plans searched on, and what is kept back."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fastpath.config import PruneConfig
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import Item
from prune.self_answers import with_own_answers

OTHER_SEED = 7_919
"""Added to the seed for items that are kept back: a dial may ask about the same contexts as `chain`."""
TEMPLATES_FROM = 96
"""Items of a task that its templates are listed from: several times as many as it has."""


def calibration_items(config: PruneConfig, *, seed: int) -> tuple[list[Item], list[Item]]:
    """(simple, complex) items of the calibration split: other templates, names and seeds than evaluation."""
    return _suites(config, seed=seed, kept_back=False)


def held_out_items(config: PruneConfig, *, seed: int) -> tuple[list[Item], list[Item]]:
    """(simple, complex) items of templates that no score and no search sees: a quarter of every task's."""
    return _suites(config, seed=seed, kept_back=True)


def dial_items(config: PruneConfig, *, seed: int) -> list[Item]:
    """Items for every level k of every depth dial."""
    return [
        item
        for task in config.depth_tasks
        for k in TASKS[task].ks
        for item in generate(task, split="calibration", seed=seed, num_items=config.items_per_level, k=k)
    ]


def answered(
    model: Any, tokenizer: Any, items: list[Item], config: PruneConfig, *, weights: str, folder: Path
) -> list[Item]:
    """The items, with the base's own worked answers where the recipe asks for them."""
    if not config.self_answers:
        return items
    return with_own_answers(model, tokenizer, items, weights=weights, folder=folder)


def _suites(config: PruneConfig, *, seed: int, kept_back: bool) -> tuple[list[Item], list[Item]]:
    num = config.items_per_task
    seed += OTHER_SEED if kept_back else 0
    # Templates are dealt in turn, so that so many items hold enough of either kind.
    drawn = 6 * num + 24 if kept_back else 2 * num + 24

    def of(tasks: Sequence[str]) -> list[Item]:
        chosen = []
        for task in tasks:
            made = generate(task, split="calibration", seed=seed, num_items=drawn)
            wanted = [item for item in made if (item.template in templates_kept_back(task)) == kept_back]
            assert len(wanted) >= num, task
            chosen += wanted[:num]
        return chosen

    return of(config.simple_tasks), of(config.complex_tasks)


@cache
def templates_kept_back(task: str) -> frozenset[str]:
    """Every fourth of the templates that a task has in the calibration split."""
    made = generate(task, split="calibration", seed=0, num_items=TEMPLATES_FROM)
    return frozenset(sorted({item.template for item in made})[3::4])
