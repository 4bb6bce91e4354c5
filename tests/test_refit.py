"""The refit: least squares against its definition, a planted map found, killed == uninterrupted, refusals."""

import json

import pytest
import torch
from families import tiny_model
from test_distill import SAME_BATCH, check_same, distilled, pruned, student_of
from tiny import run_stage, tiny_llama, write_tiny

from distill.least_squares import Sums
from distill.refit import FIRST, Text, refit_blocks
from fastpath.blocks import find_blocks, keep_blocks
from fastpath.errors import ConfigError, SurgeryError
from fastpath.models import Lineage, weights_sha256
from fastpath.runs import read_json
from fastpath.stepping import Stepped, stream_after

KEYS = ["distill.refit_tokens=2000", "distill.mode=full"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def recipe(base, tmp_path_factory):
    return pruned(tmp_path_factory.mktemp("run"), base)


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory):
    """The folder of a stage that refitted, then took a few steps."""
    return distilled(recipe, *KEYS, out=tmp_path_factory.mktemp("done"))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def texts(num, *, vocabulary=260, rows=4, width=24):
    made = []
    for seed in range(num):
        ids = torch.randint(vocabulary, (rows, width), generator=torch.Generator().manual_seed(seed))
        labels = ids.clone()
        labels[:, 0] = -100
        made.append(Text.of({"input_ids": ids, "labels": labels}))
    return made


def test_solution_is_that_of_the_weighted_ridge():
    read, lacking, weight, relative = random(60, 8), random(60, 5, seed=1), torch.rand(60), torch.rand(60)
    sums = Sums()
    for part in (slice(0, 25), slice(25, 60)):
        sums.add(read[part], lacking[part], weight_N=weight[part], relative_N=relative[part])
    root = (weight * relative).double().sqrt()[:, None]
    x, y = read.double() * root, lacking.double() * root
    ridge = 0.1 * (x.T @ x).trace() / 8
    stacked = torch.cat([x, ridge.sqrt() * torch.eye(8, dtype=torch.float64)])
    want = torch.linalg.lstsq(stacked, torch.cat([y, torch.zeros(8, 5, dtype=torch.float64)])).solution
    assert torch.allclose(sums.solve(0.1), want, rtol=1e-4, atol=1e-6)
    for change in (want, None):
        left = y - (x @ change if change is not None else 0)
        assert sums.error(change) == pytest.approx((left.square().sum() / weight.sum()).item(), rel=1e-4)


