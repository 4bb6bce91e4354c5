"""Items -> token batches with answer masks."""

# B sequences of a batch, T tokens of the longest

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastpath.errors import UserError
from fastpath.items.item import Item


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences; `answer` marks the tokens that count, `attention` the real ones."""

    index: tuple[int, ...]
    """Position of each sequence in the list of items it came from."""
    ids: torch.Tensor
    """int64 (B, T)."""
    attention: torch.Tensor
    """bool (B, T)."""
    answer: torch.Tensor
    """bool (B, T), False at position 0: nothing predicts the first token."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(self.index, self.ids.to(device), self.attention.to(device), self.answer.to(device))

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model's forward."""
        return {"input_ids": self.ids, "attention_mask": self.attention.long()}


def encode(item: Item, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """Token ids of prompt and answer, and which of them count.

    A worked item counts the results of its steps alone, any other item the whole answer. A token that
    straddles the border counts.
    """
    text = f"{item.prompt} {item.answer}"
    start = len(item.prompt) + 1
    spans = [(start + a, start + b) for a, b in item.steps] or [(len(item.prompt), len(text))]
    ids, counts = encode_spans(text, spans, tokenizer)
    if not any(counts):
        raise UserError(f"item {item.id} of {item.task}: its answer {item.answer!r:.40} has no token")
    return ids, counts


def encode_spans(
    text: str, spans: Sequence[tuple[int, int]], tokenizer: Any, *, special: bool = True
) -> tuple[list[int], list[bool]]:
    """Token ids of a text, and which of them overlap one of the half-open character spans.

    The first token never counts: nothing predicts it. `special` adds the tokenizer's own begin and end.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{type(tokenizer).__name__}: a fast tokenizer is needed (character offsets)")
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
    counts = [
        number > 0 and any(a < token_end and token_start < b for a, b in spans)
        for number, (token_start, token_end) in enumerate(encoded["offset_mapping"])
    ]
    return encoded["input_ids"], counts


def item_batches(items: Sequence[Item], tokenizer: Any, *, batch_tokens: int) -> list[Batch]:
    """Batches of at most `batch_tokens` tokens (pads included; at least one item), like lengths together."""
    encoded = [encode(item, tokenizer) for item in items]
    order = sorted(range(len(items)), key=lambda i: (-len(encoded[i][0]), i))
    groups: list[list[int]] = []
    for i in order:
        # Longest first, so the first of a group sets its width.
        if groups and (len(groups[-1]) + 1) * len(encoded[groups[-1][0]][0]) <= batch_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0  # never attended to
    return [_padded([encoded[i] for i in group], tuple(group), pad) for group in groups]


def _padded(sequences: list[tuple[list[int], list[bool]]], index: tuple[int, ...], pad: int) -> Batch:
    width = max(len(ids) for ids, _ in sequences)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in sequences])
    attention = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row, _ in sequences])
    answer = torch.tensor([counts + [False] * (width - len(counts)) for _, counts in sequences])
    return Batch(index, ids, attention, answer)
