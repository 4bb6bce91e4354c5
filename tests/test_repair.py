"""Repairs: folded is what was fitted, pads and batches change nothing, what does not help is not applied."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from families import tiny_model
from tiny import byte_tokenizer, tiny_llama, write_recipe, write_tiny

from fastpath.blocks import find_blocks, keep_blocks
from fastpath.config import PruneConfig
from fastpath.data import Batch, item_batches
from fastpath.errors import SurgeryError
from fastpath.models import Lineage
from fastpath.plan import Plan, read_plan, repair_words
from fastpath.recipe_file import load_recipe
from fastpath.writers import find_writers, scaled, transformed
from prune.fold import normal_equations, stream_after, towards_identity, weighted_sums
from prune.judge import Parts, judged, mean_nats, repair_items, suite_nats
from prune.repair import REPAIRS, Case, Mended, changed, check_repair, put

IDS = torch.arange(3, 60)[None]
CONFIG = PruneConfig(drop=1, items_per_task=4)


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


# The least squares


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
    streams = [stream_after(model, i, batch_of([list(range(3, 20))])) for i in (-1, 5)]
    assert torch.equal(*streams)


def test_scale_of_a_writer_is_found():
    model = tiny_model("granite", residual_multiplier=0.25)
    assert [w.scale for w in find_writers(model)[1].found] == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("family", ["gemma2", "olmo2", "mixtral"])
def test_family_that_nothing_can_be_folded_into_is_refused_in_one_line(family):
    model = tiny_model(family)
    for method in ("linear", "norm"):
        with pytest.raises(SurgeryError) as error:
            check_repair(method, model)
        assert "\n" not in str(error.value) and "prune.repair:" in str(error.value)
    check_repair("merge", model)


# The repairs


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


def test_norm_is_refused_where_embeddings_are_tied_or_positions_are_learned():
    check_repair("norm", tiny_llama(tie_word_embeddings=False))
    with pytest.raises(SurgeryError, match="its embeddings are tied"):
        check_repair("norm", tiny_llama())
    base = tiny_model("gpt_bigcode", tie_word_embeddings=False)
    with pytest.raises(SurgeryError, match="cannot be scaled"):
        REPAIRS["norm"](case_of(base, (2,), batches=[batch_of([list(range(3, 40))], pad=0)]))


# The verdict


def test_changes_are_compared_by_the_nats_of_the_whole_changed_model():
    """Only the blocks from the changed one on are computed again."""
    cut = tiny_llama()
    suites = repair_items(CONFIG, seed=0).choose
    batches = {
        name: item_batches(items, byte_tokenizer(), batch_tokens=500) for name, items in suites.items()
    }
    name = "model.layers.3.mlp.down_proj.weight"
    changes = [{}, {name: 2 * cut.state_dict()[name]}, {name: -cut.state_dict()[name]}]
    want = []
    for weights in changes:
        with changed(cut, weights):
            pairs = [suite_nats(cut, items, byte_tokenizer(), batch_tokens=500) for items in suites.values()]
        want.append(sum(nats.sum() / tokens.sum() for nats, tokens in pairs))
    assert mean_nats(cut, 3, changes, suites=batches) == pytest.approx(want, abs=1e-6)
    assert len({round(x, 3) for x in want}) == 3


def test_parts_share_no_template_and_no_item_that_was_scored():
    parts = repair_items(PruneConfig(drop=1), seed=0)
    assert isinstance(parts, Parts)
    templates = [
        {(item.task, item.template) for items in part.values() for item in items}
        for part in (parts.fit, parts.choose, parts.judge)
    ]
    assert all(templates)
    assert len(set.union(*templates)) == sum(map(len, templates))
    from prune.calibration import calibration_items

    scored = {item.id for items in calibration_items(PruneConfig(drop=1), seed=0) for item in items}
    assert not scored & set(parts.ids)
    assert {item.split for part in (parts.fit, parts.judge) for i in part.values() for item in i} == {
        "calibration"
    }


def verdict(model, weights, suites=None):
    judge = suites or repair_items(CONFIG, seed=0).judge
    return judged(
        "linear", Mended(weights, ("x",)), model, judge, byte_tokenizer(), seed=0, batch_tokens=1024
    )


def test_rise_is_that_of_the_mended_model_and_its_undoing_is_the_opposite():
    cut = tiny_llama()
    name = "model.layers.5.mlp.down_proj.weight"
    own, other = cut.state_dict()[name], 10 * cut.state_dict()[name]
    there = verdict(cut, {name: other})
    assert there.simple_rise[0] == pytest.approx(there.simple_after_nats - there.simple_before_nats)
    put(cut, {name: other})
    back = verdict(cut, {name: own})
    assert back.simple_before_nats == pytest.approx(there.simple_after_nats)
    assert back.simple_rise[0] == pytest.approx(-there.simple_rise[0])
    assert back.complex_rise[0] == pytest.approx(-there.complex_rise[0])
    same = verdict(cut, {})
    assert not same.applied and same.simple_rise == (0, 0, 0)


@pytest.mark.parametrize(
    ("simple", "complex", "applied"),
    [(-0.1, 0.0, True), (-0.1, -0.1, True), (0.1, -0.1, False), (0.0, 0.0, False), (-0.1, 0.1, False)],
)
def test_useless_repair_is_not_applied_and_says_so_with_both_numbers(monkeypatch, simple, complex, applied):
    """Planted: every item of a suite changes by the same, so the interval is a point."""
    suites = repair_items(CONFIG, seed=0).judge
    calls = iter([1.0, 1.0 + simple, 2.0, 2.0 + complex])

    def planted(model, items, tokenizer, *, batch_tokens):
        return np.full(len(items), 3 * next(calls)), np.full(len(items), 3.0)

    monkeypatch.setattr("prune.judge.suite_nats", planted)
    found = verdict(tiny_llama(), {}, suites)
    assert found.applied is applied
    assert found.simple_rise == pytest.approx((simple,) * 3)
    assert found.complex_rise == pytest.approx((complex,) * 3)
    words = repair_words(found)
    assert ("NOT applied" in words) is not applied
    assert f"simple 1.000 -> {1 + simple:.3f}" in words and f"complex 2.000 -> {2 + complex:.3f}" in words


def test_complex_items_may_not_tell_on_the_rise(monkeypatch):
    """A rise on complex items whose interval holds 0 does not count against a repair."""
    suites = repair_items(CONFIG, seed=0).judge
    change = iter(
        [np.zeros, lambda n: np.full(n, -1.0), np.zeros, lambda n: 0.1 + 3.0 * (-1) ** np.arange(n)]
    )

    def planted(model, items, tokenizer, *, batch_tokens):
        return next(change)(len(items)), np.ones(len(items))

    monkeypatch.setattr("prune.judge.suite_nats", planted)
    found = verdict(tiny_llama(), {}, suites)
    assert found.complex_rise[1] < 0 < found.complex_rise[2]
    assert found.applied


# The stage


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


def run_repair(base_folder, out, method, **changes):
    from tiny import run_stage

    prune = {"criterion": "cosine", "repair": method, "drop": 2, **changes}
    recipe = write_recipe(out.parent / f"{out.name}.yaml", model=base_folder, out=out, prune=prune)
    assert run_stage("prune", recipe) == 0
    return out / "prune"


def test_repair_is_told_in_plan_lineage_and_card(base_folder, tmp_path, monkeypatch, capsys):
    """Whether it helps a random model is chance: the gate is set both ways."""
    import prune.judge

    plain = run_repair(base_folder, tmp_path / "plain", "none")
    assert read_plan(plain / "plan.json").repair is None
    assert Lineage.read(plain / "model").repair == "none"
    real = prune.judge.judged
    for applied in (True, False):
        monkeypatch.setattr(
            prune.judge,
            "judged",
            lambda *a, applied=applied, **k: real(*a, **k).model_copy(update={"applied": applied}),
        )
        folder = run_repair(base_folder, tmp_path / str(applied), "merge")
        repair = read_plan(folder / "plan.json").repair
        assert repair.applied is applied
        assert Lineage.read(folder / "model").repair == ("merge" if applied else "none")
        words = f"merge, {'applied' if applied else 'NOT applied'}"
        card = (folder / "model" / "README.md").read_text()
        assert words in card and f"{repair.simple_before_nats:.3f} ->" in card
        assert f"{repair.complex_before_nats:.3f} ->" in card
        assert words in capsys.readouterr().out
        same = (folder / "model/model.safetensors").read_bytes() == (
            plain / "model/model.safetensors"
        ).read_bytes()
        assert same is not applied
        seen = set(Lineage.read(folder / "model").calibration_items)
        config = load_recipe(folder / "config.yaml").prune
        assert seen == {*Lineage.read(plain / "model").calibration_items, *repair_items(config, seed=0).ids}


def test_the_same_repair_twice_is_the_same_bytes(base_folder, tmp_path, monkeypatch):
    """Export and repair are one step: a killed run does it again, and must end as an uninterrupted one."""
    import prune.judge

    real = prune.judge.judged
    monkeypatch.setattr(
        prune.judge, "judged", lambda *a, **k: real(*a, **k).model_copy(update={"applied": True})
    )
    calm = run_repair(base_folder, tmp_path / "calm", "linear")
    with monkeypatch.context() as patch:
        patch.setattr("prune.run.finish", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises((KeyboardInterrupt, SystemExit, AssertionError)):
            run_repair(base_folder, tmp_path / "killed", "linear")
    killed = tmp_path / "killed" / "prune"
    assert not (killed / "DONE").exists()
    run_repair(base_folder, tmp_path / "killed", "linear")
    for name in ("plan.json", "model/model.safetensors", "model/lineage.json", "model/README.md"):
        assert (killed / name).read_bytes() == (calm / name).read_bytes(), name


def test_what_is_saved_is_what_was_judged_also_in_bfloat16(tmp_path, monkeypatch):
    import prune.judge

    real = prune.judge.judged
    monkeypatch.setattr(
        prune.judge, "judged", lambda *a, **k: real(*a, **k).model_copy(update={"applied": True})
    )
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "m")
    byte_tokenizer().save_pretrained(tmp_path / "m")
    folder = run_repair(tmp_path / "m", tmp_path / "run", "merge")
    from safetensors.torch import load_file

    assert {t.dtype for t in load_file(folder / "model" / "model.safetensors").values()} == {torch.bfloat16}


def test_export_that_does_not_read_back_is_refused(tmp_path):
    from prune.export import save_again

    judged_model, other = tiny_llama(), tiny_llama(seed=1)
    with pytest.raises(SurgeryError, match="does not read back as it was judged"):
        save_again(judged_model, judged_model, tmp_path, lambda: other)
    save_again(judged_model, judged_model, tmp_path, lambda: judged_model)


def test_refused_repair_is_one_line_before_anything_is_scored(base_folder, tmp_path, capsys):
    from tiny import run_stage

    recipe = write_recipe(
        tmp_path / "r.yaml", model=base_folder, out=tmp_path / "run", prune={"repair": "norm"}
    )
    assert run_stage("prune", recipe) == 2
    err = capsys.readouterr().err
    assert "error: LlamaForCausalLM: its embeddings are tied" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run/prune/scores.json").exists()
    assert run_stage("prune", recipe, "prune.repair=magic") == 2
    assert "prune.repair: input should be 'none', 'linear', 'norm' or 'merge'" in capsys.readouterr().err


def test_benchmark_prints_a_table_and_its_facts(base_folder, tmp_path, capsys):
    from benchmarks.repair import measure

    recipe = write_recipe(tmp_path / "r.yaml", model=base_folder, out=tmp_path / "run")
    facts = measure(str(recipe), [[2, 3], [4]], ["none", "merge"])
    assert set(facts["drops"]) == {"2 3", "4"}
    none, merge = (facts["drops"]["4"][method] for method in ("none", "merge"))
    assert none["simple_rise"] == (0, 0, 0)
    assert merge["simple_before_nats"] == none["simple_after_nats"]
    assert "block 4: merged into block 3" in capsys.readouterr().out
