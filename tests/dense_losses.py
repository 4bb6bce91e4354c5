"""The losses by definition, on all logits at once, and tokens and heads to compare the chunked loss on."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from distill.chunked import chunked_nats

N, D, V = 23, 16, 90
CHUNK_OF_5 = 4 * V * 5
PLAIN, ALL = {}, {"scale": 0.3, "softcap": 4.0}


def priced(*args, vocabulary=V, **words):
    return chunked_nats(*args, vocabulary=vocabulary, **words)


def linear(seed, *, rows=V, bias=False, dtype=torch.float64):
    torch.manual_seed(seed)
    made = nn.Linear(D, rows, bias=bias, dtype=torch.float64)
    nn.init.normal_(made.weight, std=0.5)
    return made.to(dtype)


def tokens(seed=0, *, n=N, dtype=torch.float64):
    """Student's and teacher's hidden states, targets."""
    made = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, n, D, generator=made, dtype=torch.float64).to(dtype)
    return student.requires_grad_(), teacher, torch.randint(V, (n,), generator=made)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss / 7, [t for t in tensors if t is not None])


def relative(got, want):
    return ((got - want).norm() / want.norm().clamp_min(1e-30)).item()


def assert_equal(got, want, *, within):
    for a, b in zip(got[0], want[0], strict=True):
        assert a.item() == pytest.approx(b.item(), rel=within)
    for a, b in zip(got[1], want[1], strict=True):
        assert a.shape == b.shape
        assert relative(a, b) <= within


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


def mixture(p, q, weight):
    return weight * p + (1 - weight) * q


DEFINITIONS = {
    "forward_kl": lambda p, q: kl(p, q),
    "reverse_kl": lambda p, q: kl(q, p),
    "mixed_kl": lambda p, q, forward=0.2: forward * kl(p, q) + (1 - forward) * kl(q, p),
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
