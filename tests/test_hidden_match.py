"""Hidden states at a cut: pairs follow from the plan, streams are the blocks' own, the error is relative."""

import pytest
import torch
from families import DEPTH, KEEP, tiny_model
from tiny import tiny_llama

from distill.hidden import hidden_error, next_input_pairs, outputs_of
from fastpath.blocks import find_blocks, keep_blocks

IDS_BT = torch.randint(3, 90, (2, 14), generator=torch.Generator().manual_seed(0))
AT_BT = torch.rand(2, 14, generator=torch.Generator().manual_seed(1)) > 0.3


def compare(student, teacher, keep):
    """The error of each pair."""
    pairs = next_input_pairs(keep, len(find_blocks(teacher)[1]))
    with outputs_of(student, {i for i, _ in pairs}) as ours:
        student(IDS_BT, use_cache=False)
    with torch.no_grad(), outputs_of(teacher, {j for _, j in pairs}) as theirs:
        teacher(IDS_BT, use_cache=False)
    return {pair: hidden_error(ours, theirs, (pair,), AT_BT) for pair in pairs}


@pytest.mark.parametrize(
    ("keep", "depth", "pairs"),
    [
        ([0, 1, 2, 5], 6, ((2, 4), (3, 5))),  # 3 and 4 go: block 2 is to give what 5 reads, the output of 4
        ([0, 2, 3, 5], 6, ((0, 1), (1, 2), (2, 4), (3, 5))),
        ([0, 1, 2, 3], 6, ((3, 5),)),  # the end goes: the last block is to give what the norm reads
        ([1, 2], 3, ((0, 1), (1, 2))),  # block 0 goes: nothing comes before the cut
        ([2], 4, ((0, 3),)),
    ],
)
def test_a_block_is_to_give_what_the_next_kept_one_reads(keep, depth, pairs):
    assert next_input_pairs(keep, depth) == pairs


@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom", "falcon_mamba"])
def test_a_cut_model_leaves_the_original_at_the_first_cut_and_not_before(family):
    model = tiny_model(family)
    student = keep_blocks(model, KEEP)
    with torch.no_grad(), outputs_of(student, range(len(KEEP))) as ours:
        student(IDS_BT, use_cache=False)
    with torch.no_grad(), outputs_of(model, range(DEPTH)) as theirs:
        model(IDS_BT, use_cache=False)
    assert torch.equal(ours[0], theirs[0])
    assert not torch.equal(ours[1], theirs[2])
    assert all(error > 1e-6 for error in compare(student, model, KEEP).values())


def test_blocks_that_do_nothing_leave_nothing_to_bridge():
    model = tiny_llama()
    blocks = find_blocks(model)[1]
    for i in (1, 4):
        for silent in (blocks[i].self_attn.o_proj, blocks[i].mlp.down_proj):
            torch.nn.init.zeros_(silent.weight)
    student = keep_blocks(model, KEEP).requires_grad_()
    errors = compare(student, model, KEEP)
    assert not any(error for error in errors.values())
    sum(errors.values()).backward()
    assert not any(p.grad.any() for p in student.parameters() if p.grad is not None)


def test_last_block_is_read_before_the_final_norm():
    model = tiny_llama()
    with torch.no_grad(), outputs_of(model, [5]) as outputs:
        found = model(IDS_BT, use_cache=False, output_hidden_states=True)
        assert torch.equal(model.model.norm(outputs[5]), found.hidden_states[-1])
    assert list(outputs) == [5]


def test_error_is_relative_to_each_token_and_pads_do_not_count():
    """A first token a thousand times as long as the others weighs no more than they do."""
    teacher_BTD = torch.randn(2, 14, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    teacher_BTD[:, 0] *= 1000
    student_BTD = teacher_BTD * 1.1
    student_BTD[~AT_BT] = 1e9
    got = hidden_error({0: student_BTD, 1: teacher_BTD}, {3: teacher_BTD}, ((0, 3),), AT_BT)
    assert got.item() == pytest.approx(0.01 * AT_BT.sum().item(), rel=1e-5)
    halved = hidden_error({0: student_BTD, 1: teacher_BTD}, {3: teacher_BTD}, ((0, 3), (1, 3)), AT_BT)
    assert halved.item() == pytest.approx(got.item() / 2)


def test_parts_add_up():
    teacher_BTD, student_BTD = torch.randn(2, 2, 14, 8, generator=torch.Generator().manual_seed(0)).double()
    first_BT = torch.zeros_like(AT_BT)
    first_BT[0] = AT_BT[0]
    parts = [
        hidden_error({0: student_BTD}, {0: teacher_BTD}, ((0, 0),), a) for a in (first_BT, AT_BT & ~first_BT)
    ]
    whole = hidden_error({0: student_BTD}, {0: teacher_BTD}, ((0, 0),), AT_BT)
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-12)
    assert hidden_error({0: student_BTD}, {0: teacher_BTD}, ((0, 0),), torch.zeros_like(AT_BT)) == 0


def test_gradient_checkpointing_changes_nothing():
    teacher = tiny_llama()
    found = []
    for checkpointed in (False, True):
        student = keep_blocks(tiny_llama(), KEEP).requires_grad_().train()
        if checkpointed:
            student.gradient_checkpointing_enable()
        sum(compare(student, teacher, KEEP).values()).backward()
        found.append({name: p.grad for name, p in student.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 10
    for name in found[0]:
        assert torch.allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-6)
