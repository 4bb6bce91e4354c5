"""`--to draft`: a shallow model that guesses, the output the original's; off where it would not pay."""

import gc
import json
import sys
import weakref
from types import SimpleNamespace

import pytest
from exporting import export_of, facts_of, write_base, write_pruned
from families import tiny_model
from tiny import run_stage
from transformers import AutoModelForCausalLM

from fastpath.drafting import Assisted, set_guesses
from fastpath.errors import ExportError
from fastpath.models import Lineage
from fastpath.plan import read_plan, read_scores
from fastpath.speculative import choose_tokens
from prune.exports import draft
from prune.exports.shallow import shallow_plans


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("draft")
    return write_pruned(folder, write_base(folder / "model", depth=10))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(draft, "PROMPTS", 4)
    monkeypatch.setattr(draft, "NEW_TOKENS", 6)


def test_plans_hold_a_tenth_to_a_quarter_of_the_depth_by_the_runs_scores_and_without(run):
    scores = read_scores(run / "prune/scores.json")
    for given in (scores, None):
        plans = shallow_plans(40, None) if given is None else shallow_plans(10, scores)
        depth = 40 if given is None else 10
        assert {len(keep) for keep in plans} == ({4, 5, 6, 7, 8, 9, 10} if given is None else {2})
        assert all(list(keep) == sorted(set(keep)) and keep[-1] < depth for keep in plans)
    assert "cosine, lowest" in shallow_plans(10, scores).values()
    with pytest.raises(ExportError, match="too few for a draft"):
        shallow_plans(2, None)


def test_draft_is_a_run_of_its_own_and_the_output_is_the_originals(run, capsys):
    assert export_of("--run", run, "--to", "draft") == 0
    facts, folder = facts_of(capsys), run / "export/draft"
    assert facts["proof"] == {"loaded_by": "transformers", "prompts": 4, "identical": 4, "dtype": "float32"}
    assert facts["draft"] == str(folder / "prune/model")
    assert read_plan(folder / "prune/plan.json").keep == tuple(facts["keep"])
    assert AutoModelForCausalLM.from_pretrained(facts["draft"]).config.num_hidden_layers == 2
    costs = {int(k): cost for k, cost in facts["verify_costs"].items()}
    again = choose_tokens(facts["acceptance"], cost_ratio=facts["cost_ratio"], verify_costs=costs)
    assert facts["predicted_speedup"] == again.speedup and facts["measured"]["guesses"] == max(
        1, again.tokens
    )
    assert facts["tokens"] == (again.tokens if facts["speedup"] > 1 else 0)
    told = json.loads((folder / "draft.json").read_text())
    assert told["acceptance"] == facts["acceptance"] and told["speedup"] == facts["speedup"] > 0
    for card in (folder / "README.md", folder / "prune/model/README.md"):
        text = card.read_text()
        assert f"{facts['speedup']:.2f} times the speed, measured" in text and "Acceptance" in text
    assert str(folder) not in text  # the model's card may be published


def worth(tokens, *, identical=4, predicted=2.5):
    guesses = max(1, tokens)
    sides = Assisted(4, guesses, identical, tokens=24, plain_seconds=3.0, assisted_seconds=1.5)
    return draft.Worth(0.9, 0.1, {4: 1.1}, tokens, predicted, sides)


def test_a_good_draft_gets_its_k_and_a_bad_one_is_off(tmp_path):
    words = draft.measured_words(worth(4), "float32")
    assert (
        "90 %" in words and "With 4 guesses a round 2.00 times the speed, measured; predicted 2.50" in words
    )
    assert "is the original's own: identical on 4 of 4 prompts (float32)" in words
    assistant, vllm = draft.usage("org/model", tmp_path, 4)
    assert "assistant_model" in assistant
    config = json.loads(vllm.split("--speculative-config ")[1].strip("'"))
    assert config == {"method": "draft_model", "model": str(tmp_path), "num_speculative_tokens": 4}
    assert "Off: it would not pay" in draft.measured_words(worth(0, predicted=0.7), "float32")
    assert draft.usage("org/model", tmp_path, 0) == []


@pytest.mark.parametrize(("seconds", "tokens"), [(1.5, 4), (3.1, 0)])
def test_a_draft_that_was_to_pay_and_was_measured_slower_is_off(monkeypatch, seconds, tokens):
    chosen = SimpleNamespace(tokens=4, speedup=2.5)
    sides = Assisted(4, guesses=4, identical=4, tokens=24, plain_seconds=3.0, assisted_seconds=seconds)
    monkeypatch.setattr(draft, "step_seconds", lambda *_, tokens, **__: dict.fromkeys(tokens, 1.0))
    monkeypatch.setattr(draft, "acceptance", lambda *_: 0.9)
    monkeypatch.setattr(draft, "choose_tokens", lambda *_, **__: chosen)
    monkeypatch.setattr(draft, "assisted", lambda *_, **__: sides)
    assert draft.measure(None, None, []).tokens == tokens


