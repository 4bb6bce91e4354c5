"""Repairs: what each computes, on models where the right answer is known."""

import pytest
import torch
from families import tiny_model
from tiny import tiny_llama

from fastpath.blocks import find_blocks, keep_blocks
from fastpath.data import Batch
from fastpath.errors import SurgeryError
from fastpath.plan import Plan
from fastpath.writers import find_writers, transformed
from prune.fold import normal_equations, towards_identity
from prune.repair import REPAIRS, Case, Mended, check_repair, put

IDS = torch.arange(3, 60)[None]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plan_of(depth, drop):
    keep = tuple(i for i in range(depth) if i not in drop)
    return Plan(depth=depth, keep=keep, criterion="given", chooser="given", cost=None, unit="")


def batch_of(rows, *, pad=258, width=None):
    width = width or max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    real = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    answer = real.clone()
    answer[:, 0] = False
    return Batch(tuple(range(len(rows))), ids, real, answer)


ROWS = [torch.randint(3, 250, (n,), generator=torch.Generator().manual_seed(n)).tolist()
        for n in range(40, 100, 5)]  # fmt: skip


def case_of(base, drop, *, batches=None, losses=lambda model, block, changes: [0.0] * len(changes)):
    plan = plan_of(len(find_blocks(base)[1]), drop)
    return Case(base, keep_blocks(base, plan.keep), plan, batches or [batch_of(ROWS)], losses)


def linear_base():
    """A model whose block 1 is the map x -> x + A x, where A reads what block 0's MLP alone writes."""
    base = tiny_llama(depth=4)
    first, second = base.model.layers[:2]
    half = 16
    with torch.no_grad():
        base.model.embed_tokens.weight[:, half:] = 0
        first.self_attn.o_proj.weight[half:] = 0
        first.mlp.down_proj.weight[:half] = 0
        second.self_attn.o_proj.weight.zero_()
        second.post_attention_layernorm = torch.nn.Identity()
        second.mlp = torch.nn.Linear(32, 32, bias=False)
        second.mlp.weight[:, :half] = 0
    return base


def test_dropped_block_that_is_linear_is_repaired_in_the_model(monkeypatch):
    monkeypatch.setattr("prune.repair.STRENGTHS", (1e-10,))
    base = linear_base()

    def far(model):
        with torch.no_grad():
            return (model(IDS, use_cache=False).logits - base(IDS, use_cache=False).logits).abs().max().item()

    case = case_of(base, (1,), losses=lambda model, block, changes: [1.0] * (len(changes) - 1) + [0.0])
    before = far(case.cut)
    mended = REPAIRS["linear"](case)
    assert list(mended.weights) == ["model.layers.0.mlp.down_proj.weight"]
    assert far(case.cut) == before, "the cut is left as it was"
    put(case.cut, mended.weights)
    assert before > 1
    assert far(case.cut) < 1e-3


def test_later_spans_are_fitted_to_the_model_as_mended_so_far():
    base = tiny_llama(depth=8)
    losses = {1: [3.0, 1.0, 2.0, 2.0, 2.0], 3: [9.0, 8.0, 7.0, 6.0, 5.0]}
    case = case_of(base, (2, 5), losses=lambda model, block, changes: losses[block])
    both = REPAIRS["linear"](case)
    assert list(both.weights) == [
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.3.mlp.down_proj.weight",
    ]
    assert both.notes == ("block 2: a map folded into block 1, ridge 0.01",
                          "block 5: a map folded into block 4, ridge 10")  # fmt: skip
    put(case.cut, {k: v for k, v in both.weights.items() if ".1." in k})
    writer = find_writers(case.cut)[3].found[0]
    sums = normal_equations(base, case.cut, case.batches, writer, at=3, last=5)
    want = transformed(writer, towards_identity(*sums, strength=10.0))["mlp.down_proj.weight"]
    assert torch.allclose(both.weights["model.layers.3.mlp.down_proj.weight"], want, atol=1e-6)


def test_span_at_the_first_block_is_left_and_says_so():
    for method in ("linear", "merge"):
        mended = REPAIRS[method](case_of(tiny_llama(), (0, 1)))
        assert mended == Mended({}, ("blocks 0 to 1: left as it is, no block comes before it",))


def test_map_that_helps_nothing_is_not_made():
    case = case_of(tiny_llama(), (3,), losses=lambda model, block, changes: list(range(len(changes))))
    mended = REPAIRS["linear"](case)
    assert mended == Mended({}, ("block 3: no map helps",))


