"""Our items as rows of lm-eval tasks: what `custom_dataset` of the YAML files beside this one calls."""

from itertools import pairwise
from typing import Any

from datasets import Dataset

from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import Item

NUM_SHOTS = 12


def load(
    *, task: str, items_seed: int = 0, num_items: int = 100, k: int | None = None, **_: Any
) -> dict[str, Dataset]:
    """{"test", "fewshot"} rows of multiple-choice items; `_` is lm-eval's own metadata."""
    items = generate(task, split="evaluation", seed=items_seed, num_items=num_items, k=k)
    return _splits(items, task, items_seed)


def load_dial(*, task: str, items_seed: int = 0, items_per_level: int = 20, **_: Any) -> dict[str, Dataset]:
    """{"test", "fewshot"} rows of a depth dial: evaluation items of every k, k after k."""
    levels = [
        generate(task, split="evaluation", seed=items_seed, num_items=items_per_level, k=k)
        for k in TASKS[task].ks
    ]
    return _splits([item for items in levels for item in items], task, items_seed)


def _splits(items: list[Item], task: str, seed: int) -> dict[str, Dataset]:
    # Shots have other templates and names than any scored item: the distillation split is never scored.
    shots = generate(task, split="distillation", seed=seed, num_items=NUM_SHOTS)
    rows = {"test": items, "fewshot": shots}
    return {split: Dataset.from_list([choice_row(item) for item in made]) for split, made in rows.items()}


def choice_row(item: Item) -> dict[str, Any]:
    """One multiple-choice item; `short_cut` is "" where it has none."""
    row = {"prompt": item.prompt, "choices": list(item.choices), "gold": item.gold, "answer": item.answer}
    return {**_facts(item), **row, "short_cut": item.short_cut}


def load_written(
    *, task: str, items_seed: int = 0, num_items: int = 100, chance: float | None = None, **_: Any
) -> dict[str, Dataset]:
    """{"test": rows} of the items of a complex task, whose (last) result the model is to write.

    `chance` is what a guesser gets right who reads the prompt; without it, that of the best constant answer.
    """
    items = generate(task, split="evaluation", seed=items_seed, num_items=num_items)
    told = {} if chance is None else {"chance": chance}
    return {"test": Dataset.from_list([written_row(item) | told for item in items])}


def written_row(item: Item) -> dict[str, Any]:
    """One item whose answer is a number; of a worked solution it is the last result."""
    start, end = item.steps[-1] if item.steps else (0, len(item.answer))
    return {**_facts(item), "prompt": item.prompt, "answer": item.answer[start:end]}


def load_worked(*, items_seed: int = 0, num_items: int = 100, **_: Any) -> dict[str, Dataset]:
    """{"test": rows} of worked problems, a row a segment: computed results, and the prose between."""
    items = generate("worked", split="evaluation", seed=items_seed, num_items=num_items)
    return {"test": Dataset.from_list([row for item in items for row in segment_rows(item)])}


def segment_rows(item: Item) -> list[dict[str, Any]]:
    """The solution of a worked item cut at its steps; a row's context is everything before its segment."""
    rows = []
    marks = sorted({0, len(item.answer), *(border for span in item.steps for border in span)})
    for number, (start, end) in enumerate(pairwise(marks)):
        is_step = (start, end) in item.steps
        context, segment = f"{item.prompt} {item.answer[:start]}", item.answer[start:end]
        if not segment.strip():
            continue
        facts = _facts(item) | {"id": f"{item.id}-{number}", "is_step": is_step}
        rows.append({**facts, "prompt": context, "answer": segment})
    return rows


def _facts(item: Item) -> dict[str, Any]:
    return {"id": item.id, "template": item.template, "source": item.source, "k": item.k}


def score_segment(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Teacher-forced: a step is right if all its tokens are the most likely ones; prose is the control."""
    nats, greedy = -results[0][0], results[0][1]
    if doc["is_step"]:
        return {"acc": float(greedy), "step_nats": nats}
    return {"prose_nats_per_byte": nats / len(doc["answer"].encode())}
