"""Local match, then logits, then what the student itself writes: one after the other, each resumable."""

import json

import pytest
from test_distill import check_one_line, check_same, distilled, pruned, stopped_at, student_of
from tiny import run_stage, write_tiny

from distill.phases import Trained, best, phases
from distill.plot import CE, KD, LOSSES, training_figure
from distill.run import worse_words
from distill.show import show
from fastpath.config_distill import DistillConfig, OnPolicyConfig
from fastpath.models import Lineage
from fastpath.runs import read_json

WRITTEN = {"steps": 3, "new_tokens": 6, "temperature": 0.7, "forward_share": 0.3, "learning_rate": 1e-3}
ALL = [
    "distill.local_steps=3", "distill.steps=3", f"distill.on_policy={WRITTEN}",
    "distill.dev_items_per_task=1", "distill.dev_tasks=[doc_type, arithmetic]",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return pruned(folder, write_tiny(folder / "base"))


def log_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["full", "shared-lora"])
def test_phases_run_one_after_the_other_from_the_best_of_those_before(recipe, tmp_path, mode):
    folder = distilled(recipe, f"distill.mode={mode}", *ALL, out=tmp_path / "run")
    rows = log_of(folder)
    names = list(dict.fromkeys(row["phase"] for row in rows))
    assert names == ["local", "logits", "on-policy"]
    tokens = [row["learnt_tokens"] for row in rows]
    assert tokens == sorted(tokens) and tokens[0] == 0
    of = {name: [row for row in rows if row["phase"] == name and "loss" in row] for name in names}
    assert {name: len(found) for name, found in of.items()} == {"local": 3, "logits": 3, "on-policy": 3}
    assert all("kd_nats_per_token" not in row and row["hidden_error_per_token"] > 0 for row in of["local"])
    assert all(row["kd_nats_per_token"] > 0 for row in of["logits"] + of["on-policy"])
    done = [Trained(**facts) for facts in read_json(folder / "phases.json")]
    scored = [row for row in rows if "eval_complex_nats_per_token" in row]
    for phase, following in zip(done, [*done[1:], None], strict=True):
        assert (folder / phase.checkpoint / "DONE").exists()
        if following:
            first = next(row for row in scored if row["phase"] == following.phase)
            begun = best(done[: done.index(following)])
            assert first["eval_complex_nats_per_token"] == pytest.approx(begun.complex_nats_per_token)
    lineage = Lineage.read(folder / "model").distillation
    assert lineage["phases"] == {"local": 3, "logits": 3, "on-policy": 3}
    assert lineage["checkpoint"] == best(done).checkpoint


def test_plain_fine_tuning_tells_no_distance_from_a_teacher(recipe, tmp_path, capsys):
    folder = distilled(recipe, "distill.kd_weight=0", "distill.steps=2", out=tmp_path / "run")
    rows = log_of(folder)
    assert all("kd_nats_per_token" not in row for row in rows)
    assert [row["loss"] for row in rows] == pytest.approx([row["ce_nats_per_token"] for row in rows])
    headline = show(folder)
    assert headline["nats_per_token"] == rows[-1]["ce_nats_per_token"]
    assert "trained on: nats per token of the data" in capsys.readouterr().out
    assert training_figure(rows).axes[0].get_ylabel() == LOSSES[CE]
    taught = [{**row, "phase": "on-policy", KD: 0.1} for row in rows]
    labels = [axes.get_ylabel() for axes in training_figure([*rows, *taught]).axes]
    assert labels[:2] == [LOSSES[KD], LOSSES[CE]]
    assert len(training_figure(taught).axes) == len(labels) - 1, "where both are known one is drawn"


@pytest.fixture(scope="module")
def calm(recipe, tmp_path_factory):
    """A run that nothing stopped."""
    return distilled(recipe, *ALL, "distill.checkpoint_steps=1", out=tmp_path_factory.mktemp("calm"))


@pytest.mark.parametrize("at", [8, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4, 9))])
def test_stopped_anywhere_it_ends_with_the_same_bytes(recipe, calm, tmp_path, at):
    """After an update of each phase, and after the last one."""
    keys = [recipe, student_of(recipe), f"out={tmp_path}", *ALL, "distill.checkpoint_steps=1"]
    with stopped_at(at):
        assert run_stage("distill", *keys) == 130
    assert run_stage("distill", *keys) == 0
    check_same(tmp_path / "distill", calm)


def test_best_goes_on_and_without_dev_items_the_last():
    made = [
        Trained(name, f"{name}/checkpoint-1", 1, 1, nats)
        for name, nats in (("a", 2.0), ("b", 1.0), ("c", 3.0))
    ]
    assert best(made).phase == "b"
    assert best([Trained("a", "", 1, 1, None), Trained("b", "", 1, 1, None)]).phase == "b"


def test_training_that_made_it_no_better_is_said():
    rows = [{"step": 0, "eval_complex_nats_per_token": 2.0}, {"step": 1, "loss": 1.0}]
    worse, better, unscored = (Trained("logits", "", 1, 1, nats) for nats in (2.5, 1.5, None))
    assert "no better on the complex dev items (2.500 nats" in worse_words(rows, worse)
    assert not any((worse_words(rows, better), worse_words(rows, unscored), worse_words(rows[1:], worse)))


def test_phase_without_steps_is_none():
    assert [phase.name for phase in phases(DistillConfig())] == ["logits"]
    (own,) = phases(DistillConfig(steps=0, on_policy=OnPolicyConfig(**WRITTEN)))
    assert (own.name, own.config.steps, own.config.learning_rate) == ("on-policy", 3, 1e-3)
    assert (own.config.loss, own.config.loss_options) == ("mixed_kl", {"forward": 0.3})


def test_texts_have_no_prompt(recipe, tmp_path, capsys):
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps({"text": "The door is open."}) + "\n")
    keys = ["distill.tasks=[]", f"distill.data=[{{source: {data}}}]", "distill.on_policy={steps: 1}"]
    assert run_stage("distill", recipe, student_of(recipe), f"out={tmp_path}", *keys) == 2
    check_one_line(capsys, "distill.on_policy: no data has prompts to answer")
