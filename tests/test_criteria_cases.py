"""Criteria on hand-derived cases, and the mistakes that other tools make here (research: pruning.md, 1b)."""

import math

import numpy as np
import pytest
import torch
from test_criteria import ITEMS, costs, silence
from tiny import byte_tokenizer, tiny_llama

from fastpath.blocks import skipping
from fastpath.data import Batch, item_batches
from fastpath.errors import ModelError
from prune.criteria import CRITERIA, kl_sums, spans
from prune.linear import fit_replacements, linear_cost

ONE_PASS = ("cosine", "norm_ratio", "angular", "linear")


def batch_of(items):
    (batch,) = item_batches(items, byte_tokenizer(), batch_tokens=10**6)
    return batch


@torch.no_grad()
def logits_of(model, batch, drop=()):
    with skipping(model, drop):
        return model(**batch.inputs, use_cache=False).logits.double()


@torch.no_grad()
def last_streams(model, batch):
    """(before, after) of the last block by what enters it and what enters the final norm: no hook of ours."""
    seen = {}
    hooks = [
        model.model.layers[-1].register_forward_pre_hook(
            lambda _, args: seen.update(before=args[0].double())
        ),
        model.model.norm.register_forward_pre_hook(lambda _, args: seen.update(after=args[0].double())),
    ]
    model(**batch.inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen["before"][0], seen["after"][0]


def test_last_block_is_measured_before_the_final_norm():
    model, batch = tiny_llama(), batch_of(ITEMS[:1])
    before_TD, after_TD = last_streams(model, batch)
    cos_T = torch.cosine_similarity(before_TD, after_TD, dim=-1)
    want = {
        "cosine": (1 - cos_T).mean().item(),
        "norm_ratio": ((after_TD - before_TD).norm(dim=-1) / before_TD.norm(dim=-1)).mean().item(),
        "angular": math.acos(cos_T[-1].item()) / math.pi,
    }
    for criterion, value in want.items():
        column = spans(6).index((5, 6)) if CRITERIA[criterion].spans else 5
        got = costs(model, criterion, items=ITEMS[:1])[0, column]
        assert got == pytest.approx(value, abs=1e-6), criterion


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pads_may_hold_anything(criterion):
    """No mean, no last token and no map looks at a pad."""
    model, batch = tiny_llama(), batch_of(ITEMS)
    other = torch.where(batch.attention, batch.ids, 7)
    half = np.arange(len(ITEMS)) % 2 == 0

    def part(ids, folder):
        made = Batch(batch.index, ids, batch.attention, batch.answer)
        return CRITERIA[criterion].ready(model, [made], half, folder)(model, made)

    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        want, got = part(batch.ids, Path(one)), part(other, Path(two))
    assert not batch.attention.all(), "this batch has pads"
    assert np.allclose(want.sums, got.sums, atol=1e-9)
    assert want.tokens == got.tokens


def test_kl_sums_over_the_vocabulary_and_answer_tokens():
    model, batch = tiny_llama(), batch_of(ITEMS)
    part = CRITERIA["kl"].function(model, batch)
    base, skipped = logits_of(model, batch).softmax(-1), logits_of(model, batch, [2]).softmax(-1)
    for row, items in enumerate(part.sums):
        at = batch.answer[row].nonzero()[:, 0] - 1
        p, q = base[row, at], skipped[row, at]
        assert items[2] == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-4)
        assert part.tokens[row] == len(at)


@pytest.mark.parametrize("positions", [1, 5, 1000])
def test_kl_of_a_few_positions_at_a_time_is_that_of_all(monkeypatch, positions):
    monkeypatch.setattr("prune.criteria.KL_POSITIONS", positions)
    batch = batch_of(ITEMS)
    base_NV, skipped_NV = (logits_of(tiny_llama(), batch, drop)[batch.answer] for drop in ([], [2]))
    p_NV, q_NV = (logits_NV.float().log_softmax(-1) for logits_NV in (base_NV, skipped_NV))
    want_N = torch.nn.functional.kl_div(q_NV, p_NV, reduction="none", log_target=True).double().sum(-1)
    assert len(want_N) % 5, "the last chunk is a smaller one"
    assert torch.allclose(kl_sums(base_NV, skipped_NV), want_N, rtol=1e-6, atol=0)


def test_kl_is_never_negative():
    assert costs(tiny_llama(), "kl").min() >= 0


def test_taylor_is_the_sum_of_weight_times_gradient_of_each_item():
    model, item = tiny_llama(), ITEMS[0]
    got = costs(model, "taylor", items=[item])[0]
    batch = batch_of([item])
    nats = torch.nn.functional.cross_entropy(
        model(**batch.inputs, use_cache=False).logits[0, :-1][batch.answer[0, 1:]],
        batch.ids[batch.answer],
        reduction="sum",
    )
    nats.backward()
    for i, block in enumerate(model.model.layers):
        want = sum((w * w.grad).abs().sum().item() for w in block.parameters()) / batch.answer.sum().item()
        assert got[i] == pytest.approx(want, rel=1e-4)


def test_taylor_counts_products_that_are_zero_in_float16():
    model, batch = tiny_llama(tie_word_embeddings=False).half(), batch_of(ITEMS[:1])
    block = model.model.layers[3]
    with torch.no_grad():
        for weight in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
            weight *= 1e-6
    (got,) = CRITERIA["taylor"].function(model, batch).sums
    logits_TV = model(**batch.inputs, use_cache=False).logits[0].float()
    answers_T = torch.roll(batch.answer[0], -1)
    nats = torch.nn.functional.cross_entropy(logits_TV[answers_T], batch.ids[batch.answer], reduction="sum")
    nats.backward()
    want = sum((w.double() * w.grad.double()).abs().sum().item() for w in block.parameters())
    rounded = sum((w * w.grad).double().abs().sum().item() for w in block.parameters())
    assert rounded < 0.8 * want
    assert got[3] == pytest.approx(want, rel=1e-2)


