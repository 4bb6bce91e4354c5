"""Cross-entropy and distillation loss of many tokens, with no (tokens, vocabulary) tensor beyond one chunk.

The gradient is computed in the forward pass, chunk by chunk, in closed form; the backward pass multiplies it
by whatever the sum is divided by. It is the dense gradient, but for the order of summation.
"""

# N tokens, C tokens of a chunk, D width, V vocabulary

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.head import Head, Weights, ready
from distill.losses import Objective, cross_entropy
from distill.targets import Expected, Scorer, Targets, fast_chunk_bytes, no_teacher


@dataclass(frozen=True)
class Nats:
    """Sums over tokens, float64, no dimension: divide once, by the tokens of the whole step."""

    loss: Tensor
    """(1 - kd_weight) * ce + kd_weight * T^2 * kd; the one that carries a gradient."""
    kd: Tensor
    """The loss against the teacher at the temperature (tvd: probability, not nats); 0 without a teacher."""
    ce: Tensor
    """Cross-entropy of the targets, at temperature 1."""


def chunked_nats(
    hidden_ND: Tensor,
    targets_N: Tensor,
    *,
    head: Head,
    vocabulary: int,
    teacher: Targets | None = None,
    objective: Objective = Objective(),  # noqa: B008 (frozen)
    chunk_bytes: int | None = None,
) -> Nats:
    """What tokens cost whose last hidden states (after the final norm) and true ids these are.

    `vocabulary`: the size of the tokenizer; what pads a head beyond it is cut from both sides. `chunk_bytes`:
    of the student's float32 logits (None: what is fast on the device); up to six to nine tensors of that size
    are alive at once. Where N = 0 the gradients are zeros, not missing, so that every process takes part in
    every step.
    """
    if teacher is None and objective.kd_weight > 0:
        raise ValueError(f"kd_weight {objective.kd_weight} without a teacher")
    if len(targets_N) != len(hidden_ND) or (teacher is not None and len(teacher) != len(hidden_ND)):
        raise ValueError("student, teacher and targets are not of the same tokens")
    score = no_teacher if teacher is None else teacher.scorer(objective, vocabulary)
    most = max(1, (chunk_bytes or fast_chunk_bytes(hidden_ND.device)) // (4 * vocabulary))
    num_chunks = -(-len(targets_N) // most) or 1
    chunk = -(-len(targets_N) // num_chunks) or 1  # all alike: each reads the whole head, however small it is
    job = _Job(targets_N, head, score, objective, vocabulary, chunk, torch.is_grad_enabled())
    loss, kd, ce = _Chunked.apply(hidden_ND, *head.weights(), job)
    if isinstance(teacher, Expected):
        known = teacher.known(hidden_ND, head)
        loss = loss - objective.kd_weight * objective.temperature**2 * known
        kd = kd - known.detach()
    return Nats(loss, kd, ce)


@dataclass(frozen=True)
class _Job:
    """All that is not differentiated."""

    targets_N: Tensor
    head: Head
    score: Scorer
    objective: Objective
    vocabulary: int
    chunk: int
    with_gradient: bool


@dataclass(frozen=True)
class _Gradients:
    """Of the summed loss, None where not wanted; of the head in float32 at least, whatever its dtype."""

    hidden_ND: Tensor | None
    weight_VD: Tensor | None
    bias_V: Tensor | None

    @classmethod
    def zeros(cls, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> "_Gradients":
        """For all that needs a gradient."""

        def like(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
            if t is None or not t.requires_grad:
                return None
            return torch.zeros_like(t, dtype=torch.promote_types(t.dtype, dtype))

        return cls(
            like(hidden_ND, hidden_ND.dtype), like(weight_VD, torch.float32), like(bias_V, torch.float32)
        )

    def add(self, at: slice, gradient_CV: Tensor, hidden_CD: Tensor, weight_VD: Tensor) -> None:
        """Take in a chunk, from its gradient with respect to hidden W^T + b."""
        rows = slice(len(weight_VD))  # what pads the vocabulary keeps its zeros
        if self.bias_V is not None:
            self.bias_V[rows] += gradient_CV.sum(0)
        gradient_CV = gradient_CV.to(weight_VD.dtype)
        if self.hidden_ND is not None:
            self.hidden_ND[at] = gradient_CV @ weight_VD
        if self.weight_VD is None:
            return
        if self.weight_VD.dtype == gradient_CV.dtype:
            self.weight_VD[rows].addmm_(gradient_CV.T, hidden_CD)
        else:
            self.weight_VD[rows] += gradient_CV.T @ hidden_CD


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, job: _Job) -> Any:
        weights = ready((weight_VD, bias_V), job.vocabulary)
        gradients = _Gradients.zeros(hidden_ND, weight_VD, bias_V) if job.with_gradient else None
        sums = torch.zeros(2, dtype=torch.float64, device=hidden_ND.device)
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for start in range(0, len(hidden_ND), job.chunk):
                sums += _add_chunk(job, slice(start, start + job.chunk), hidden_ND, weights, gradients)
        if gradients is not None:
            ctx.save_for_backward(gradients.hidden_ND, gradients.weight_VD, gradients.bias_V)
        kd, ce = sums[0].clone(), sums[1].clone()
        ctx.mark_non_differentiable(kd, ce)
        share, T = job.objective.kd_weight, job.objective.temperature
        return (1 - share) * ce + share * T**2 * kd, kd, ce

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return *(None if t is None else t * gradients[0] for t in ctx.saved_tensors), None


def _add_chunk(
    job: _Job, at: slice, hidden_ND: Tensor, weights: Weights, gradients: _Gradients | None
) -> Tensor:
    """(2,) summed kd and ce of a chunk; its gradients are added to what is there.

    A function of its own, so that all a chunk needs is freed before the next.
    """
    share, T = job.objective.kd_weight, job.objective.temperature
    hidden_CD = hidden_ND[at].to(weights[0].dtype)
    logits_CV = job.head.logits(hidden_CD, weights)
    kd_C, kd_gradient_CV = job.score(at, logits_CV if T == 1 else logits_CV / T)
    if share == 1:  # of the cross-entropy the value alone is wanted
        ce_C = nn.functional.cross_entropy(logits_CV, job.targets_N[at], reduction="none")
        gradient_CV = kd_gradient_CV if T == 1 else kd_gradient_CV.mul_(T)
    else:
        ce_C, gradient_CV = cross_entropy(logits_CV, job.targets_N[at])
        # T^2 of the rule, 1/T of the division
        gradient_CV.mul_(1 - share).add_(kd_gradient_CV, alpha=share * T)
    if gradients is not None:
        gradients.add(at, job.head.back(gradient_CV, logits_CV), hidden_CD, weights[0])
    return torch.stack([kd_C.double().sum(), ce_C.double().sum()])
