"""From hidden states to logits outside a model's forward: its head, and what its family does after it."""

# B sequences, T tokens, C tokens of a chunk, N marked tokens, D width, V vocabulary

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fastpath.errors import ModelError, UserError

Weights = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Head:
    """logits = cap(scale * (hidden W^T + b)), where cap(x) = softcap * tanh(x / softcap)."""

    linear: nn.Linear
    scale: float = 1.0
    softcap: float | None = None

    def weights(self) -> Weights:
        """(V, D) weight and (V,) bias as they are now: whole, and part of the graph if they are trained."""
        if not isinstance(self.linear, nn.Linear) or not self.linear.weight.is_floating_point():
            raise ModelError(
                f"{type(self.linear).__name__}: the loss needs a plain linear head; train it whole or leave "
                "it frozen, without adapters and not quantised"
            )
        return _gathered(self.linear.weight), _gathered(self.linear.bias)

    def logits(self, hidden_CD: Tensor, weights: Weights) -> Tensor:
        """(C, V) logits, at least in float32, by these weights of the head."""
        raw_CV = nn.functional.linear(hidden_CD.to(weights[0].dtype), *weights)
        logits_CV = raw_CV.to(torch.promote_types(raw_CV.dtype, torch.float32))
        if self.scale != 1:
            logits_CV = logits_CV * self.scale
        return logits_CV if self.softcap is None else (logits_CV / self.softcap).tanh_().mul_(self.softcap)

    def back(self, gradient_CV: Tensor, logits_CV: Tensor) -> Tensor:
        """Gradient with respect to hidden W^T + b, from that with respect to the logits."""
        if self.softcap is not None:
            gradient_CV = gradient_CV * (1 - (logits_CV / self.softcap) ** 2)
        return gradient_CV if self.scale == 1 else gradient_CV * self.scale


@torch.no_grad()
def find_head(model: Any) -> Head:
    """The head of a model, with the scale and the softcap that its forward applies behind it.

    They are measured, not looked up: a forward pass in which known numbers take the place of the head's
    output. ModelError where something else comes out.
    """
    name, linear = type(model).__name__, model.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise ModelError(f"{name}: its head is a {type(linear).__name__}, not a linear layer: no loss for it")
    near, far = 2.0**-13, 2.0**20
    probe_T = torch.tensor([near, far, 0, -near, 0.1, -1, 3, -10, 30, -1e3], dtype=torch.float64)
    probe_T = probe_T.to(model.device)
    probed = linear.register_forward_hook(lambda _, __, out: probe_T[None, :, None].expand(out.shape).clone())
    try:
        ids = torch.zeros(1, len(probe_T), dtype=torch.long, device=model.device)
        found_TV = model(input_ids=ids, use_cache=False).logits[0].double()
    finally:
        probed.remove()
    scale, most = found_TV[0, 0].item() / near, found_TV[1, 0].item()
    softcap = None if most > scale * far / 2 else most
    want_T = probe_T * scale if softcap is None else (probe_T * scale / softcap).tanh() * softcap
    if not torch.allclose(found_TV, want_T[:, None].expand_as(found_TV), rtol=1e-5):
        raise ModelError(f"{name}: what it does to its logits is no scale or softcap: no loss for it")
    return Head(linear, scale, softcap)


@contextmanager
def head_inputs(model: Any, at_BT: Tensor) -> Iterator[list[Tensor]]:
    """Inside the context a forward appends what its head reads at the marked positions: (N, D), row-major.

    The head itself then computes the first position alone.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple) -> tuple:
        seen.append(args[0][at_BT.to(args[0].device)])
        return (args[0][:, :1],)

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def ready(weights: Weights, vocabulary: int) -> Weights:
    """The rows of the true vocabulary, without those that pad it, in the dtype that autocast computes in."""
    weight_VD, bias_V = weights
    if vocabulary > len(weight_VD):
        raise UserError(f"vocabulary: {vocabulary} tokens, but a head has only {len(weight_VD)} rows")
    device = weight_VD.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else weight_VD.dtype
    return weight_VD[:vocabulary].to(dtype), None if bias_V is None else bias_V[:vocabulary].to(dtype)


def _gathered(parameter: Any) -> Any:
    """The whole of a parameter that FSDP may have sharded.

    Not of one that is trained: the gradient of full_tensor() in a loss is wrong without a word (by .7 to 1 of
    its norm, measured), because each rank's share of it lacks what the other ranks' tokens add.
    """
    if not isinstance(parameter, DTensor):
        return parameter
    if parameter.requires_grad and torch.is_grad_enabled():
        raise ModelError(
            "the weight of the head is still sharded: compute the loss inside the forward of the root FSDP "
            "module, after the body of the model has run"
        )
    return parameter.full_tensor().detach()
