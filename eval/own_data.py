"""The user's own requests: JSON lines -> lm-eval tasks. "Which of *my* requests can go fast?"

A line is {"prompt": ..., "choices": [...], "answer": ..., "suite": "simple" or "complex"}; without choices
the model writes its answer, which must match (case, punctuation and outer spaces aside). `template` names
what lines share.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from fastpath.errors import ConfigError
from fastpath.items.item import digest
from fastpath.jsonl import read_jsonl

KEYS = {"prompt", "choices", "answer", "suite", "template"}
MAX_ANSWER_TOKENS = 64


def own_tasks(paths: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """{suite: lm-eval task configs} of the files: one task for each file, suite and kind of answer.

    Raises ConfigError naming file, line and fault.
    """
    tasks: dict[str, list[dict[str, Any]]] = {"simple": [], "complex": []}
    taken: set[str] = set()
    for path in map(Path, paths):
        groups: dict[tuple[str, bool], list[dict[str, Any]]] = {}
        for where, row in read_jsonl(path, key="eval.data"):
            _check(row, where)
            groups.setdefault((row["suite"], "choices" in row), []).append(row)
        for (suite, has_choices), rows in groups.items():
            name = f"{path.stem}_{suite}_{'choice' if has_choices else 'written'}"
            if name in taken:
                raise ConfigError(f"eval.data: {path}: another file is called {path.stem}; rename one")
            taken.add(name)
            tasks[suite].append(_task(name, rows, has_choices=has_choices))
    return tasks


def _check(row: Mapping[str, Any], where: str) -> None:
    if unknown := sorted(row.keys() - KEYS):
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}")
    for key in ("prompt", "answer", "suite"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise ConfigError(f"{where}: {key!r} must be text that is not empty")
    if row["suite"] not in ("simple", "complex"):
        raise ConfigError(f"{where}: suite must be 'simple' or 'complex', got {row['suite']!r}")
    choices = row.get("choices")
    if choices is not None:
        if (
            not isinstance(choices, list)
            or len(choices) < 2
            or not all(isinstance(c, str) and c for c in choices)
        ):
            raise ConfigError(f"{where}: choices must be two texts or more")
        if choices.count(row["answer"]) != 1 or len(set(choices)) != len(choices):
            raise ConfigError(f"{where}: the answer must be one of the choices, which must differ")


def _task(name: str, rows: Sequence[Mapping[str, Any]], *, has_choices: bool) -> dict[str, Any]:
    docs = [_doc(row, has_choices=has_choices) for row in rows]
    config: dict[str, Any] = {
        "task": name,
        "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)},
        "test_split": "test",
        "doc_to_text": "prompt",
        "num_fewshot": 0,
        "metadata": {"version": 1.0, "own_data": True},
    }
    if has_choices:
        kind = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold"}
        return config | kind | {"metric_list": [{"metric": "acc"}]}
    return config | {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": MAX_ANSWER_TOKENS, "do_sample": False},
        "filter_list": [
            {"name": "stripped", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
        ],
        "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
    }


def _doc(row: Mapping[str, Any], *, has_choices: bool) -> dict[str, Any]:
    prompt = row["prompt"].rstrip()
    choices = row.get("choices", [])
    item = digest(prompt, *choices, row["answer"], length=16)
    doc = {
        "id": item,
        "source": item,
        "template": row.get("template", item),
        "prompt": prompt,
        "answer": row["answer"],
    }
    return doc | {"choices": choices, "gold": choices.index(row["answer"])} if has_choices else doc
