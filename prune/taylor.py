"""The first-order estimate of what a block costs: one backward pass an item."""

# L blocks, N answer tokens, V vocabulary

from collections.abc import Callable
from typing import Any

import torch

from fastpath.blocks import find_blocks
from fastpath.data import Batch
from fastpath.nll import logits_at, predicting, token_nats
from prune.part import Part, finite


def taylor_cost(model: Any, batch: Batch) -> Part:
    """First-order estimate of the change of the loss: sum of |weight x gradient| over a block's weights.

    Shortened LLaMA (arXiv 2402.02834), section 3.1, after the element-wise importance of LLM-Pruner (arXiv
    2305.11627), for the nats of an item's answer; in nats per answer token. The absolute value is taken item
    by item, so that the batch shape changes nothing. A weight's gradient is freed as soon as it is used.
    """
    blocks = find_blocks(model)[1]
    of_item_L = torch.zeros(len(blocks), dtype=torch.float64)
    sums: list[list[float]] = []

    def hook_of(i: int) -> Callable[[torch.Tensor], None]:
        def hook(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            # Upcast before the product: two small float16 numbers make 0.
            wide = torch.promote_types(weight.dtype, torch.float32)
            product = weight.detach().to(wide) * weight.grad
            of_item_L[i] += product.abs().sum(dtype=torch.float64).cpu()
            weight.grad = None

        return hook

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    model.requires_grad_(False)
    hooks = [
        weight.requires_grad_().register_post_accumulate_grad_hook(hook_of(i))
        for i, block in enumerate(blocks)
        for weight in block.parameters()
    ]
    try:
        for one in _one_by_one(batch):
            of_item_L.zero_()
            with torch.enable_grad():
                logits_NV = logits_at(model, predicting(one.answer), **one.inputs, use_cache=False)
                token_nats(logits_NV, one.ids[one.answer])[0].sum().backward()
            sums.append(finite(of_item_L, model).tolist())
    finally:
        for hook in hooks:
            hook.remove()
        model.requires_grad_(False)
        for weight in trained:
            weight.requires_grad_()
    return Part(list(batch.index), sums, batch.answer.sum(1).tolist())


def _one_by_one(batch: Batch) -> list[Batch]:
    """Each sequence as a batch of its own, without pads."""
    ends = batch.attention.sum(1).tolist()
    return [
        Batch((item,), batch.ids[[b], :end], batch.attention[[b], :end], batch.answer[[b], :end])
        for b, (item, end) in enumerate(zip(batch.index, ends, strict=True))
    ]
