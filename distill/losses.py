"""Token losses between a student and its teacher, each with its gradient in closed form.

A function takes logits that are already divided by the temperature T and returns the loss of every token and
its gradient with respect to what it was given. The T^2 rule (Hinton et al., arXiv 1503.02531) is then T^2
times the loss, and T times the gradient for the logits before the division. What a function made itself it
changes in place: the logits of a chunk are large.
"""

# N tokens, V vocabulary, K ids of a token that a cache holds
# p teacher's probabilities, q student's, m their mixture; d derivative of the loss with respect to q

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastpath.errors import UserError

LossAndGradient = tuple[Tensor, Tensor]
"""(N,) loss of each token, (N, V) gradient of each with respect to the student's logits."""


def forward_kl(student_NV: Tensor, teacher_NV: Tensor) -> LossAndGradient:
    """KL(p, q): the student must cover all that the teacher may say."""
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    p = log_p.exp()
    return _mean(p, log_p.sub_(log_q)), log_q.exp_().sub_(p)


def reverse_kl(student_NV: Tensor, teacher_NV: Tensor) -> LossAndGradient:
    """KL(q, p): the student must not say what the teacher would not."""
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    q, d = log_q.exp(), log_q.sub_(log_p)
    return _mean(q, d), _through_softmax(q, d)


def mixed_kl(student_NV: Tensor, teacher_NV: Tensor, *, forward: float = 0.2) -> LossAndGradient:
    """forward KL(p, q) + (1 - forward) KL(q, p): both ways at once, 0 < forward < 1.

    For what the student writes: the reverse KL alone may narrow it down to few answers (arXiv 2605.16826).
    """
    _check_inside("forward", forward, "reverse_kl or forward_kl is meant at the ends")
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    q, p, d = log_q.exp(), log_p.exp(), log_q.sub_(log_p)
    nats_N = (1 - forward) * _mean(q, d) - forward * _mean(p, d)
    pull_NV = (q - p).mul_(forward)
    return nats_N, _through_softmax(q, d).mul_(1 - forward).add_(pull_NV)


def jsd(student_NV: Tensor, teacher_NV: Tensor, *, beta: float = 0.5) -> LossAndGradient:
    """beta KL(p, m) + (1 - beta) KL(q, m) with m = beta p + (1 - beta) q, 0 < beta < 1.

    It shrinks towards both ends: about beta * forward KL near 0, (1 - beta) * reverse KL near 1.
    """
    _check_inside("beta", beta, "forward_kl or reverse_kl is meant at the ends")
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    q, log_m = log_q.exp(), _log_mixture(log_p, log_q, beta)
    p_part, d = beta * _mean(log_p.exp(), log_p - log_m), (1 - beta) * (log_q - log_m)
    return p_part + _mean(q, d), _through_softmax(q, d)


def skew_kl(student_NV: Tensor, teacher_NV: Tensor, *, alpha: float = 0.1) -> LossAndGradient:
    """KL(p, m) with m = alpha p + (1 - alpha) q: bounded by -log(alpha) where the student says nothing."""
    _check_inside("alpha", alpha, "forward_kl is meant at 0")
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    log_ratio = log_p - _log_mixture(log_p, log_q, alpha)
    d = log_ratio.expm1().mul_(alpha - 1)  # p/m - 1, not p/m: a constant changes nothing, and 0 stays 0
    return _mean(log_p.exp(), log_ratio), _through_softmax(log_q.exp(), d)


def skew_reverse_kl(student_NV: Tensor, teacher_NV: Tensor, *, alpha: float = 0.1) -> LossAndGradient:
    """KL(q, m) with m = (1 - alpha) p + alpha q, through which the gradient flows too."""
    _check_inside("alpha", alpha, "reverse_kl is meant at 0")
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    log_ratio = log_q - _log_mixture(log_p, log_q, 1 - alpha)
    q, d = log_q.exp(), log_ratio - alpha * log_ratio.expm1()
    return _mean(q, log_ratio), _through_softmax(q, d)


def tvd(student_NV: Tensor, teacher_NV: Tensor) -> LossAndGradient:
    """Half the sum of |p - q|."""
    q = student_NV.softmax(-1)
    difference = q - teacher_NV.softmax(-1)
    return difference.abs().sum(-1) / 2, _through_softmax(q, difference.sign() / 2)


@dataclass(frozen=True)
class Loss:
    """A loss, and what a reader needs to know of it."""

    function: Callable[..., LossAndGradient]
    formula: str
    paper: str
    unit: str = "nats per token"


