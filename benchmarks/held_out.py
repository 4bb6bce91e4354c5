"""Held-out task families for benchmarks/plans.py: our own and public suites, answered by many cuts."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.variants import VariantsLM
from fastpath.errors import UserError
from fastpath.items.catalog import generate
from fastpath.items.item import Item

OUTSIDE_SIMPLE = {
    "arc_easy": "Question: {question}\nAnswer:",
    "piqa": "Question: {question}\nAnswer:",
    "snips": "Request: {text}\nIntent:",
}
OUTSIDE_COMPLEX = ("gsm8k",)
SEED = 20_240
"""Of our own held-out items: other draws than any calibration's, and not those that reports quote."""
RESULT = re.compile(r"(?<==)\s*\$?(\d[\d,]*(?:\.\d+)?)")


@dataclass(frozen=True)
class Answers:
    """How one model answered the items of one family; every array (items,), the list as long."""

    correct: np.ndarray
    """1 or 0; of a worked item the share of its steps whose tokens are all the most likely ones."""
    nats: np.ndarray
    """Summed over the tokens of the gold answer, or of the steps."""
    tokens: np.ndarray
    logprobs: list[tuple[float, ...]]
    """Of each choice, or step; summed over its tokens."""


def own_items(task: str, num: int, *, for_choices: bool = False) -> list[Item]:
    """Items of one of our generators; others `for_choices`, on which settings may be chosen."""
    return generate(task, split="calibration", seed=SEED + for_choices, num_items=num)


def outside_items(suite: str, folder: Path, num: int, *, for_choices: bool = False) -> list[Item]:
    """The first `num` items of a public suite that have one right answer; [] where FOLDER lacks it.

    `for_choices`: the last ones, on which settings may be chosen.
    """
    file = folder / suite / "test.jsonl"
    if not file.is_file():
        return []
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    made = (worked_item(row) if suite in OUTSIDE_COMPLEX else choice_item(suite, row) for row in rows)
    items = [item for item in made if item is not None]
    if not for_choices:
        return items[:num]
    if len(items) < 2 * num:
        raise UserError(f"{file}: {len(items)} items, too few for {num} to report and {num} for choices")
    return items[-num:]


def choice_item(suite: str, row: Mapping[str, Any]) -> Item | None:
    """A multiple-choice row; None if two choices are the same text."""
    choices = tuple(choice.strip() for choice in row["choices"])
    if len(set(choices)) < len(choices) or not all(choices):
        return None
    return Item(
        task=suite, suite="simple", split="evaluation", prompt=OUTSIDE_SIMPLE[suite].format(**row),
        choices=choices, answer=choices[row["gold"]], k=1, template=row["id"],
    )  # fmt: skip


def worked_item(row: Mapping[str, Any]) -> Item | None:
    """A GSM8K problem with its solution; the steps are the computed results. None without any."""
    answer = row["cot"].strip()
    steps = tuple(match.span(1) for match in RESULT.finditer(answer))
    if not steps:
        return None
    return Item(
        task="gsm8k", suite="complex", split="evaluation",
        prompt=f"Question: {row['question'].strip()}\nAnswer:", choices=(),
        answer=answer, steps=steps, k=len(steps), template=row["id"],
    )  # fmt: skip


def answer_all(
    model: Any, tokenizer: Any, items: Sequence[Item], drops: Sequence[Collection[int]]
) -> list[Answers]:
    """The answers of the model without each of the drop sets; what they share is computed once."""
    cuts = {str(number): tuple(drop) for number, drop in enumerate(drops)}
    lm = VariantsLM(model, tokenizer, cuts=cuts, batch_size=16)
    pairs = [pair for item in items for pair in continuations(item)]
    requests = [(pair, *lm._encode_pair(*pair)) for pair in pairs]
    return [_read(items, requests, lm.of(label)._loglikelihood_tokens(requests)) for label in cuts]


def continuations(item: Item) -> list[tuple[str, str]]:
    """(context, continuation) of every choice, or of every step after the solution up to it."""
    if item.choices:
        return [(item.prompt, f" {choice}") for choice in item.choices]
    text = f"{item.prompt} {item.answer}"
    start = len(item.prompt) + 1
    return [(text[: start + a], text[start + a : start + b]) for a, b in item.steps]


def _read(items: Sequence[Item], requests: Sequence[Any], said: Sequence[tuple[float, bool]]) -> Answers:
    rows, of_choices, at = [], [], 0
    for item in items:
        size = len(item.choices) or len(item.steps)
        logprobs, greedy = zip(*said[at : at + size], strict=True)
        lengths = [len(continuation) for _, _, continuation in requests[at : at + size]]
        at += size
        of_choices.append(logprobs)
        if item.choices:
            gold = item.gold
            rows.append((float(np.argmax(logprobs) == gold), -logprobs[gold], lengths[gold]))
        else:
            rows.append((float(np.mean(greedy)), -sum(logprobs), sum(lengths)))
    correct, nats, tokens = np.array(rows, dtype=float).T
    return Answers(correct, nats, tokens, of_choices)
