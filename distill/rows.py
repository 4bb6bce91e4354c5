"""Training rows: row i is a function of (seed, i) alone, so that a run can go on anywhere."""

# B rows of a batch, T tokens of the longest

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.pair import IGNORED
from fastpath.data import encode
from fastpath.items.item import Item


class Rows(Dataset):
    """`num_rows` encoded items, all of them once in a new order before any comes again."""

    def __init__(
        self, items: Sequence[Item], tokenizer: Any, *, num_rows: int, max_tokens: int, seed: int
    ) -> None:
        self._items, self._tokenizer = list(items), tokenizer
        self._num_rows, self._max_tokens, self._seed = num_rows, max_tokens, seed
        self._order = cache(self._shuffled)

    def __len__(self) -> int:
        return self._num_rows

    def item(self, index: int) -> Item:
        """The item of row `index`."""
        turn, place = divmod(index, len(self._items))
        return self._items[self._order(turn)[place]]

    def name(self, index: int) -> str:
        """What row `index` is, for a message."""
        return f"item {self.item(index).id} of {self.item(index).task}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids, counts = encode(self.item(index), self._tokenizer)
        return {"row": index, "ids": ids[: self._max_tokens], "counts": counts[: self._max_tokens]}

    def _shuffled(self, turn: int) -> list[int]:
        order = list(range(len(self._items)))
        random.Random(f"{self._seed}/{turn}").shuffle(order)
        return order


def collated(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """input_ids, labels and attention_mask int64 (B, T), padded on the right; rows int64 (B,)."""
    width = max(len(row["ids"]) for row in rows)

    def padded(values: list[list[int]], pad: int) -> Tensor:
        return torch.tensor([line + [pad] * (width - len(line)) for line in values])

    labels = [
        [token if counts else IGNORED for token, counts in zip(row["ids"], row["counts"], strict=True)]
        for row in rows
    ]
    return {
        "input_ids": padded([row["ids"] for row in rows], 0),  # a pad is never attended to
        "labels": padded(labels, IGNORED),
        "attention_mask": padded([[1] * len(row["ids"]) for row in rows], 0),
        "rows": torch.tensor([row["row"] for row in rows]),
    }
