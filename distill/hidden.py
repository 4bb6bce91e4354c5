"""Hidden states of a cut model against those of the original, where the cut changed them."""

# B sequences, T tokens, N marked tokens, D width

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fastpath.blocks import tap

Pairs = tuple[tuple[int, int], ...]
"""(block of the student, block of the teacher), each in its own numbering, whose outputs should agree."""


def next_input_pairs(keep: Sequence[int], depth: int) -> Pairs:
    """Each student's block with the teacher's block in front of the next kept one (the last, at the end).

    So a student's block is asked for what the block after it was trained to read: only in front of a cut is
    that not the output of the same block, and there the student has to bridge the cut. Blocks whose output
    comes before the first cut agree anyway and are left out.
    """
    following = [*keep[1:], depth]
    first_dropped = next(i for i in range(depth) if i not in set(keep))
    return tuple((i, following[i] - 1) for i in range(max(first_dropped - 1, 0), len(keep)))


@contextmanager
def outputs_of(model: PreTrainedModel, blocks: Collection[int]) -> Iterator[dict[int, Tensor]]:
    """Inside the context a forward fills {block: (B, T, D) residual stream after it}, with its gradient."""
    outputs: dict[int, Tensor] = {}

    def see(i: int, _: Tensor, after_BTD: Tensor) -> None:
        # Whole: to index it here would be in a checkpointed block's first forward and not in its second.
        if i in blocks:
            outputs[i] = after_BTD

    with tap(model, see):
        yield outputs


def hidden_error(
    student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], pairs: Pairs, at_BT: Tensor
) -> Tensor:
    """Squared error over the teacher's squared norm, summed over the marked tokens, mean over the pairs.

    No dimension; divide once, by the tokens of the whole step. 0: equal; 1: what a student of zeros
    has. The norm of each token, because the first one's can be a thousand times that of the others.
    """
    errors = [_relative_error(student[i][at_BT], teacher[j][at_BT]).sum() for i, j in pairs]
    return torch.stack(errors).mean()


def _relative_error(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    dtype = torch.promote_types(student_ND.dtype, torch.float32)
    student_ND, teacher_ND = student_ND.to(dtype), teacher_ND.to(dtype)
    return (student_ND - teacher_ND).square().sum(-1) / (teacher_ND.square().sum(-1) + 1e-6)
