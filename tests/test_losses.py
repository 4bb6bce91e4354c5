"""Every loss and gradient in closed form is what autograd makes of the definition, in float64."""

import pytest
import torch
from dense_losses import DEFINITIONS, kl

from distill.losses import LOSSES, Objective, cross_entropy, log_sum_exp, top_k_kl
from distill.targets import TopK
from fastpath.errors import UserError
from fastpath.nll import token_nats

N, V = 7, 40


CASES = [(name, {}) for name in LOSSES] + [
    ("mixed_kl", {"forward": 0.7}),
    ("jsd", {"beta": 0.1}),
    ("jsd", {"beta": 0.9}),
    ("skew_kl", {"alpha": 0.4}),
    ("skew_reverse_kl", {"alpha": 0.4}),
]


def logits(seed=0, *, scale=2.0, dtype=torch.float64):
    z, u = torch.randn(2, N, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    return z.to(dtype), u.to(dtype)


def by_autograd(loss, z):
    z = z.clone().requires_grad_()
    loss_N = loss(z)
    return loss_N.detach(), torch.autograd.grad(loss_N.sum(), z)[0]


def assert_same(got, want, atol=1e-12):
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= atol


def test_every_loss_is_tested():
    assert set(DEFINITIONS) == set(LOSSES)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_loss_and_gradient_are_those_of_the_definition(name, options):
    z, u = logits()
    want = by_autograd(lambda z: DEFINITIONS[name](u.softmax(-1), z.softmax(-1), **options), z)
    assert_same(LOSSES[name].function(z, u, **options), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_nothing_to_learn_from_oneself(name, options, dtype):
    z, _ = logits(dtype=dtype)
    loss_N, gradient_NV = LOSSES[name].function(z, z.clone(), **options)
    assert not loss_N.any()
    assert not gradient_NV.any()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_constant_in_the_logits_changes_nothing(name, options):
    z, u = logits()
    want = LOSSES[name].function(z, u, **options)
    assert_same(LOSSES[name].function(z + 3, u - 5, **options), want)
    assert want[1].sum(-1).abs().max() <= 1e-12


@pytest.mark.parametrize(("name", "options"), CASES)
def test_logits_far_apart_stay_finite_in_float32(name, options):
    z, u = logits(scale=1000, dtype=torch.float32)
    for part in LOSSES[name].function(z, u, **options):
        assert torch.isfinite(part).all()


def test_jsd_shrinks_towards_the_kl_of_either_end():
    z, u = logits()
    forward, backward = (LOSSES[name].function(z, u)[0] for name in ("forward_kl", "reverse_kl"))
    assert torch.allclose(LOSSES["jsd"].function(z, u, beta=1e-6)[0] / 1e-6, forward, rtol=0.01)
    assert torch.allclose(LOSSES["jsd"].function(z, u, beta=1 - 1e-6)[0] / 1e-6, backward, rtol=0.01)


def test_cross_entropy_is_the_likelihood_of_the_house():
    z, _ = logits(dtype=torch.float32)
    targets_N = torch.arange(N)
    nats_N, gradient_NV = cross_entropy(z.double(), targets_N)
    assert torch.allclose(nats_N, token_nats(z, targets_N)[0], atol=1e-6)
    assert_same(
        (nats_N, gradient_NV),
        by_autograd(lambda z: torch.nn.functional.cross_entropy(z, targets_N, reduction="none"), z.double()),
    )


def test_log_sum_exp_has_the_probabilities_as_gradient():
    z, _ = logits()
    assert_same(log_sum_exp(z), by_autograd(lambda z: z.logsumexp(-1), z))


def bucketed(p_NV, ids_NK):
    """The probabilities of the ids, and what is left for all others."""
    kept_NK = p_NV.gather(-1, ids_NK)
    return torch.cat([kept_NK, p_NV.scatter(-1, ids_NK, 0).sum(-1, keepdim=True)], -1)


@pytest.mark.parametrize("k", [1, 5, V - 1])
def test_top_k_is_the_kl_of_the_ids_and_one_bucket(k):
    z, u = logits()
    cache = TopK.of(u, k=k)
    p_NK1 = bucketed(u.softmax(-1), cache.ids_NK)
    got = top_k_kl(z, cache.ids_NK, cache.logprobs_NK)
    assert_same(got, by_autograd(lambda z: kl(p_NK1, bucketed(z.softmax(-1), cache.ids_NK)), z))
    assert (got[0] <= LOSSES["forward_kl"].function(z, u)[0] + 1e-12).all()


def test_top_k_of_the_whole_vocabulary_is_forward_kl():
    z, u = logits()
    cache = TopK.of(u, k=V)
    assert_same(top_k_kl(z, cache.ids_NK, cache.logprobs_NK), LOSSES["forward_kl"].function(z, u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_k_does_not_push_a_student_that_has_learnt_all(dtype):
    """To renormalise the teacher alone, or to leave the tail out, does."""
    z, _ = logits(dtype=dtype)
    cache = TopK.of(z, k=5)
    loss_N, gradient_NV = top_k_kl(z, cache.ids_NK, cache.logprobs_NK)
    eps = torch.finfo(dtype).eps
    assert loss_N.abs().max() <= 10 * eps
    assert gradient_NV.abs().max() <= 10 * eps
    renormalised = cache.logprobs_NK.log_softmax(-1)
    assert top_k_kl(z, cache.ids_NK, renormalised)[1].abs().max() > 0.01


def test_top_k_stored_in_half_precision_may_sum_to_more_than_one():
    z, u = logits(scale=20, dtype=torch.float32)
    cache = TopK.of(u, k=5)
    loss_N, gradient_NV = top_k_kl(z, cache.ids_NK, cache.logprobs_NK + 1e-3)
    assert torch.isfinite(loss_N).all()
    assert torch.isfinite(gradient_NV).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_top_k_keeps_the_temperatures_it_was_asked_for(temperature):
    """Renormalising the kept ones instead is another distribution."""
    z, u = logits()
    cache = TopK.of(u, k=8, temperatures=(2.0, 0.5))
    got = cache.scorer(Objective(temperature=temperature), V)(slice(2, 5), z[2:5] / temperature)
    hot = TopK.of(u / temperature, k=8)
    assert_same(got, top_k_kl(z[2:5] / temperature, hot.ids_NK[2:5], hot.logprobs_NK[2:5]))


def test_top_k_refuses_other_temperatures_and_other_losses():
    cache = TopK.of(logits()[1], k=8, temperatures=(2.0,))
    with pytest.raises(UserError, match=r"3\.0 is not in the cache.* 1\.0, 2\.0"):
        cache.scorer(Objective(temperature=3.0), V)
    with pytest.raises(UserError, match="reverse_kl needs the teacher itself"):
        cache.scorer(Objective(loss="reverse_kl"), V)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"loss": "kld"}, "no 'kld'; there are forward_kl"),
        ({"kd_weight": 1.5}, "0..1"),
        ({"temperature": 0.0}, "above 0"),
        ({"loss": "jsd", "options": {"alpha": 0.5}}, "no option 'alpha'; it takes beta"),
        ({"options": {"alpha": 0.5}}, "no options"),
        ({"loss": "jsd", "options": {"beta": 1.0}}, "forward_kl or reverse_kl"),
        ({"loss": "skew_kl", "options": {"alpha": 0.0}}, "forward_kl is meant"),
    ],
)
def test_an_objective_that_cannot_be_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        Objective(**words)