def test_merge_adds_the_differences_and_equal_blocks_change_nothing():
    base = tiny_llama()
    key = "mlp.up_proj.weight"
    a, b, c = (base.model.layers[i].state_dict()[key] for i in (1, 2, 3))
    mended = REPAIRS["merge"](case_of(base, (2, 3)))
    assert torch.allclose(mended.weights[f"model.layers.1.{key}"], b + c - a, atol=1e-6)
    base.model.layers[2].load_state_dict(base.model.layers[1].state_dict())
    same = REPAIRS["merge"](case_of(base, (2,)))
    for name, value in base.model.layers[1].state_dict().items():
        assert torch.equal(same.weights[f"model.layers.1.{name}"], value)


def test_norm_undoes_a_block_that_only_lengthens_the_stream():
    """Block 2 is x -> 3 x: its cosine cost is 0, yet what follows writes too much beside it."""
    base = tiny_llama(tie_word_embeddings=False)
    block = base.model.layers[2]
    with torch.no_grad():
        block.self_attn.o_proj.weight.zero_()
        block.post_attention_layernorm = torch.nn.Identity()
        block.mlp = torch.nn.Linear(32, 32, bias=False)
        block.mlp.weight.copy_(2 * torch.eye(32))
        case = case_of(base, (2,))
        want = base(IDS, use_cache=False).logits
        plain = (case.cut(IDS, use_cache=False).logits - want).abs().max()
        mended = REPAIRS["norm"](case)
        assert mended.notes == ("block 2: written before it times 3.000",)
        put(case.cut, mended.weights)
        assert (case.cut(IDS, use_cache=False).logits - want).abs().max() < 1e-3 * plain


def test_norm_asks_what_a_span_does_to_tokens_but_the_first():
    """Planted sink: the first token's stream is very long, and block 2 does not change that."""
    base, batch = tiny_llama(tie_word_embeddings=False), batch_of([[256, *row] for row in ROWS])
    with torch.no_grad():
        base.model.embed_tokens.weight[256] *= 10_000
        streams = base(**batch.inputs, output_hidden_states=True).hidden_states
    lengths_BT = [streams[i].double().norm(dim=-1) for i in (2, 3)]  # before and after block 2
    others_BT = batch.attention.clone()
    others_BT[:, 0] = False
    ratios = [
        (lengths_BT[1][at].sum() / lengths_BT[0][at].sum()).item() for at in (batch.attention, others_BT)
    ]
    assert abs(ratios[0] - 1) < 0.05 < 0.2 < abs(ratios[1] - 1), "the sink would decide"
    mended = REPAIRS["norm"](case_of(base, (2,), batches=[batch]))
    alpha = mended.weights["model.embed_tokens.weight"].norm() / base.model.embed_tokens.weight.norm()
    assert alpha.item() == pytest.approx(ratios[1], rel=1e-5)
    assert mended.notes == (f"block 2: written before it times {ratios[1]:.3f}",)


def test_norm_is_refused_where_embeddings_are_tied_or_positions_are_learned():
    check_repair("norm", tiny_llama(tie_word_embeddings=False))
    with pytest.raises(SurgeryError, match="its embeddings are tied"):
        check_repair("norm", tiny_llama())
    base = tiny_model("gpt_bigcode", tie_word_embeddings=False)
    with pytest.raises(SurgeryError, match=r"cannot be scaled; prune\.repair: linear, merge or none works"):
        REPAIRS["norm"](case_of(base, (2,), batches=[batch_of([list(range(3, 40))], pad=0)]))


@pytest.mark.parametrize("family", ["gemma2", "olmo2", "mixtral"])
def test_family_that_nothing_can_be_folded_into_is_refused_in_one_line(family):
    model = tiny_model(family)
    for method in ("linear", "norm"):
        with pytest.raises(SurgeryError) as error:
            check_repair(method, model)
        assert "\n" not in str(error.value) and "prune.repair:" in str(error.value)
    check_repair("merge", model)


@pytest.mark.parametrize(
    ("family", "tied", "refused", "advice"),
    [
        ("gemma3_text", True, ("linear", "norm"), "prune.repair: merge or none works"),
        ("mixtral", False, ("linear", "norm"), "prune.repair: merge or none works"),
        ("llama", True, ("norm",), "prune.repair: linear, merge or none works"),
    ],
)
def test_refusal_advises_what_is_accepted_and_nothing_else(family, tied, refused, advice):
    model = tiny_model(family, tie_word_embeddings=tied)
    for method in REPAIRS:
        if method in refused:
            with pytest.raises(SurgeryError, match=advice):
                check_repair(method, model)
        else:
            check_repair(method, model)
            assert method in advice
