"""Nothing that is learnt from was calibrated on or is evaluated on: by construction, and checked by hash."""

from collections.abc import Iterable, Mapping, Sequence

from distill.own_data import Row
from fastpath.config import EvalConfig
from fastpath.errors import ConfigError
from fastpath.items.catalog import DIALS, TASKS, generate
from fastpath.items.item import Item, digest
from fastpath.jsonl import read_jsonl
from fastpath.models import Lineage

OTHER_SEED = 104_729
"""Added to the seed: evaluation takes its few-shot examples from the first items of the same split."""


def training_items(tasks: Sequence[str], *, items_per_task: int, seed: int) -> list[Item]:
    """Items of the split "distillation": other templates, names and numbers than are scored or evaluated."""
    return [
        item
        for task in tasks
        for item in generate(task, split="distillation", seed=seed + OTHER_SEED, num_items=items_per_task)
    ]


def taken(lineage: Lineage | None, evaluation: EvalConfig, *, seed: int) -> dict[str, str]:
    """{item id or hash of a text: where it is used}: what training must not contain.

    The items that the student's plan and repair were made on, all items of ours that this recipe's
    evaluation may ask, and the prompts of its own data. Tasks of the hub are not known here.
    """
    places = dict.fromkeys(lineage.calibration_items if lineage else (), "the calibration of the student")
    for task in TASKS:
        for item in _evaluated(task, evaluation, seed=seed):
            places[item.id] = places[text_hash(item.prompt)] = f"the evaluation items of {task}"
    for path in evaluation.data:
        for where, row in read_jsonl(path, key="eval.data"):
            places[text_hash(str(row.get("prompt")))] = where
    return places


def check_items(items: Iterable[Item], places: Mapping[str, str]) -> None:
    """Raise ConfigError naming the first item that is of another split or stands in `places`.

    An item that carries another answer than it was made with is known by its source.
    """
    for item in items:
        name = f"distill: item {item.id} of {item.task}"
        if item.split != "distillation":
            raise ConfigError(f"{name} is of the split {item.split!r}; training reads 'distillation' alone")
        for key in (item.id, item.source, text_hash(item.prompt)):
            if key in places:
                raise ConfigError(f"{name} stands in {places[key]} too; choose another seed")


def check_rows(rows: Iterable[Row], places: Mapping[str, str]) -> None:
    """Raise ConfigError naming the first row one of whose texts stands in `places`, case and spaces aside.

    A text that holds an evaluated prompt among others is not found.
    """
    for row in rows:
        for text in row.texts:
            if (key := text_hash(text)) in places:
                raise ConfigError(f"{row.where}: stands in {places[key]} too; remove it from one of them")


def text_hash(text: str) -> str:
    """Digest of a text, case and spaces aside."""
    return digest(" ".join(text.casefold().split()), length=32)


def _evaluated(task: str, evaluation: EvalConfig, *, seed: int) -> list[Item]:
    made = generate(task, split="evaluation", seed=seed, num_items=evaluation.items_per_task)
    if task in DIALS:
        num = evaluation.items_per_level
        for k in TASKS[task].ks:
            made += generate(task, split="evaluation", seed=seed, num_items=num, k=k)
    return made
