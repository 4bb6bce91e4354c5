"""The chunked loss is the dense one: value and gradients of hidden states and head, whatever the chunk."""

from dataclasses import replace

import pytest
import torch
from dense_losses import (
    ALL,
    CHUNK_OF_5,
    PLAIN,
    D,
    N,
    V,
    assert_equal,
    dense_logits,
    dense_nats,
    gradients,
    linear,
    priced,
    relative,
    tokens,
)  # fmt: skip
from test_losses import CASES
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from distill.head import Head
from distill.losses import Objective
from distill.targets import Live, TopK
from fastpath.errors import UserError


def both(dtype, *, head=PLAIN, bias=False, rows=(V, V), objective=Objective(), chunk_bytes=CHUNK_OF_5):  # noqa: B008
    """(values and gradients) of the chunked loss, and of the dense one in float64 on the same numbers."""
    student_ND, teacher_ND, targets_N = tokens(dtype=dtype)
    ours = Head(linear(1, rows=rows[0], bias=bias, dtype=dtype), **head)
    theirs = Head(linear(2, rows=rows[1], bias=bias, dtype=dtype), **head)
    nats = priced(
        student_ND, targets_N, head=ours, teacher=Live(teacher_ND, theirs), objective=objective,
        chunk_bytes=chunk_bytes,
    )  # fmt: skip
    learnt = student_ND, ours.linear.weight, ours.linear.bias
    found = (nats.loss, nats.kd, nats.ce), gradients(nats.loss, *learnt)

    student_ND, teacher_ND = student_ND.detach().double().requires_grad_(), teacher_ND.double()
    student_NV = dense_logits(replace(ours, linear=ours.linear.double()), student_ND, V)
    teacher_NV = dense_logits(replace(theirs, linear=theirs.linear.double()), teacher_ND, V).detach()
    dense = dense_nats(student_NV, teacher_NV, targets_N, objective)
    return found, (dense, gradients(dense[0], student_ND, ours.linear.weight, ours.linear.bias))


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize(("kd_weight", "temperature"), [(1.0, 1.0), (1.0, 2.0), (0.7, 2.0), (0.0, 1.0)])
def test_every_loss_is_the_dense_one(name, options, kd_weight, temperature):
    objective = Objective(name, options, kd_weight=kd_weight, temperature=temperature)
    assert_equal(*both(torch.float64, objective=objective), within=1e-12)
    assert_equal(*both(torch.float32, objective=objective), within=1e-6)


@pytest.mark.parametrize("rows", [(V, V), (V + 6, V), (V, V + 9), (V + 6, V + 9)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("head", [PLAIN, {"scale": 0.3}, {"softcap": 4.0}, ALL])
def test_heads_with_bias_scale_softcap_and_padding_are_the_dense_ones(head, bias, rows):
    objective = Objective(kd_weight=0.7, temperature=2.0)
    got, want = both(torch.float64, head=head, bias=bias, rows=rows, objective=objective)
    assert_equal(got, want, within=1e-12)
    assert not got[1][1][V:].any()


@pytest.mark.parametrize("chunk_bytes", [1, 4 * V, 4 * V * 7, 4 * V * N, 2**28])
def test_size_of_chunks_changes_nothing(chunk_bytes):
    assert_equal(*both(torch.float64, chunk_bytes=chunk_bytes), within=1e-12)


class Largest(TorchDispatchMode):
    """The most rows that any tensor of the vocabulary's width has."""

    rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor) and t.dim() == 2 and t.shape[1] == V:
                self.rows = max(self.rows, len(t))
        return out


@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_tensor_holds_the_logits_of_more_than_one_chunk(name, options):
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1), **ALL)
    objective = Objective(name, options, kd_weight=0.5, temperature=2.0)
    for teacher in (
        Live(teacher_ND, head),
        TopK.of(dense_logits(head, teacher_ND), k=4, temperatures=(2.0,)),
    ):
        if isinstance(teacher, TopK) and name != "forward_kl":
            continue
        with Largest() as largest:
            priced(
                student_ND, targets_N, head=head, teacher=teacher, objective=objective, chunk_bytes=CHUNK_OF_5
            ).loss.backward()
        assert 0 < largest.rows <= D  # the transposed weight is (D, V)


def test_chunks_of_a_cpu_are_alike_and_as_large_as_is_fast_there(monkeypatch):
    """60 tokens where 59 fit are twice 30, not 59 and 1."""
    monkeypatch.setattr("distill.targets.CPU_CHUNK_BYTES", 4 * V * 59)
    student_ND, teacher_ND, targets_N = tokens(n=60)
    head = Head(linear(1))
    with Largest() as largest:
        priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head))
    assert largest.rows == 30


@pytest.mark.parametrize(("name", "options"), CASES)
def test_nothing_to_learn_from_oneself(name, options):
    student_ND, _, targets_N = tokens(dtype=torch.float32)
    head = Head(linear(1, bias=True, dtype=torch.float32), **ALL)
    nats = priced(
        student_ND, targets_N, head=head, teacher=Live(student_ND.detach(), head),
        objective=Objective(name, options, temperature=2.0), chunk_bytes=CHUNK_OF_5,
    )  # fmt: skip
    assert nats.loss == nats.kd == 0
    assert not any(g.any() for g in gradients(nats.loss, student_ND, head.linear.weight, head.linear.bias))


