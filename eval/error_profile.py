"""Where base and variant part: who is right on what, which answers are wrong, real items. Reads only."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from eval.tables import Table, short

NUM_DISAGREEMENTS = 10
PROMPT_LETTERS = 300
NO_ANSWER = (None, "", "(something else)")
"""What stands for an answer that was not read off."""

Rows = Sequence[Mapping[str, Any]]


def profile_table(items: Rows, label: str) -> Table:
    """Every task: items by who is right, and how many wrong answers are the same or the short cut."""
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for row in items:
        tasks.setdefault(row["task"], []).append(row)
    rows = [(short(name), *_counts(mine, label)) for name, mine in tasks.items()]
    rows.append(("all", *_counts(items, label)))
    return Table(
        title=f"Error profile: base beside {label}",
        headings=(
            "task",
            "items",
            "both right",
            "only base",
            f"only {label}",
            "both wrong",
            "same wrong answer",
            "short cut, base",
            f"short cut, {label}",
        ),
        rows=tuple(rows),
        totals=frozenset({len(rows) - 1}),
        remarks=(
            "same wrong answer: of the items that both answer wrongly, how many they answer alike; short "
            "cut: of a model's wrong answers to items that tempt to leave out a step, how many do",
        ),
    )


def _counts(rows: Rows, label: str) -> tuple[str, ...]:
    sides = [(_right(row, "base"), _right(row, label)) for row in rows]
    both_wrong = [row for row, side in zip(rows, sides, strict=True) if side == (False, False)]
    read = [row for row in both_wrong if _answer(row, "base") and _answer(row, label)]
    same = sum(_answer(row, "base") == _answer(row, label) for row in read)
    counts = [sides.count(side) for side in ((True, True), (True, False), (False, True), (False, False))]
    return (
        str(len(rows)),
        *map(str, counts),
        _of(same, len(read)),
        *(_short_cuts(rows, m) for m in ("base", label)),
    )


def _short_cuts(rows: Rows, model: str) -> str:
    wrong = [row for row in rows if row["short_cut"] and _answer(row, model) and not _right(row, model)]
    return _of(sum(_answer(row, model) == row["short_cut"] for row in wrong), len(wrong))


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else ""


def _right(row: Mapping[str, Any], model: str) -> bool:
    return row[model]["right"] == 1


def _answer(row: Mapping[str, Any], model: str) -> str | None:
    answer = row[model].get("answer")
    return None if answer in NO_ANSWER else answer


def disagreement_table(items: Rows, label: str) -> Table:
    """Real items on which one of the two is right, from every task in turn."""
    rows = []
    for item in items:
        if item["base"]["right"] != item[label]["right"]:
            prompt = item["prompt"]
            prompt = prompt if len(prompt) < PROMPT_LETTERS else f"... {prompt[-PROMPT_LETTERS:]}"
            answers = (item[model].get("answer") or "" for model in ("base", label))
            who = "base" if item["base"]["right"] > item[label]["right"] else label
            rows.append((short(item["task"]), prompt, *answers, who))
    shown = min(NUM_DISAGREEMENTS, len(rows))
    return Table(
        title=f"{shown} of {len(rows)} items on which only base or only {label} is right",
        headings=("task", "prompt", "base answers", f"{label} answers", "right"),
        rows=tuple(_spread(rows)[:NUM_DISAGREEMENTS]),
    )


def _spread(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """In turn from every task, and there from those that the base and those that the variant got right."""
    groups: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for row in rows:
        groups.setdefault((row[-1], row[0]), []).append(row)
    turns = zip_longest(*groups.values())
    return [row for turn in turns for row in turn if row is not None]