def test_first_token_counts_more_and_the_last_predicts_nothing():
    (text,) = texts(1, rows=1, width=4)
    assert text.at_BT.tolist() == [[True, True, True, False]]
    assert text.weight_BT[text.at_BT].tolist() == [FIRST, 1, 1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3_text"])
def test_stepped_streams_are_those_of_one_pass(family):
    model = tiny_model(family)
    batches = [text.inputs for text in texts(2, vocabulary=96)]
    stepped = Stepped(model, batches)
    for block in range(len(find_blocks(model)[1])):
        stepped.step()
        for number, inputs in enumerate(batches):
            assert torch.equal(stepped[number], stream_after(model, block, inputs))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_planted_map_is_found(family, tmp_path):
    """The dropped block does nothing and the one before it was spoilt: the refit is to give it back."""
    base = tiny_model(family)
    blocks = find_blocks(base)[1]
    for name, parameter in blocks[3].named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight", "c_proj.bias")):
            parameter.data.zero_()
    keep = [0, 1, 2, 4, 5]
    cut = keep_blocks(base, keep)
    spoilt = dict(find_blocks(cut)[1][2].named_parameters())[
        "mlp.c_proj.weight" if family == "gpt2" else "mlp.down_proj.weight"
    ]
    right = spoilt.data.clone()
    spoilt.data = right + random(*right.shape) * 0.2
    solved = refit_blocks(cut, base, texts(30, vocabulary=96), keep=keep, folder=tmp_path)
    assert [one.block for one in solved] == [2, 3, 4]
    assert solved[0].error < 0.01 * solved[0].error_before
    assert (spoilt - right).norm() < 0.1 * (0.2 * random(*right.shape)).norm()


def test_map_that_needs_no_change_gets_none(tmp_path):
    base = tiny_llama()
    for name, parameter in base.model.layers[3].named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data.zero_()
    cut = keep_blocks(base, [0, 1, 2, 4, 5])
    before = {name: tensor.clone() for name, tensor in cut.state_dict().items()}
    solved = refit_blocks(cut, base, texts(12), keep=[0, 1, 2, 4, 5], folder=tmp_path)
    assert all(one.error_before < 1e-10 for one in solved)
    assert all(torch.allclose(tensor, before[name], atol=1e-5) for name, tensor in cut.state_dict().items())


def test_held_out_error_never_rises_and_the_cut_is_bridged(tmp_path):
    base, keep = tiny_llama(), [0, 1, 4, 5]
    cut = keep_blocks(base, keep)
    solved = refit_blocks(cut, base, texts(40), keep=keep, folder=tmp_path)
    assert [one.block for one in solved] == [1, 2, 3]
    assert all(one.error <= one.error_before for one in solved)
    assert solved[0].error < 0.9 * solved[0].error_before


def test_family_without_a_map_that_writes_is_refused(tmp_path):
    base, keep = tiny_model("gemma2"), [0, 1, 4, 5]
    with pytest.raises(SurgeryError, match=r"none can be refitted; distill\.refit_tokens=0 works"):
        refit_blocks(keep_blocks(base, keep), base, texts(2, vocabulary=96), keep=keep, folder=tmp_path)


def test_streams_that_do_not_fit_the_memory_are_refused(monkeypatch):
    from distill import refit

    few, model = texts(2), tiny_llama()
    monkeypatch.setattr(refit, "free_bytes", lambda device: 2 * 2 * 4 * 24 * 32 * 4)  # B x T x D in float32
    refit.check_memory(few, model)
    monkeypatch.setattr(refit, "free_bytes", lambda device: 2 * 4 * 24 * 32 * 4)
    with pytest.raises(ConfigError, match=r"^distill\.refit_tokens: the streams of 184 tokens .*; 82 fit$"):
        refit.check_memory(few, model)


def test_stage_begins_with_the_refitted_student(recipe, done, tmp_path):
    facts = read_json(done / "refit/refit.json")
    assert [one["block"] for one in facts] == [1, 2, 3]
    refitted = Lineage.read(done / "refit/model")
    assert refitted.repair == "refit"
    assert refitted.weights_sha256 == weights_sha256(done / "refit/model")
    lineage = Lineage.read(done / "model")
    assert lineage.repair == "refit" and lineage.distillation["refit_tokens"] == 2000
    assert lineage.distillation["student_weights_sha256"] == refitted.weights_sha256
    assert not (done / "refit/blocks").exists()
    card = (done / "model/README.md").read_text()
    assert (
        "the last maps of blocks were solved for anew" in card and "then the original was distilled" in card
    )
    rows = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    plain = distilled(recipe, "distill.mode=full", out=tmp_path)
    first = json.loads((plain / "metrics.jsonl").read_text().splitlines()[0])
    assert rows[0]["kd_nats_per_token"] < first["kd_nats_per_token"]


def test_refit_that_was_killed_goes_on_with_the_same_bytes(recipe, done, tmp_path, monkeypatch):
    from distill import refit

    count, solve = [], refit._solve

    def once(*arguments):
        if count:
            raise KeyboardInterrupt
        count.append(1)
        return solve(*arguments)

    monkeypatch.setattr(refit, "_solve", once)
    assert run_stage("distill", recipe, student_of(recipe), *KEYS, f"out={tmp_path}") == 130
    folder = tmp_path / "distill"
    assert [path.name for path in (folder / "refit/blocks").iterdir()] == ["1"]
    monkeypatch.setattr(refit, "_solve", solve)
    distilled(recipe, *KEYS, out=tmp_path)
    check_same(folder, done)
    for name in ("model/model.safetensors", "refit.json", "plan.json"):
        assert (folder / "refit" / name).read_bytes() == (done / "refit" / name).read_bytes(), name


def test_one_set_of_weights_cannot_hold_a_refitted_student(recipe, tmp_path, capsys):
    keys = ["distill.refit_tokens=2000", "distill.mode=shared-lora", f"out={tmp_path}"]
    assert run_stage("distill", recipe, student_of(recipe), *keys) != 0
    assert "shared-lora needs the base's own blocks" in capsys.readouterr().err


def test_refit_in_bfloat16(recipe, tmp_path):
    folder = distilled(recipe, *KEYS, *SAME_BATCH, "model.dtype=bfloat16", out=tmp_path)
    assert all(one["error"] <= one["error_before"] for one in read_json(folder / "refit/refit.json"))


def test_lora_trains_on_top_of_a_refitted_student(recipe, tmp_path):
    folder = distilled(recipe, "distill.refit_tokens=2000", "distill.mode=lora", out=tmp_path)
    assert Lineage.read(folder / "model").repair == "refit"


def test_refit_alone_is_a_repair_without_training(recipe, done, tmp_path, capsys):
    keys = ["distill.refit_tokens=2000", "distill.steps=0"]
    folder = distilled(recipe, *keys, out=tmp_path)
    for name in ("model.safetensors", "config.json"):
        assert (folder / "model" / name).read_bytes() == (done / "refit/model" / name).read_bytes(), name
    lineage = Lineage.read(folder / "model")
    assert lineage.repair == "refit" and lineage.distillation is None
    assert set(lineage.calibration_items) == set(Lineage.read(done / "model").calibration_items)
    card = (folder / "model/README.md").read_text()
    assert "solved for anew, towards the original's streams. A stock" in card
    assert "Repair without training: the refit" in card
    told = capsys.readouterr().out
    assert "Refit: squared distance" in told and "learning rate" not in told


def test_few_tokens_still_make_two_batches(recipe, tmp_path):
    keys = ["distill.refit_tokens=1", "distill.steps=0", "distill.batch_rows=2", "distill.micro_rows=2"]
    assert Lineage.read(distilled(recipe, *keys, out=tmp_path) / "model").repair == "refit"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            ["distill.candidates=2", "distill.dev_items_per_task=4"],
            "candidates: steps: 0 trains none of them",
        ),
        (["distill.teacher=top-k"], "teacher: top-k is for training, and steps: 0; live works"),
    ],
)
def test_keys_of_training_are_refused_with_the_refit_alone(recipe, tmp_path, capsys, keys, told):
    keys = ["distill.refit_tokens=500", "distill.steps=0", *keys, f"out={tmp_path}"]
    assert run_stage("distill", recipe, student_of(recipe), *keys) != 0
    assert told in capsys.readouterr().err


def test_refit_alone_of_a_distilled_student_is_refused(recipe, done, tmp_path, capsys):
    keys = ["distill.refit_tokens=500", "distill.steps=0", f"distill.student={done / 'model'}", "seed=1"]
    assert run_stage("distill", recipe, *keys, f"out={tmp_path}") != 0
    assert "was distilled, and a refit alone is for a cut that was not" in capsys.readouterr().err
