"""The training rows of a recipe: its items and own data, mixed, packed, and named for a message."""

# B rows, T tokens of the longest

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from distill.disjoint import check_items, check_rows, taken, training_items
from distill.examples import Example, item_examples, row_examples
from distill.mixture import Mixture
from distill.own_data import Row, read_rows
from distill.own_texts import NAME, QUESTIONS, own_texts
from distill.packing import Rows, packed_batch, padded_batch
from distill.practice import NAME as PRACTICE
from distill.practice import practice_rows
from distill.self_data import Sampler, own_answers
from distill.store import Store
from fastpath.config import EvalConfig, Recipe
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError
from fastpath.items.item import Item, digest
from fastpath.models import Lineage

ITEMS = "items"
"""Name of our own items among the sources."""
ANSWERS_AT_ONCE = 16
TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Data:
    """What a recipe learns from, as text."""

    items: list[Item]
    rows: dict[str, list[Row]]

    @property
    def sha256(self) -> str:
        """Digest of all of it."""
        texts = [json.dumps(row.data, sort_keys=True) for rows in self.rows.values() for row in rows]
        return digest(*(item.id for item in self.items), *texts, length=64)


def read_data(config: DistillConfig, *, seed: int) -> Data:
    """The items and rows of a recipe. Raises UserError naming a task, file or dataset."""
    items = (
        training_items(config.tasks, items_per_task=config.items_per_task, seed=seed) if config.tasks else []
    )
    rows = {
        data.source: read_rows(data.source, split=data.split, subset=data.subset, revision=data.revision)
        for data in config.data
    }
    if config.practice:
        rows[PRACTICE] = practice_rows(config.practice, config.practice_kinds, seed=seed)
    return Data(items, rows)


def check_disjoint(data: Data, lineage: Lineage, recipe: Recipe) -> None:
    """Raise ConfigError naming what the student was calibrated on or this recipe evaluates on."""
    places = taken(lineage, recipe.eval or EvalConfig(), seed=recipe.seed)
    check_items(data.items, places)
    for rows in data.rows.values():
        check_rows(rows, places)


def with_own_writing(
    data: Data,
    config: DistillConfig,
    load: Callable[[], Any],
    tokenizer: Any,
    *,
    weights: str,
    seed: int,
    folder: Path,
) -> Data:
    """The same data with what the recipe lets the original write: texts, and right answers to worked items.

    What was written before is read: texts from the cache folder, answers from FOLDER/self_data. `load` gives
    the original, if anything is missing.
    """
    items, rows = data.items, data.rows
    how: dict[str, Any] = {"weights": weights, "seed": seed}
    if config.own_answers:
        items = own_answers(
            load, tokenizer, items, samples=config.own_answers, sampler=Sampler(), folder=folder,
            batch_size=ANSWERS_AT_ONCE, **how,
        )  # fmt: skip
    half, quarter = config.max_tokens // 2, config.max_tokens // 4  # of a row, for each turn
    for name, num, most in ((NAME, config.own_texts, half), (QUESTIONS, config.own_questions, quarter)):
        if num:
            how["sampler"] = Sampler(max_new_tokens=most)
            made = own_texts(load, tokenizer, name=name, num=num, at_once=TEXTS_AT_ONCE, **how)
            rows = {**rows, name: made}
    return Data(items, rows)


def with_prompts(data: Data) -> Data:
    """What of it has a prompt that can be answered. Raises ConfigError if nothing has."""
    rows = {
        name: [row for row in rows if row.form not in ("text", "own")] for name, rows in data.rows.items()
    }
    made = Data(data.items, {name: some for name, some in rows.items() if some})
    if not (made.items or made.rows):
        raise ConfigError("distill.on_policy: no data has prompts to answer; name tasks, or steps: 0")
    return made


def whole(example: Example) -> Example:
    """The same tokens, all of which are learnt."""
    return Example(example.ids, (False,) + (True,) * (len(example.ids) - 1), example.kind)


class Numbered(Dataset):
    """Training rows that carry their number; `batch` puts some into tensors.

    With a store, what it keeps of the teacher's predictions too.
    """

    def __init__(
        self,
        data: Data,
        config: DistillConfig,
        tokenizer: Any,
        *,
        seed: int,
        packed: bool,
        store: Store | None = None,
    ) -> None:
        self._store, most = store, config.max_tokens
        sources: dict[str, list[Example]] = {}
        if data.items:
            sources[ITEMS] = item_examples(data.items, tokenizer, max_tokens=most)
        for name, rows in data.rows.items():
            sources[name] = row_examples(rows, tokenizer, max_tokens=most, name=name)
        if config.learn == "all":
            sources = {name: [whole(example) for example in made] for name, made in sources.items()}
        weights = {source.source: source.weight for source in config.data if source.source in data.rows}
        weights |= {NAME: config.own_texts_weight} if NAME in data.rows else {}
        weights |= {QUESTIONS: config.own_questions_weight} if QUESTIONS in data.rows else {}
        weights |= {PRACTICE: config.practice_weight} if PRACTICE in data.rows else {}
        weights |= {ITEMS: config.items_weight} if data.items else {}
        self.mixture = Mixture(sources, weights, seed=seed)
        num_rows = config.steps * config.batch_rows
        self._rows = Rows(self.mixture, max_tokens=most, num_rows=num_rows, packed=packed)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._batch = partial(packed_batch if packed else padded_batch, pad=pad)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[int, tuple[Example, ...]]:
        return index, self._rows[index]

    def name(self, index: int) -> str:
        """What row `index` holds, for a message."""
        return "+".join(f"{example.kind} {example.key[:8]}" for example in self._rows[index])

    def batch(self, numbered: list[tuple[int, tuple[Example, ...]]]) -> dict[str, Any]:
        """The model's inputs and labels, int64 (B, T), and the numbers of the rows, int64 (B,)."""
        numbers, rows = zip(*numbered, strict=True)
        made: dict[str, Any] = {**self._batch(rows), "rows": torch.tensor(numbers)}
        if self._store is not None:
            made["kept"] = self._store.batch([example for row in rows for example in row])
        return made