def test_temperature_keeps_the_size_of_the_gradient():
    """T^2 is in the gradient, not in the reported value alone: small logits are pulled alike at every T."""
    norms = []
    for temperature in (1.0, 2.0, 8.0):
        objective = Objective(temperature=temperature)
        _, found = both(torch.float64, head={"scale": 0.01}, objective=objective)[0]
        norms.append(found[0].norm().item())
    assert max(norms) / min(norms) < 1.02


def test_frozen_head_gets_no_gradient():
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1))
    want = gradients(
        priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head)).loss, student_ND
    )
    head.linear.requires_grad_(False)
    priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head)).loss.div(7).backward()
    assert torch.equal(student_ND.grad, want[0])
    assert head.linear.weight.grad is None


def test_evaluation_sums_the_same_and_keeps_no_gradient():
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1))
    want = priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head))
    with torch.no_grad():
        got = priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head))
    assert torch.equal(got.loss, want.loss)
    assert want.loss.requires_grad
    assert not (got.loss.requires_grad or want.kd.requires_grad or want.ce.requires_grad)


def test_without_a_teacher_it_is_cross_entropy():
    student_ND, _, targets_N = tokens()
    head = Head(linear(1))
    nats = priced(student_ND, targets_N, head=head, objective=Objective(kd_weight=0.0))
    want = nn.functional.cross_entropy(dense_logits(head, student_ND), targets_N, reduction="sum")
    assert nats.loss.item() == nats.ce.item() == pytest.approx(want.item(), rel=1e-12)
    assert nats.kd == 0
    with pytest.raises(ValueError, match="without a teacher"):
        priced(student_ND, targets_N, head=head)


def test_micro_batches_of_any_size_add_up():
    """Sum first, divide once: 1 x N == parts, of unequal sizes and one of them empty."""
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1))
    whole = priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head))
    want = gradients(whole.loss, student_ND, head.linear.weight)
    for at in (slice(0, 3), slice(3, 3), slice(3, N)):
        part = priced(student_ND[at], targets_N[at], head=head, teacher=Live(teacher_ND[at], head))
        (part.loss / 7).backward()
    assert relative(student_ND.grad, want[0]) <= 1e-12
    assert relative(head.linear.weight.grad, want[1]) <= 1e-12


def test_process_without_a_token_gives_zeros_to_all():
    student_ND, teacher_ND, targets_N = tokens(n=0)
    head = Head(linear(1, bias=True))
    nats = priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND, head))
    nats.loss.backward()
    assert nats.loss == nats.kd == nats.ce == 0
    assert not head.linear.weight.grad.any()
    assert not head.linear.bias.grad.any()


def test_bfloat16_sums_the_head_over_chunks_in_float32():
    """Many chunks are as near to float64 as one: bfloat16 has 8 bits, and a sum of them would lose more."""
    student_ND, teacher_ND, targets_N = tokens(n=512, dtype=torch.bfloat16)
    head = Head(linear(1, dtype=torch.bfloat16))
    wide = Head(linear(1, dtype=torch.bfloat16).double())
    exact_ND = student_ND.detach().double()
    exact = priced(exact_ND, targets_N, head=wide, teacher=Live(teacher_ND, wide))
    want = gradients(exact.loss, wide.linear.weight)[0]
    errors = {}
    for chunk in (1, 512):
        nats = priced(
            student_ND, targets_N, head=head, teacher=Live(teacher_ND, head), chunk_bytes=4 * V * chunk
        )
        assert nats.loss.item() == pytest.approx(exact.loss.item(), rel=1e-2)
        found = gradients(nats.loss, student_ND, head.linear.weight)
        assert [g.dtype for g in found] == [torch.bfloat16] * 2
        errors[chunk] = relative(found[1].double(), want)
    assert errors[1] <= 1.2 * errors[512] <= 0.02


def test_autocast_computes_both_sides_in_its_dtype():
    student_ND, _, targets_N = tokens(dtype=torch.float32)
    head = Head(linear(1, bias=True, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = priced(
            student_ND, targets_N, head=head, teacher=Live(student_ND.detach(), head),
            objective=Objective(kd_weight=0.5),
        )  # fmt: skip
        dense = nn.functional.cross_entropy(head.linear(student_ND).float(), targets_N, reduction="sum") / 2
    assert same.kd == 0
    assert same.loss.item() == pytest.approx(dense.item(), rel=1e-6)
    for got, want in zip(
        gradients(same.loss, student_ND, head.linear.weight, head.linear.bias),
        gradients(dense, student_ND, head.linear.weight, head.linear.bias),
        strict=True,
    ):
        assert got.dtype == torch.float32
        assert relative(got, want) <= 1e-2


def test_vocabulary_larger_than_a_head_is_refused():
    student_ND, teacher_ND, targets_N = tokens()
    whole, short = Head(linear(1)), Head(linear(2, rows=V - 1))
    for ours, theirs in ((whole, short), (short, whole)):
        with pytest.raises(UserError, match="only 89 rows"):
            priced(student_ND, targets_N, head=ours, teacher=Live(teacher_ND, theirs))


def test_sides_of_different_tokens_are_refused():
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1))
    with pytest.raises(ValueError, match="same tokens"):
        priced(student_ND, targets_N, head=head, teacher=Live(teacher_ND[1:], head))