def test_taylor_leaves_no_gradient_and_no_switch_behind():
    model = tiny_llama().requires_grad_(False)
    model.lm_head.weight.requires_grad_()
    costs(model, "taylor")
    assert [name for name, w in model.named_parameters() if w.requires_grad] == ["model.embed_tokens.weight"]
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(weight._post_accumulate_grad_hooks for weight in model.parameters())


class Toy(torch.nn.Module):
    """A linear block: RMSNorm makes a Llama block non-linear whatever its weights are."""

    def __init__(self, map_DD):
        super().__init__()
        self.map_DD = map_DD

    def forward(self, x_BTD, **_):
        return x_BTD + x_BTD @ self.map_DD


@pytest.mark.parametrize("width", [32, 96])  # with more widths than tokens of a half there is no unique map
def test_linear_block_has_an_r2_of_1(width, tmp_path):
    model = tiny_llama(hidden_size=width)
    random = torch.Generator().manual_seed(0)
    model.model.layers[2] = Toy(torch.randn(width, width, generator=random) / width**0.5)
    batch, half = batch_of(ITEMS), np.arange(len(ITEMS)) % 2 == 0
    part = linear_cost(model, batch, fit_replacements(model, [batch], half, tmp_path))
    table = np.array(part.sums) / np.array(part.tokens)[:, None]
    assert table[:, 2].max() < 1e-6
    assert np.delete(table.mean(0), 2).min() > 0.01


def test_linear_map_is_least_squares_of_the_other_half(tmp_path):
    model = tiny_llama()
    batch, half = batch_of(ITEMS), np.array([i < 2 for i in range(len(ITEMS))])
    fitted = fit_replacements(model, [batch], half, tmp_path)
    seen = {}
    with torch.no_grad():
        hook = model.model.layers[4].register_forward_hook(
            lambda _, args, out: seen.update(x=args[0].double(), f=out.double() - args[0].double(), y=out)
        )
        model(**batch.inputs, use_cache=False)
        hook.remove()
    rows = torch.tensor([not half[i] for i in batch.index])[:, None] & batch.attention
    scale = 1 / seen["y"][rows].double().norm(dim=-1, keepdim=True)
    want = torch.linalg.lstsq(seen["x"][rows] * scale, seen["f"][rows] * scale).solution
    assert torch.allclose(fitted.maps[0][4], want, atol=1e-3)
    assert fitted.held_out(4, seen["x"][0], 0).shape == seen["x"][0].shape


def test_killed_fit_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch):
    model, half = tiny_llama(), np.arange(len(ITEMS)) % 2 == 0
    batches = item_batches(ITEMS, byte_tokenizer(), batch_tokens=1)
    want = fit_replacements(model, batches, half, tmp_path / "calm").maps
    monkeypatch.setattr("prune.linear.SECONDS_BETWEEN_SAVES", 0.0)
    seen = []

    def dies(*args):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(args)
        real(*args)

    import prune.linear

    real = prune.linear._accumulate
    monkeypatch.setattr("prune.linear._accumulate", dies)
    with pytest.raises(KeyboardInterrupt):
        fit_replacements(model, batches, half, tmp_path / "killed")
    monkeypatch.setattr("prune.linear._accumulate", lambda *args: (seen.append(args), real(*args)))
    got = fit_replacements(model, batches, half, tmp_path / "killed").maps
    assert len(seen) == len(batches), "no batch was seen twice"
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("criterion", ONE_PASS)
def test_costs_do_not_depend_on_the_scale_of_the_stream(criterion):
    """Scaling embeddings and all writers scales the stream; the norms before each sublayer undo it."""
    model = tiny_llama(tie_word_embeddings=False, rms_norm_eps=1e-12).double()
    want = costs(model, criterion)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(4)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(4)
            layer.mlp.down_proj.weight.mul_(4)
    assert np.allclose(costs(model, criterion), want, atol=1e-5)


def test_blocks_that_do_nothing_are_the_cheapest_wherever_they_are():
    for criterion in (*ONE_PASS, "taylor", "kl"):
        model = silence(silence(tiny_llama(), 0), 5)
        table = costs(model, criterion).mean(0)
        if CRITERIA[criterion].spans:
            table = table[[spans(6).index((i, i + 1)) for i in range(6)]]
        assert set(np.argsort(table)[:2]) == {0, 5}, criterion


@pytest.mark.parametrize("criterion", [*ONE_PASS, "kl"])
def test_stream_that_overflows_is_one_clear_error(criterion, tmp_path):
    """At every token but the one whose likelihood a pass over the blocks computes: that one is finite."""
    model, batch, half = tiny_llama(), batch_of(ITEMS), np.arange(len(ITEMS)) % 2 == 0

    def overflow(_, args, out):
        seen_T = torch.arange(out.shape[1]) == out.shape[1] - 2
        return torch.where(seen_T[None, :, None], out, torch.inf)

    model.model.layers[-1].register_forward_hook(overflow)
    with pytest.raises(ModelError, match="not finite in float32: its weights are broken, or try") as error:
        CRITERIA[criterion].ready(model, [batch], half, tmp_path)(model, batch)
    assert "\n" not in str(error.value)