LOSSES = {
    "forward_kl": Loss(forward_kl, "sum p log(p/q)", "Hinton et al. 2015, arXiv 1503.02531"),
    "reverse_kl": Loss(reverse_kl, "sum q log(q/p)", "MiniLLM, arXiv 2306.08543"),
    "mixed_kl": Loss(mixed_kl, "f KL(p, q) + (1-f) KL(q, p), f = forward", "arXiv 2605.16826"),
    "jsd": Loss(jsd, "beta KL(p, m) + (1-beta) KL(q, m), m = beta p + (1-beta) q", "GKD, arXiv 2306.13649"),
    "skew_kl": Loss(skew_kl, "KL(p, m), m = alpha p + (1-alpha) q", "DistiLLM, arXiv 2402.03898"),
    "skew_reverse_kl": Loss(
        skew_reverse_kl, "KL(q, m), m = (1-alpha) p + alpha q", "DistiLLM, arXiv 2402.03898"
    ),
    "tvd": Loss(tvd, "sum |p - q| / 2", "f-distill, arXiv 2307.15190", unit="probability per token"),
}


@dataclass(frozen=True)
class Objective:
    """What a token costs: (1 - kd_weight) * cross-entropy + kd_weight * T^2 * loss at temperature T."""

    loss: str = "forward_kl"
    options: Mapping[str, float] = field(default_factory=dict)
    """Keyword arguments of the loss: beta of jsd, alpha of the skewed ones."""
    kd_weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"loss: no {self.loss!r}; there are {', '.join(LOSSES)}")
        if not 0 <= self.kd_weight <= 1:
            raise UserError(f"kd_weight: {self.kd_weight} is not a share; it lies in 0..1")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature: {self.temperature} must be above 0; 1 changes nothing")
        parameters = inspect.signature(LOSSES[self.loss].function).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        if unknown := sorted(set(self.options) - set(known)):
            takes = ", ".join(known) or "no options"
            raise UserError(f"{self.loss}: no option {unknown[0]!r}; it takes {takes}")
        LOSSES[self.loss].function(torch.zeros(1, 2), torch.zeros(1, 2), **self.options)  # its own checks


def cross_entropy(student_NV: Tensor, targets_N: Tensor) -> LossAndGradient:
    """-log q of the targets, at temperature 1."""
    log_q = student_NV.log_softmax(-1)
    nats_N = -log_q.gather(-1, targets_N[:, None])[:, 0]
    gradient_NV = log_q.exp_()
    gradient_NV.scatter_add_(-1, targets_N[:, None], gradient_NV.new_full((len(targets_N), 1), -1))
    return nats_N, gradient_NV


def top_k_kl(student_NV: Tensor, ids_NK: Tensor, logprobs_NK: Tensor) -> LossAndGradient:
    """Forward KL when only the teacher's `ids` are known: all others are one bucket with the mass left over.

    Never more than the full KL, 0 where q = p, and the full KL itself where the ids are the whole vocabulary.
    (To renormalise p, or to leave the rest out, would push the student away from q = p.)
    """
    log_q = student_NV.log_softmax(-1)
    log_q_NK, p_NK = log_q.gather(-1, ids_NK), logprobs_NK.exp()
    nats_N, gradient_NV = _mean(p_NK, logprobs_NK - log_q_NK), log_q.exp()
    if ids_NK.shape[-1] < student_NV.shape[-1]:
        log_rest_N1 = log_q.scatter_(-1, ids_NK, float("-inf")).logsumexp(-1, keepdim=True)
        rest_N1 = (1 - p_NK.sum(-1, keepdim=True)).clamp_(min=0)  # rounding of the cache can pass 1
        nats_N = nats_N + (torch.xlogy(rest_N1, rest_N1) - rest_N1 * log_rest_N1)[:, 0]
        gradient_NV -= rest_N1 * (log_q - log_rest_N1).exp_()
    return nats_N, gradient_NV.scatter_(-1, ids_NK, log_q_NK.exp() - p_NK)


def log_sum_exp(student_NV: Tensor) -> LossAndGradient:
    """log sum_v exp(logit): all of the forward KL that is not linear in the student's logits; gradient q."""
    log_sum_N1 = student_NV.logsumexp(-1, keepdim=True)
    return log_sum_N1[:, 0], (student_NV - log_sum_N1).exp_()


def _mean(weights_NV: Tensor, values_NV: Tensor) -> Tensor:
    return torch.linalg.vecdot(weights_NV, values_NV)


def _through_softmax(q_NV: Tensor, d_NV: Tensor) -> Tensor:
    """Gradient with respect to the logits, from that with respect to their softmax (which it overwrites)."""
    return d_NV.sub_(_mean(q_NV, d_NV)[:, None]).mul_(q_NV)


def _log_mixture(log_p: Tensor, log_q: Tensor, p_weight: float) -> Tensor:
    """log(p_weight p + (1 - p_weight) q), exactly log q where p = q; no exponential can overflow."""
    weight_of_lesser = torch.full_like(log_q, 1 - p_weight).masked_fill_(log_p < log_q, p_weight)
    lesser_over_greater_less_1 = (log_p - log_q).abs_().neg_().expm1_()
    return weight_of_lesser.mul_(lesser_over_greater_less_1).log1p_().add_(torch.maximum(log_p, log_q))


def _check_inside(name: str, share: float, otherwise: str) -> None:
    if not 0 < share < 1:
        raise UserError(f"{name}: {share} must lie between 0 and 1; {otherwise}")
