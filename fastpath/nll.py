"""The only likelihood in the house: summed nats and tokens over answer positions, the head only there."""

# B sequences of a batch, T tokens, D width, V vocabulary, N positions at which the head is applied

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from fastpath.data import Batch
from fastpath.errors import ModelError


@dataclass(frozen=True)
class Nll:
    """Sums for each sequence of a batch; divide once, by the tokens of everything that is averaged."""

    nats: torch.Tensor
    """float64 (B,): negative log-likelihood of the answer tokens, natural logarithm."""
    tokens: torch.Tensor
    """int64 (B,): answer tokens."""


@torch.no_grad()
def answer_nll(model: Any, batch: Batch) -> Nll:
    """Negative log-likelihood of each sequence's answer tokens given all before them. Pads never count."""
    at_BT = predicting(batch.answer)
    logits_NV = logits_at(model, at_BT, **batch.inputs, use_cache=False)
    nats_N, _ = token_nats(logits_NV, batch.ids[batch.answer])
    sums_B = torch.zeros(len(at_BT), dtype=torch.float64, device=nats_N.device)
    sums_B.index_add_(0, at_BT.nonzero()[:, 0], nats_N)
    return Nll(sums_B.cpu(), batch.answer.sum(1).cpu())


def predicting(answer_BT: torch.Tensor) -> torch.Tensor:
    """bool (B, T): the positions whose logits predict the marked tokens (each is one before its token)."""
    return torch.cat([answer_BT[:, 1:], torch.zeros_like(answer_BT[:, :1])], 1)


def logits_at(model: Any, at_BT: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """(N, V) logits of `model(**inputs)` at the marked positions, in row-major order."""
    with head_only_at(model, at_BT) as gathered:
        logits = model(**inputs).logits
    return logits[0] if gathered else logits[at_BT]


@contextmanager
def head_only_at(model: Any, at_BT: torch.Tensor) -> Iterator[bool]:
    """Inside the context the head sees the marked positions alone, as one sequence (1, N, D).

    Whatever a family does to its logits after the head (scaling, capping) is elementwise and stays as it is.
    Yields False, and changes nothing, where a model has no output embedding module.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield False
        return
    handle = head.register_forward_pre_hook(lambda _, args: (args[0][at_BT.to(args[0].device)][None],))
    try:
        yield True
    finally:
        handle.remove()


def token_nats(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(float64 (N,) nats of each target, bool (N,) whether it is the likeliest token); softmax in float32."""
    nats_N = torch.nn.functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    if not torch.isfinite(nats_N).all():
        dtype = str(logits_NV.dtype).removeprefix("torch.")
        raise ModelError(
            f"likelihoods are not finite in {dtype}: its weights are broken, or try model.dtype=float32"
        )
    return nats_N.double(), logits_NV.argmax(-1) == targets_N
