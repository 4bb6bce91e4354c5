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
GROUPS, KEPT_BACK = 4, 3
"""Groups of templates, and the one that neither scores nor searches see."""
TEMPLATES_FROM = 96
"""Items of a task that its templates are listed from: several times as many as it has."""


def calibration_items(config: PruneConfig, *, seed: int) -> tuple[list[Item], list[Item]]:
    """(simple, complex) items of the calibration split: other templates, names and seeds than evaluation."""
    return _suites(config, seed=seed, kept_back=False)


def held_out_items(config: PruneConfig, *, seed: int) -> tuple[list[Item], list[Item]]:
    """(simple, complex) items of templates that no score and no search sees: a quarter of every task's.

    What a template is put together from (a layout, a phrasing) may stand in others.
    """
    return _suites(config, seed=seed, kept_back=True)


def dial_items(config: PruneConfig, *, seed: int) -> list[Item]:
    """Items for every level k of every depth dial."""
    return [
        item
        for task in config.depth_tasks
        for k in TASKS[task].ks
        for item in _drawn(task, config.items_per_level, seed=seed, kept_back=False, k=k)
    ]


def answered(
    model: Any, tokenizer: Any, items: list[Item], config: PruneConfig, *, weights: str, folder: Path
) -> list[Item]:
    """The items, with the base's own worked answers where the recipe asks for them."""
    if not config.self_answers:
        return items
    return with_own_answers(model, tokenizer, items, weights=weights, folder=folder)


def _suites(config: PruneConfig, *, seed: int, kept_back: bool) -> tuple[list[Item], list[Item]]:
    seed += OTHER_SEED if kept_back else 0

    def of(tasks: Sequence[str]) -> list[Item]:
        made = [_drawn(task, config.items_per_task, seed=seed, kept_back=kept_back) for task in tasks]
        return [item for items in made for item in items]

    return of(config.simple_tasks), of(config.complex_tasks)


def _drawn(task: str, num: int, *, seed: int, kept_back: bool, k: int | None = None) -> list[Item]:
    """The first `num` items whose templates are kept back, or are not."""
    # Templates are dealt in turn, so that so many items hold enough of either kind.
    size = 6 * num + 24 if kept_back else 2 * num + 24
    made = generate(task, split="calibration", seed=seed, num_items=size, k=k)
    groups = template_groups(task)
    wanted = [item for item in made if (groups[item.template] == KEPT_BACK) == kept_back]
    assert len(wanted) >= num, task
    return wanted[:num]


@cache
def template_groups(task: str) -> dict[str, int]:
    """The group, 0 to 3, of every template of a task in the calibration split.

    A template is named by its parts (layout/phrasing): the group is the sum of their ranks mod 4, a Latin
    square, so that every group holds every layout and every phrasing.
    """
    made = generate(task, split="calibration", seed=0, num_items=TEMPLATES_FROM)
    names = {item.template for item in made}
    axes = [sorted(set(axis)) for axis in zip(*(name.split("/") for name in names), strict=True)]
    return {
        name: sum(axis.index(part) for axis, part in zip(axes, name.split("/"), strict=True)) % GROUPS
        for name in names
    }
