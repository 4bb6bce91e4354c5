"""The attention sink: the block across which the norm of the first token jumps."""

# L blocks, B sequences, T tokens, D width

from collections.abc import Sequence
from typing import Any

import torch

from fastpath.blocks import tap
from fastpath.data import Batch
from fastpath.plan import Sink
from prune.part import run_blocks

LARGE = 10.0


def find_sink(model: Any, batches: Sequence[Batch]) -> Sink | None:
    """The block where the first token's norm grows most beyond that of the others; None below LARGE times.

    Growth is |stream after| / |stream before|: the first token's over the mean of its sequence's other real
    tokens (the first block blows all of them up, and writes no sink), median over the sequences.
    """
    median_L = torch.cat([_growth(model, batch) for batch in batches], 1).median(1).values
    block = int(median_L.argmax())
    ratio = median_L[block].item()
    return Sink(block=block, ratio=ratio) if ratio >= LARGE else None


@torch.no_grad()
def _growth(model: Any, batch: Batch) -> torch.Tensor:
    """(L, B) growth of the first token over that of the others."""
    growths: list[torch.Tensor] = []
    others_BT = batch.attention.clone()
    others_BT[:, 0] = False

    def see(i: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> None:
        growth_BT = after_BTD.float().norm(dim=-1) / before_BTD.float().norm(dim=-1).clamp_min(1e-6)
        other_B = torch.where(others_BT, growth_BT, 0.0).sum(1) / others_BT.sum(1)
        growths.append(growth_BT[:, 0] / other_B.clamp_min(1e-6))

    with tap(model, see):
        run_blocks(model, batch)
    return torch.stack(growths).cpu()
