"""What one batch adds to the scores of a criterion, and the one pass that most criteria take."""

# B sequences, T tokens, D width

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fastpath.blocks import tap
from fastpath.data import Batch
from fastpath.errors import ModelError
from fastpath.nll import logits_at


@dataclass(frozen=True)
class Part:
    """What one batch adds to the scores of a criterion."""

    index: list[int]
    """Positions of the sequences in the list of items."""
    sums: list[list[float]]
    """[sequence][block], or [sequence][span] in the order of `spans`."""
    tokens: list[int]
    """[sequence]: what the sums are to be divided by."""
    without_first: list[list[float]] = field(default_factory=list)
    """`sums` without each sequence's first token (divide by tokens - 1); [] where tokens are not averaged."""


@torch.no_grad()
def over_tokens(model: Any, batch: Batch, cost: Callable[..., torch.Tensor]) -> Part:
    """Sums over the real tokens of cost(i, before_BTD, after_BTD) -> (B, T), with and without the first.

    ModelError where a stream overflows.
    """
    sums: list[torch.Tensor] = []
    without_first: list[torch.Tensor] = []

    def see(i: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> None:
        cost_BT = torch.where(batch.attention, cost(i, before_BTD, after_BTD).double(), 0.0)
        sums.append(cost_BT.sum(1))
        without_first.append(cost_BT[:, 1:].sum(1))

    with tap(model, see):
        run_blocks(model, batch)
    tables = [finite(torch.stack(table, 1), model).tolist() for table in (sums, without_first)]
    return Part(list(batch.index), tables[0], batch.attention.sum(1).tolist(), tables[1])


def finite(sums: torch.Tensor, model: Any) -> torch.Tensor:
    """The same sums; ModelError if one is inf or nan: no such number can be saved or ranked by."""
    if not torch.isfinite(sums).all():
        dtype = str(model.dtype).removeprefix("torch.")
        raise ModelError(
            f"streams or scores are not finite in {dtype}: its weights are broken, or try model.dtype=float32"
        )
    return sums


@torch.no_grad()
def run_blocks(model: Any, batch: Batch) -> None:
    """Run the blocks; the head sees no position: of a short batch it would be a tenth of the work."""
    logits_at(model, torch.zeros_like(batch.answer), **batch.inputs, use_cache=False)
