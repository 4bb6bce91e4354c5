"""Examples -> rows of at most `max_tokens` -> batches: several documents a row, none of which sees another.

Packed rows carry position ids that begin again at each document and no attention mask: from that
transformers builds the exact block-diagonal mask. Three things break it in silence: a mask of ones, a
key-value cache (so the model must be called with use_cache=False), and families that mix tokens outside
attention (state-space, convolution) or make their masks without the positions (in transformers 5.23 bloom,
falcon, gpt_oss, opt ...). So whether a model can pack is measured: `packing_error`.
"""

# B rows of a batch, T tokens of the longest row

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from distill.examples import Example
from distill.mixture import Mixture
from fastpath.blocks import TOLERANCE

log = logging.getLogger("fastpath")
IGNORED = -100
"""Label of a token that is not learnt."""
WINDOW = 256
"""Examples among which a row finds company."""

Row = tuple[Example, ...]


class Rows:
    """The mixture in rows: `rows[i]` is a function of the mixture, max_tokens, packed and i alone."""

    def __init__(self, mixture: Mixture, *, max_tokens: int, num_rows: int, packed: bool) -> None:
        """Not packed, each row is one example. No example may be longer than `max_tokens`."""
        self.mixture, self.max_tokens, self.num_rows = mixture, max_tokens, num_rows
        self._window = WINDOW if packed else 1
        self._rows: list[list[int]] = []
        self._num_windows = 0

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < self.num_rows:
            raise IndexError(index)
        while len(self._rows) <= index:
            start = self._num_windows * self._window
            sizes = [len(self.mixture[start + i].ids) for i in range(self._window)]
            self._rows += [[start + i for i in row] for row in fill(sizes, self.max_tokens)]
            self._num_windows += 1
        return tuple(self.mixture[i] for i in self._rows[index])


def fill(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Indices of sizes in rows that each sum to at most `room`: first fit, the largest first.

    Rows, and indices in a row, come in the order of `sizes`, so that packing does not sort what is learnt.
    """
    assert max(sizes, default=0) <= room
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        row = next((r for r, free in enumerate(left) if free >= sizes[index]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(index)
        left[row] -= sizes[index]
    return sorted(sorted(row) for row in rows)


def packed_batch(rows: Sequence[Row], *, pad: int) -> dict[str, Tensor]:
    """int64 (B, T) input_ids, position_ids and labels. What pads a row is one more document, never learnt."""
    width = max(sum(len(example.ids) for example in row) for row in rows)
    ids, positions, labels = [], [], []
    for row in rows:
        free = width - sum(len(example.ids) for example in row)
        ids.append([i for example in row for i in example.ids] + [pad] * free)
        positions.append([p for example in row for p in range(len(example.ids))] + list(range(free)))
        labels.append([label for example in row for label in _labels(example)] + [IGNORED] * free)
    return {
        "input_ids": torch.tensor(ids),
        "position_ids": torch.tensor(positions),
        "labels": torch.tensor(labels),
    }


def padded_batch(rows: Sequence[Row], *, pad: int) -> dict[str, Tensor]:
    """int64 (B, T) input_ids, attention_mask and labels of rows of one example each, pads on the right."""
    examples = [example for (example,) in rows]
    width = max(len(example.ids) for example in examples)
    free = [width - len(example.ids) for example in examples]
    return {
        "input_ids": torch.tensor([[*e.ids] + [pad] * n for e, n in zip(examples, free, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - n) + [0] * n for n in free]),
        "labels": torch.tensor([_labels(e) + [IGNORED] * n for e, n in zip(examples, free, strict=True)]),
    }


def _labels(example: Example) -> list[int]:
    return [i if counts else IGNORED for i, counts in zip(example.ids, example.counts, strict=True)]


@torch.no_grad()
def packing_error(model: Any) -> float:
    """How much a document's logits change beside others in packed rows, as a share of the largest logit.

    Two rows: some attention kernels (FlashAttention 2 by position ids) tell documents apart in one row alone.
    Inf if the model takes no position ids.
    """
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(vocabulary, (size,), generator=generator) for size in (7, 1, 13, 11)]
    rows = (documents, documents[::-1])
    ids_BT = torch.stack([torch.cat(row) for row in rows]).to(model.device)
    starts = [torch.cat([torch.arange(len(ids)) for ids in row]) for row in rows]
    positions_BT = torch.stack(starts).to(model.device)
    was_training = model.training
    model.eval()
    try:
        together_NV = model(input_ids=ids_BT, position_ids=positions_BT, use_cache=False).logits.flatten(0, 1)
        alone = [
            model(input_ids=ids[None].to(model.device), use_cache=False).logits[0].float()
            for ids in documents
        ]
    except TypeError:  # no such argument
        return float("inf")
    finally:
        model.train(was_training)
    want_NV = torch.cat([*alone, *alone[::-1]])
    return float((together_NV.float() - want_NV).abs().max() / want_NV.abs().max())


def can_pack(model: Any, dtype: torch.dtype) -> bool:
    """Whether documents of a packed row do not see one another in this model, with its attention.

    `dtype`: what it computes in, which under autocast is not that of its weights.
    """
    error = packing_error(model)
    if packs := error <= TOLERANCE[dtype]:
        return packs
    log.info("no packing: beside others in a row a document's logits change by %.1e of the largest", error)
    return False