def test_an_output_that_differs_is_not_called_the_originals():
    words = draft.measured_words(worth(4, identical=1), "bfloat16")
    assert "own" not in words and "identical on 1 of 4 prompts (bfloat16)" in words


def test_guesses_are_written_where_assisted_generation_reads_them_and_cleared_where_it_is_off(run, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(run / "prune/model")
    for tokens, want in ((3, [3, "constant", 0.0]), (0, [None, None, None])):
        set_guesses(model, tokens)
        model.generation_config.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "generation_config.json").read_text())
        keys = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")
        assert [config.get(key) for key in keys] == want


def test_distilling_shows_its_progress_and_ends_in_one_line(tmp_path, monkeypatch, capfd):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho step 1 >&2; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ExportError, match="exit code 3"):
        draft.distil(tmp_path / "recipe.yaml")
    assert capfd.readouterr().err == "step 1\n"


DISTILLED = {
    "steps": 2, "batch_rows": 2, "micro_rows": 2, "max_tokens": 512, "items_per_task": 4, "mode": "full",
    "checkpoint_steps": 2, "log_steps": 1, "warmup_steps": 0, "tasks": ["doc_type"],
}  # fmt: skip


def test_draft_is_distilled_as_it_is_told_and_the_original_is_not_in_memory_then(
    tmp_path, monkeypatch, capsys
):
    run = write_pruned(tmp_path, write_base(tmp_path / "model", depth=10))
    originals, load_original = [], draft.load_original

    def loaded(made):
        model = load_original(made)
        originals.append(weakref.ref(model))
        return model

    def distil(recipe):
        gc.collect()
        assert [original() for original in originals] == [None]
        run_stage("distill", recipe)

    monkeypatch.setattr(draft, "load_original", loaded)
    monkeypatch.setattr(draft, "distil", distil)
    changes = [f"distill.{key}={json.dumps(value)}" for key, value in DISTILLED.items()]
    assert export_of("--run", run, "--to", "draft", *changes) == 0
    facts = facts_of(capsys)
    assert facts["model"] == "prune" and facts["draft"] == str(run / "export/draft/distill/model")
    assert Lineage.read(run / "export/draft/distill/model").distillation["steps"] == 2


@pytest.mark.parametrize(("target", "change"), [("draft", "prune.drop=3"), ("hf", "distill.steps=3")])
def test_other_changes_are_refused_by_name(tmp_path, capsys, target, change):
    assert export_of("--run", tmp_path, "--to", target, change) == 2
    assert change in capsys.readouterr().err


def test_draft_of_a_distilled_run_is_distilled_as_it_was(tmp_path, monkeypatch, capsys):
    base = write_base(tmp_path / "model", depth=10)
    run = write_pruned(tmp_path, base, sections={"distill": DISTILLED})
    assert run_stage("distill", tmp_path / "r.yaml") == 0
    monkeypatch.setattr(draft, "distil", lambda recipe: run_stage("distill", recipe))
    assert export_of("--run", run, "--to", "draft") == 0
    facts = facts_of(capsys)
    assert facts["model"] == "distill" and facts["draft"] == str(run / "export/draft/distill/model")
    assert facts["proof"]["identical"] == 4
    assert Lineage.read(run / "export/draft/distill/model").distillation["steps"] == 2


def test_a_draft_that_was_killed_goes_on_in_the_folder_of_out(tmp_path, monkeypatch, capsys):
    run = write_pruned(tmp_path, write_base(tmp_path / "model", depth=10))
    order = ("--run", run, "--to", "draft", "--out", tmp_path / "mine")
    with monkeypatch.context() as patch:
        patch.setattr(draft, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert export_of(*order) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert export_of(*order) == 0
    assert facts_of(capsys)["draft"] == str(tmp_path / "mine/prune/model")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    assert export_of(*order[:-1], other) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_model_whose_state_cannot_be_set_back_gets_no_draft(run, monkeypatch, capsys):
    monkeypatch.setattr(draft, "load_model", lambda *_, **__: tiny_model("qwen3_next"))
    assert export_of("--run", run, "--to", "draft", "--out", run / "stateful") == 2
    assert "its state cannot be set back" in capsys.readouterr().err
