"""The least squares of a linear repair, and folding: folded is hooked, pads and batches change nothing."""

from itertools import pairwise

import pytest
import torch
from families import tiny_model
from test_repair import ROWS, batch_of, case_of, random
from tiny import tiny_llama

from fastpath.blocks import find_blocks
from fastpath.stepping import stream_after
from fastpath.writers import find_writers, scaled, transformed
from prune.fold import normal_equations, towards_identity, weighted_sums
from prune.repair import changed


def test_span_that_is_exactly_linear_is_repaired_and_a_plain_cut_is_not():
    written, rest, a = random(3, 50, 8), random(3, 50, 8, seed=1), random(8, 8, seed=2)
    target = rest + written + written @ a  # so T = 1 + A
    real = torch.ones(3, 50, dtype=torch.bool)
    found = towards_identity(*weighted_sums(written, rest + written, target, real_BT=real), strength=1e-12)
    assert torch.allclose(found, torch.eye(8, dtype=torch.float64) + a, atol=1e-8)
    assert (rest + written @ found - target).abs().max() < 1e-5
    assert (rest + written - target).abs().max() > 1


def test_residual_multiplier_is_not_part_of_the_map():
    written, rest, a = random(3, 50, 8), random(3, 50, 8, seed=1), random(8, 8, seed=2)
    real = torch.ones(3, 50, dtype=torch.bool)
    sums = weighted_sums(written, rest + 0.5 * written, rest + 0.5 * written @ a, real_BT=real, scale=0.5)
    assert torch.allclose(towards_identity(*sums, strength=1e-12), a, atol=1e-8)


def test_a_large_ridge_is_the_plain_cut_and_too_few_tokens_do_not_explode():
    written, target = random(1, 3, 8), random(1, 3, 8, seed=1)  # 3 tokens, 8 unknowns a row
    sums = weighted_sums(written, written, target, real_BT=torch.ones(1, 3, dtype=torch.bool))
    eye = torch.eye(8, dtype=torch.float64)
    far = [(towards_identity(*sums, strength=s) - eye).norm() for s in (1e-3, 1.0, 1e3, 1e9)]
    assert all(a > b for a, b in pairwise(far))
    assert far[0] < 100 and far[-1] < 1e-6
    assert torch.equal(towards_identity(torch.zeros(8, 8), torch.zeros(8, 8), strength=1.0), torch.eye(8))


def test_a_token_counts_by_its_direction_not_by_its_length():
    """The sink token is hundreds of times longer than others."""
    written, rest, target = (random(1, 20, 4, seed=i) for i in range(3))
    long = torch.ones(1, 20, 1, dtype=torch.float64)
    long[0, 0] = 1000
    real = torch.ones(1, 20, dtype=torch.bool)
    want = weighted_sums(written, rest + written, target, real_BT=real)
    found = weighted_sums(long * written, long * (rest + written), long * target, real_BT=real)
    for a, b in zip(want, found, strict=True):
        assert torch.allclose(a, b)


def test_pads_do_not_enter_and_batch_shape_changes_nothing():
    base = tiny_llama()
    case = case_of(base, (3,))
    writer = find_writers(case.cut)[2].found[0]

    def sums(batches):
        return normal_equations(base, case.cut, batches, writer, at=2, last=3)

    want = sums([batch_of([row]) for row in ROWS])  # no pads at all
    for batches in ([batch_of(ROWS)], [batch_of(ROWS, width=200, pad=7)],
                    [batch_of(ROWS[:5]), batch_of(ROWS[5:])]):  # fmt: skip
        for a, b in zip(want, sums(batches), strict=True):
            assert a.dtype == torch.float64
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * a.abs().max())


# What writes to the stream, and folding


FOLDABLE = ["llama", "gpt2", "gpt_neox", "phi", "mamba", "starcoder2", "opt"]


@pytest.mark.parametrize("family", FOLDABLE)
def test_folded_is_hooked_and_the_identity_changes_nothing(family):
    model = tiny_model(family)
    path, ids = find_blocks(model)[0], torch.arange(3, 40)[None]
    writer = find_writers(model)[2].found[0]
    width = model.get_input_embeddings().weight.shape[1]
    with torch.no_grad():
        plain = model(ids, use_cache=False).logits
        same = transformed(writer, torch.eye(width))
        with changed(model, {f"{path}.2.{key}": value for key, value in same.items()}):
            assert torch.equal(model(ids, use_cache=False).logits, plain)
        map_DD = random(width, width) / width**0.5
        hook = writer.module.register_forward_hook(lambda _, args, out: (out.double() @ map_DD).to(out))
        want = model(ids, use_cache=False).logits
        hook.remove()
        new = transformed(writer, map_DD)
        with changed(model, {f"{path}.2.{key}": value for key, value in new.items()}):
            found = model(ids, use_cache=False).logits
        assert (want - plain).abs().max() > 1e-3 * plain.abs().max()
        assert (found - want).abs().max() < 1e-5 * want.abs().max()
        assert torch.equal(model(ids, use_cache=False).logits, plain), "its own weights come back"


@pytest.mark.parametrize("family", FOLDABLE)
def test_writers_are_all_that_a_block_adds(family):
    for writers in find_writers(model := tiny_model(family)):
        assert writers.complete and writers.found
    for writer in (w for writers in find_writers(model) for w in writers.found):
        put_in = scaled(writer, 0.0)
        block = next(b for b in find_blocks(model)[1] if any(m is writer.module for m in b.modules()))
        block.load_state_dict(put_in, strict=False)
    streams = [stream_after(model, i, batch_of([list(range(3, 20))]).inputs) for i in (-1, 5)]
    assert torch.equal(*streams)


def test_scale_of_a_writer_is_found():
    model = tiny_model("granite", residual_multiplier=0.25)
    assert [w.scale for w in find_writers(model)[1].found] == pytest.approx([0.25, 0.25])
