"""What is kept of a teacher trains as the teacher does."""

import pytest
from dense_losses import (
    CHUNK_OF_5,
    V,
    assert_equal,
    dense_logits,
    gradients,
    linear,
    priced,
    relative,
    tokens,
)

from distill.head import Head
from distill.losses import Objective
from distill.targets import Expected, Live, TopK
from fastpath.errors import UserError


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_cached_teachers_are_the_live_one(temperature):
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1).requires_grad_(False), scale=0.5)
    objective = Objective(kd_weight=0.7, temperature=temperature)
    logits_NV = dense_logits(head, teacher_ND)
    found = []
    for teacher in (
        Live(teacher_ND, head),
        TopK.of(logits_NV, k=V, temperatures=(temperature,)),
        Expected.of(logits_NV, head, temperature=temperature),
    ):
        nats = priced(
            student_ND, targets_N, head=head, teacher=teacher, objective=objective, chunk_bytes=CHUNK_OF_5
        )
        found.append(((nats.loss, nats.kd, nats.ce), gradients(nats.loss, student_ND)))
    assert_equal(found[1], found[0], within=1e-12)
    assert_equal(found[2], found[0], within=1e-12)


def test_top_k_trains_the_head_too():
    student_ND, teacher_ND, targets_N = tokens()
    head = Head(linear(1))
    live, cached = (
        gradients(priced(student_ND, targets_N, head=head, teacher=teacher).loss, head.linear.weight)[0]
        for teacher in (Live(teacher_ND, head), TopK.of(dense_logits(head, teacher_ND).detach(), k=V))
    )
    assert relative(cached, live) <= 1e-12


def test_expected_embedding_refuses_what_it_is_not_exact_for():
    student_ND, teacher_ND, targets_N = tokens()
    frozen = linear(1).requires_grad_(False)
    cache = Expected.of(dense_logits(Head(frozen), teacher_ND), Head(frozen), temperature=1.0)
    biased = linear(1, bias=True).requires_grad_(False)
    for head in (Head(linear(1)), Head(frozen, softcap=3.0), Head(biased)):
        with pytest.raises(UserError, match="frozen head with neither bias nor softcap"):
            priced(student_ND, targets_N, head=head, teacher=cache)
    for words in ({"temperature": 2.0}, {"loss": "tvd"}):
        with pytest.raises(UserError):
            priced(student_ND, targets_N, head=Head(frozen), teacher=cache, objective=Objective(**words))
