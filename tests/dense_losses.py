"""The definitions of the losses, on probabilities (teacher p, student q), for autograd to differentiate."""

import torch
from torch.nn.functional import cross_entropy


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


def mixture(p, q, weight):
    return weight * p + (1 - weight) * q


DEFINITIONS = {
    "forward_kl": lambda p, q: kl(p, q),
    "reverse_kl": lambda p, q: kl(q, p),
    "jsd": lambda p, q, beta=0.5: beta * kl(p, mixture(p, q, beta)) + (1 - beta) * kl(q, mixture(p, q, beta)),
    "skew_kl": lambda p, q, alpha=0.1: kl(p, mixture(p, q, alpha)),
    "skew_reverse_kl": lambda p, q, alpha=0.1: kl(q, mixture(q, p, alpha)),
    "tvd": lambda p, q: (p - q).abs().sum(-1) / 2,
}


def dense_nats(student_NV, teacher_NV, targets_N, objective):
    """(loss, kd, ce) summed over the tokens, from all logits at once."""
    T, share = objective.temperature, objective.kd_weight
    p, q = (teacher_NV / T).softmax(-1), (student_NV / T).softmax(-1)
    kd = DEFINITIONS[objective.loss](p, q, **objective.options).sum()
    ce = cross_entropy(student_NV, targets_N, reduction="sum")
    return (1 - share) * ce + share * T**2 * kd, kd, ce


def dense_logits(head, hidden_ND, vocabulary=None):
    """(N, V) logits of a head, as a model's forward would make them."""
    logits_NV = head.linear(hidden_ND)[:, :vocabulary] * head.scale
    return logits_NV if head.softcap is None else torch.tanh(logits_NV / head.softcap) * head.softcap
