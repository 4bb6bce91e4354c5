"""What a block costs: each criterion is a function in CRITERIA from one batch to what the batch adds.

That is, for every sequence a numerator per block (or span) and a denominator. Batches are independent, so a
killed run goes on at the batch it died in. A criterion that must know all batches first has a `fit`.
"""

# L blocks, B sequences, T tokens, D width, N answer tokens, C a chunk of them, V vocabulary

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fastpath.ablations import Ablations
from fastpath.blocks import tap
from fastpath.data import Batch
from fastpath.nll import logits_at, predicting
from prune.linear import fit_replacements, linear_cost
from prune.part import Part, finite, over_tokens, run_blocks
from prune.taylor import taylor_cost

KL_POSITIONS = 256
"""Answer positions whose KL divergence is computed at a time."""

log = logging.getLogger("fastpath")
ROOM = 2**31
"""Bytes of streams that are held of a batch unless the recipe says otherwise."""


@dataclass(frozen=True)
class Criterion:
    """A way to measure what dropping a block costs; LOW goes first."""

    function: Callable[..., Part]
    """(model, batch) -> Part; (model, batch, fitted) -> Part where there is a fit."""
    unit: str
    spans: bool = False
    """Whether it measures every contiguous span, not only single blocks."""
    replays: bool = False
    """Whether it runs the rest of the model for every block, and takes `stream_bytes` to hold streams in."""
    ranked_by: Literal["simple", "deepest"] = "simple"
    """The column of Scores that a plan is to be cheap on."""
    fit: Callable[[Any, Sequence[Batch], np.ndarray, Path], Any] | None = None
    """(model, all batches, half of each item, folder to resume from) -> fitted."""

    def ready(
        self,
        model: Any,
        batches: Sequence[Batch],
        half: np.ndarray,
        folder: Path,
        *,
        stream_bytes: int = ROOM,
    ) -> Callable[[Any, Batch], Part]:
        """The function of (model, batch), after a pass over all batches where it needs one."""
        if self.replays:
            widest = max(batches, key=lambda batch: batch.ids.numel())
            log.info("one batch at a time, the widest: %s", _engine(model, widest, stream_bytes).plan)
            return partial(self.function, stream_bytes=stream_bytes)
        if self.fit is None:
            return self.function
        return partial(self.function, fitted=self.fit(model, batches, half, folder))


def spans(depth: int) -> list[tuple[int, int]]:
    """Half-open spans in the order in which a span criterion reports them: by start, then by length.

    The span of all blocks is left out: something must stay.
    """
    return [(i, j) for i in range(depth) for j in range(i + 1, depth + 1) if j - i < depth]


