"""What a block costs: each criterion is a function in CRITERIA, run on one kind of items at a time.

A criterion maps (model, batch) to what the batch adds: for every sequence a numerator per block (or span) and
a denominator. Batches are independent, so a killed run goes on at the batch it died in.
"""

# L blocks, B sequences, T tokens, D width

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fastpath.blocks import find_blocks, recording, replaying, tap
from fastpath.data import Batch
from fastpath.nll import answer_nll


@dataclass(frozen=True)
class Part:
    """What one batch adds to the scores of a criterion."""

    index: list[int]
    """Positions of the sequences in the list of items."""
    sums: list[list[float]]
    """[sequence][block], or [sequence][span] in the order of `spans`."""
    tokens: list[int]
    """[sequence]: what the sums are to be divided by."""


@dataclass(frozen=True)
class Criterion:
    """A way to measure what dropping a block costs; LOW goes first."""

    function: Callable[[Any, Batch], Part]
    unit: str
    spans: bool
    """Whether it measures every contiguous span, not only single blocks."""


def spans(depth: int) -> list[tuple[int, int]]:
    """Half-open spans in the order in which a span criterion reports them: by start, then by length.

    The span of all blocks is left out: something must stay.
    """
    return [(i, j) for i in range(depth) for j in range(i + 1, depth + 1) if j - i < depth]


@torch.no_grad()
def cosine_cost(model: Any, batch: Batch) -> Part:
    """Block Influence: 1 - cos(stream before, stream after) of each block, over all real tokens.

    ShortGPT (arXiv 2403.03853), equation 1. The first token is included: the block that writes the attention
    sink looks harmless without it. Upcast before the cosine, summed in float64; pads do not count.
    """
    sums: list[torch.Tensor] = []

    def see(i: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> None:
        cos_BT = torch.nn.functional.cosine_similarity(before_BTD.float(), after_BTD.float(), dim=-1)
        sums.append(torch.where(batch.attention, 1 - cos_BT.double(), 0.0).sum(1))

    with tap(model, see):
        _forward(model, batch)
    return Part(list(batch.index), torch.stack(sums, 1).tolist(), batch.attention.sum(1).tolist())


@torch.no_grad()
def angular_cost(model: Any, batch: Batch) -> Part:
    """Angular distance between the streams entering block i and leaving block j - 1, at the last real token.

    d(i, j) = arccos(cos(x_i, x_j)) / pi: Gromov et al. (arXiv 2403.17887), equation 7. In float64, where
    arccos near 1 is exact enough. The streams come from hooks: `hidden_states[-1]` is after the final norm.
    """
    last_B = batch.attention.sum(1) - 1
    rows = torch.arange(len(last_B), device=last_B.device)
    streams: list[torch.Tensor] = []

    def see(i: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> None:
        if i == 0:
            streams.append(before_BTD[rows, last_B].double())
        streams.append(after_BTD[rows, last_B].double())

    with tap(model, see):
        _forward(model, batch)
    x_LBD = torch.nn.functional.normalize(torch.stack(streams), dim=-1)
    depth = len(streams) - 1
    angles = [torch.arccos((x_LBD[i] * x_LBD[j]).sum(-1).clamp(-1, 1)) / math.pi for i, j in spans(depth)]
    return Part(list(batch.index), torch.stack(angles, 1).tolist(), [1] * len(last_B))


@torch.no_grad()
def ablation_cost(model: Any, batch: Batch) -> Part:
    """Rise in nats per answer token when a block is skipped: the causal cost.

    Shortened LLaMA (arXiv 2402.02834), section 3.1, with the loss on answer tokens only. Skipping block i
    changes nothing before i, so one base pass keeps every block's input and only the suffixes are computed
    again.
    """
    with recording(model) as streams:
        base = answer_nll(model, batch)
    rises = []
    for i in range(len(find_blocks(model)[1])):
        with replaying(model, streams, start=i, drop=(i,)):
            rises.append(answer_nll(model, batch).nats - base.nats)
    return Part(list(batch.index), torch.stack(rises, 1).tolist(), base.tokens.tolist())


def _forward(model: Any, batch: Batch) -> None:
    """Run the blocks; the head sees one position only."""
    position = torch.zeros_like(batch.answer)
    position[:, -1] = True
    answer_nll(model, Batch(batch.index, batch.ids, batch.attention, position))


CRITERIA: dict[str, Criterion] = {
    "cosine": Criterion(cosine_cost, "1 - cosine", spans=False),
    "angular": Criterion(angular_cost, "angle / pi", spans=True),
    "ablation": Criterion(ablation_cost, "nats per answer token", spans=False),
}
