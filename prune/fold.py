"""The least squares of the linear repair, in float64 over real tokens.

A span is dropped after block p, which adds `written` to the rest of its stream; the base's stream after the
span is the target. The map T with rest + written @ T ~ target goes into the weights that write, whatever
comes before (the residual stream itself) stays as it is.
"""

# B batch, T tokens, D width, N real tokens of a batch

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastpath.data import Batch
from fastpath.stepping import stream_after
from fastpath.writers import Writer


@torch.no_grad()
def normal_equations(
    base: Any, cut: Any, batches: Sequence[Batch], writer: Writer, *, at: int, last: int
) -> tuple[Tensor, Tensor]:
    """Sums over all batches of what `weighted_sums` says of one.

    The target is the base's stream after block `last`; `writer` belongs to block `at` of the cut model.
    """
    total: tuple[Tensor, Tensor] | None = None
    for batch in batches:
        here = batch.to(cut.device)
        written: list[Tensor] = []
        handle = writer.module.register_forward_hook(lambda _, args, out, seen=written: seen.append(out))
        try:
            after_BTD = stream_after(cut, at, here.inputs)
        finally:
            handle.remove()
        sums = weighted_sums(
            written[-1].view_as(after_BTD),
            after_BTD,
            stream_after(base, last, here.inputs),
            real_BT=here.attention,
            scale=writer.scale,
        )
        total = sums if total is None else (total[0] + sums[0], total[1] + sums[1])
    assert total is not None, "no batches"
    return total


def weighted_sums(
    written_BTD: Tensor, after_BTD: Tensor, target_BTD: Tensor, *, real_BT: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(gram_DD, cross_DD): sums over real tokens of w written' written and w written' (target - rest).

    A token counts by w = 1 / |target|^2: the norms of the blocks that follow see directions alone, and the
    sink token, hundreds of times longer than the others, would decide by itself.
    """
    written_ND = written_BTD[real_BT].double() * scale
    target_ND = target_BTD[real_BT].double()
    rest_ND = after_BTD[real_BT].double() - written_ND
    weighted_ND = written_ND / target_ND.square().sum(-1, keepdim=True).clamp(min=1e-12)
    return weighted_ND.T @ written_ND, weighted_ND.T @ (target_ND - rest_ND)


def towards_identity(gram_DD: Tensor, cross_DD: Tensor, *, strength: float) -> Tensor:
    """The T that minimises |rest + written T - target|^2 + strength * tr(gram) / D * |T - 1|^2, float64.

    Unlike ReplaceMe's ridge, which shrinks T to zero and so erases the block, a large strength is the plain
    cut. The identity where nothing is written.
    """
    eye_DD = torch.eye(len(gram_DD), dtype=gram_DD.dtype, device=gram_DD.device)
    ridge_DD = strength * gram_DD.trace() / len(gram_DD) * eye_DD
    if not ridge_DD.any():
        return eye_DD
    return torch.linalg.solve(gram_DD + ridge_DD, cross_DD + ridge_DD)