def cosine_cost(model: Any, batch: Batch) -> Part:
    """Block Influence: 1 - cos(stream before, stream after) of each block, over all real tokens.

    ShortGPT (arXiv 2403.03853), equation 1. Without unit, 0 to 2. The first token is included: the block that
    writes the attention sink looks harmless without it. Upcast before the cosine, summed in float64; pads do
    not count.
    """

    def cost(_: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> torch.Tensor:
        return 1 - torch.nn.functional.cosine_similarity(before_BTD.float(), after_BTD.float(), dim=-1)

    return over_tokens(model, batch, cost)


def norm_ratio_cost(model: Any, batch: Batch) -> Part:
    """Relative contribution: |after - before| / |before| of each block's streams, over all real tokens.

    The relative contribution of Csordas et al. (arXiv 2505.13898), here of a whole block. Without unit, 0 and
    up. The first token is included; pads do not count.
    """

    def cost(_: int, before_BTD: torch.Tensor, after_BTD: torch.Tensor) -> torch.Tensor:
        before_BTD, after_BTD = before_BTD.float(), after_BTD.float()
        return (after_BTD - before_BTD).norm(dim=-1) / before_BTD.norm(dim=-1).clamp_min(1e-6)

    return over_tokens(model, batch, cost)


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
        run_blocks(model, batch)
    x_LBD = torch.nn.functional.normalize(torch.stack(streams), dim=-1)
    depth = len(streams) - 1
    # In the order of `spans`, all that begin at one block at once.
    cosines_SB = torch.cat([(x_LBD[i] * x_LBD[i + 1 :]).sum(-1)[: depth - 1] for i in range(depth)])
    angles_SB = torch.arccos(cosines_SB.clamp(-1, 1)) / math.pi
    return Part(list(batch.index), finite(angles_SB.T, model).tolist(), [1] * len(last_B))


def ablation_cost(model: Any, batch: Batch, *, stream_bytes: int = ROOM) -> Part:
    """Rise in nats per answer token when a block is skipped: the causal cost.

    Shortened LLaMA (arXiv 2402.02834), section 3.1, with the loss on answer tokens only. Skipping block i
    changes nothing before i, so one base pass keeps every block's input and only the suffixes are computed
    again.
    """
    rises = _skipping_each(_engine(model, batch, stream_bytes))
    return Part(list(batch.index), rises.T.tolist(), batch.answer.sum(1).tolist())


def kl_cost(model: Any, batch: Batch, *, stream_bytes: int = ROOM) -> Part:
    """KL divergence to the base when a block is skipped, in nats per answer token; needs no gold answer.

    sum over the whole vocabulary of p log(p / q), p of the base and q without the block, at every position
    that predicts an answer token: a fitness of EvoPress (arXiv 2410.14649). The vocabulary is summed over,
    not averaged.
    """
    base: list[torch.Tensor] = []

    @torch.no_grad()
    def divergence(model: Any, batch: Batch) -> np.ndarray:
        at_BT = predicting(batch.answer)
        logits_NV = logits_at(model, at_BT, **batch.inputs, use_cache=False)
        if not base:
            base.append(logits_NV)  # the whole model comes first
        kl_N = kl_sums(base[0], logits_NV)
        sums_B = torch.zeros(len(at_BT), dtype=torch.float64, device=kl_N.device)
        return finite(sums_B.index_add_(0, at_BT.nonzero()[:, 0], kl_N), model).cpu().numpy()

    costs = _skipping_each(_engine(model, batch, stream_bytes, read=divergence))
    return Part(list(batch.index), costs.T.tolist(), batch.answer.sum(1).tolist())


def kl_sums(base_logits_NV: torch.Tensor, skipped_logits_NV: torch.Tensor) -> torch.Tensor:
    """float64 (N,): sum over the vocabulary of p log(p / q), p of the base; softmax in float32.

    A few positions at a time: in float32 and with its intermediates, (N, V) is many times the logits' size.
    """
    sums = []
    for base_CV, skipped_CV in zip(
        base_logits_NV.split(KL_POSITIONS), skipped_logits_NV.split(KL_POSITIONS), strict=True
    ):
        base_CV, skipped_CV = (logits_CV.float().log_softmax(-1) for logits_CV in (base_CV, skipped_CV))
        kl_CV = torch.nn.functional.kl_div(skipped_CV, base_CV, reduction="none", log_target=True)
        sums.append(kl_CV.sum(-1, dtype=torch.float64))
    return torch.cat(sums)


def _engine(model: Any, batch: Batch, stream_bytes: int, **keys: Any) -> Ablations:
    """Ablations of one batch; a GPU's host offers as much room again."""
    on_host = 0 if model.device.type == "cpu" else stream_bytes
    alone = replace(batch, index=tuple(range(len(batch.index))))
    return Ablations(model, [alone], device_bytes=stream_bytes, host_bytes=on_host, **keys)


def _skipping_each(engine: Ablations) -> np.ndarray:
    """(blocks, sequences): what is read of a batch without each block, beyond what is read of the whole."""
    *skipped, whole = engine.nats(0, [*((i,) for i in range(engine.depth)), ()])
    return np.stack(skipped) - whole


CRITERIA: dict[str, Criterion] = {
    "cosine": Criterion(cosine_cost, "1 - cosine"),
    "norm_ratio": Criterion(norm_ratio_cost, "share of the stream's norm"),
    "angular": Criterion(angular_cost, "angle / pi", spans=True),
    "linear": Criterion(linear_cost, "1 - R^2", fit=fit_replacements),
    "taylor": Criterion(taylor_cost, "nats per answer token, first order"),
    "kl": Criterion(kl_cost, "nats of KL per answer token", replays=True),
    "ablation": Criterion(ablation_cost, "nats per answer token", replays=True),
    # The slope alone would drop the first block, whose loss is as large at every k. What a question of the
    # most steps loses holds both: what every answer needs, and what grows with the steps.
    "depth": Criterion(ablation_cost, "nats per answer token", replays=True, ranked_by="deepest"),
}
