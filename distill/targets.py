"""What a student's logits are compared with: a live teacher, or what was kept of one."""

# N tokens, C tokens of a chunk, D width, V vocabulary, K ids kept of a token, T temperature

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from distill.head import Head, ready
from distill.losses import LOSSES, LossAndGradient, Objective, log_sum_exp, top_k_kl
from fastpath.errors import UserError

CHUNK_BYTES = 2**28
"""Of a chunk's float32 logits, on an accelerator: enough tokens to keep its matrix units busy."""
CPU_CHUNK_BYTES = 24 * 2**20
"""The same on a CPU: what the C library would map anew for every tensor (32 MiB or more) costs more in page
faults than larger matrix products save (measured: a fifth of the loss at 49,152 tokens)."""

Scorer = Callable[[slice, Tensor], LossAndGradient]
"""(which tokens, their student logits / T) -> their losses, and the gradient with respect to those."""


def fast_chunk_bytes(device: torch.device) -> int:
    """Of a chunk's float32 logits: what is fast on this device."""
    return CPU_CHUNK_BYTES if device.type == "cpu" else CHUNK_BYTES


class Targets(Protocol):
    """The teacher's side of N tokens."""

    def __len__(self) -> int:
        """N."""

    def scorer(self, objective: Objective, vocabulary: int) -> Scorer:
        """How chunks of them are scored, at the true size of the vocabulary."""


@dataclass(frozen=True)
class Live:
    """The teacher's last hidden states and its head: logits are made a chunk at a time."""

    hidden_ND: Tensor
    head: Head

    def __len__(self) -> int:
        return len(self.hidden_ND)

    @torch.no_grad()
    def scorer(self, objective: Objective, vocabulary: int) -> Scorer:
        """Any loss, on all logits."""
        weights = ready(self.head.weights(), vocabulary)
        function = LOSSES[objective.loss].function

        def score(at: slice, student_CV: Tensor) -> LossAndGradient:
            teacher_CV = self.head.logits(self.hidden_ND[at], weights)
            if objective.temperature != 1:
                teacher_CV.div_(objective.temperature)
            return function(student_CV, teacher_CV, **objective.options)

        return score


@dataclass(frozen=True)
class TopK:
    """A cached teacher: its likeliest ids, and the normaliser of each other temperature that may be asked."""

    ids_NK: Tensor
    logprobs_NK: Tensor
    """At temperature 1, normalised over the whole vocabulary."""
    log_sums: Mapping[float, Tensor]
    """T -> (N,) log sum_v p_v^(1/T)."""

    @classmethod
    def of(cls, logits_NV: Tensor, *, k: int, temperatures: Sequence[float] = ()) -> "TopK":
        """What is kept of these logits of a teacher."""
        logprobs_NV = logits_NV.log_softmax(-1)
        logprobs_NK, ids_NK = logprobs_NV.topk(k, -1)
        return cls(ids_NK, logprobs_NK, {T: (logprobs_NV / T).logsumexp(-1) for T in temperatures})

    def __len__(self) -> int:
        return len(self.ids_NK)

    def scorer(self, objective: Objective, vocabulary: int) -> Scorer:
        """Forward KL with one bucket for all other ids."""
        _forward_kl_only(objective, "a top-k cache")
        T = objective.temperature
        if T != 1 and T not in self.log_sums:
            known = ", ".join(str(t) for t in sorted({1.0, *self.log_sums}))
            raise UserError(f"temperature: {T} is not in the cache of the teacher; it holds {known}")

        def score(at: slice, student_CV: Tensor) -> LossAndGradient:
            logprobs_CK = self.logprobs_NK[at].to(student_CV.dtype)
            if T != 1:
                logprobs_CK = logprobs_CK / T - self.log_sums[T][at, None]
            return top_k_kl(student_CV, self.ids_NK[at], logprobs_CK)

        return score


@dataclass(frozen=True)
class Expected:
    """A cached teacher whose head is the student's, and frozen: exact forward KL from D numbers a token."""

    embedding_ND: Tensor
    """sum_v p_v W_v, the row of the head that the teacher expects, at the temperature."""
    entropy_N: Tensor
    """-sum_v p_v log p_v, at the temperature."""
    temperature: float

    @classmethod
    def of(cls, logits_NV: Tensor, head: Head, *, temperature: float) -> "Expected":
        """What is kept of these logits of a teacher (made by the same head)."""
        logprobs_NV = (logits_NV / temperature).log_softmax(-1)
        p_NV = logprobs_NV.exp()
        weight_VD, _ = ready(head.weights(), logits_NV.shape[-1])
        return cls(p_NV @ weight_VD.to(p_NV.dtype), -torch.linalg.vecdot(p_NV, logprobs_NV), temperature)

    def __len__(self) -> int:
        return len(self.embedding_ND)

    def scorer(self, objective: Objective, vocabulary: int) -> Scorer:
        """The part of the forward KL that depends on the student's logits alone."""
        _forward_kl_only(objective, "a cache of expected embeddings")
        if objective.temperature != self.temperature:
            raise UserError(
                f"temperature: {objective.temperature}, but the cache of the teacher holds {self.temperature}"
            )
        return lambda at, student_CV: log_sum_exp(student_CV)

    def known(self, hidden_ND: Tensor, head: Head) -> Tensor:
        """sum_v p_v z_v + entropy, summed over the tokens; forward KL is log_sum_exp(z) less that.

        z, the student's logits / T, are linear in its hidden states: no row of the vocabulary is needed.
        """
        if head.softcap is not None or head.linear.bias is not None or head.linear.weight.requires_grad:
            raise UserError(
                "a cache of expected embeddings needs a frozen head with neither bias nor softcap"
            )
        dots_N = torch.linalg.vecdot(hidden_ND.to(self.embedding_ND.dtype), self.embedding_ND)
        return dots_N.double().sum() * head.scale / self.temperature + self.entropy_N.double().sum()


def no_teacher(at: slice, student_CV: Tensor) -> LossAndGradient:
    """Nothing, in shapes that add to anything."""
    return student_CV.new_zeros(1), student_CV.new_zeros(1, 1)


def _forward_kl_only(objective: Objective, cache: str) -> None:
    if objective.loss != "forward_kl":
        raise UserError(f"loss: {objective.loss} needs the teacher itself; from {cache} comes forward_kl")
