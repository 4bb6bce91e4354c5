"""`--to draft`: a shallow model that guesses, the output the original's; off where it would not pay."""

import json

import pytest
from exporting import export_of, facts_of, write_base, write_pruned
from tiny import run_stage
from transformers import AutoModelForCausalLM

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
    assert facts["proof"] == {"loaded_by": "transformers", "prompts": 4, "identical": 4}
    assert facts["draft"] == str(folder / "prune/model")
    assert read_plan(folder / "prune/plan.json").keep == tuple(facts["keep"])
    assert AutoModelForCausalLM.from_pretrained(facts["draft"]).config.num_hidden_layers == 2
    costs = {int(k): cost for k, cost in facts["verify_costs"].items()}
    again = choose_tokens(facts["acceptance"], cost_ratio=facts["cost_ratio"], verify_costs=costs)
    assert (facts["tokens"], facts["predicted_speedup"]) == (again.tokens, again.speedup)
    assert json.loads((folder / "draft.json").read_text())["acceptance"] == facts["acceptance"]


def test_a_good_draft_gets_its_k_and_a_bad_one_is_off(tmp_path):
    good = draft.Worth(0.9, 0.1, {4: 1.1}, 4, 2.5)
    on, assistant, vllm = draft.usage("org/model", tmp_path, good)
    assert "90 %" in on and "2.50 times" in on and "assistant_model" in assistant
    config = json.loads(vllm.split("--speculative-config ")[1].strip("'"))
    assert config == {"method": "draft_model", "model": str(tmp_path), "num_speculative_tokens": 4}
    (off,) = draft.usage("org/model", tmp_path, draft.Worth(0.1, 0.4, {1: 1.1}, 0, 0.7))
    assert "Off: it would not pay" in off


def test_guesses_are_written_where_assisted_generation_reads_them(run, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(run / "prune/model")
    draft.set_guesses(tmp_path, model, 3)
    config = json.loads((tmp_path / "generation_config.json").read_text())
    assert config["num_assistant_tokens"] == 3 and config["num_assistant_tokens_schedule"] == "constant"
    assert config["assistant_confidence_threshold"] == 0.0


DISTILLED = {
    "steps": 2, "batch_rows": 2, "micro_rows": 2, "max_tokens": 512, "items_per_task": 4, "mode": "full",
    "checkpoint_steps": 2, "log_steps": 1, "warmup_steps": 0, "tasks": ["doc_type"],
}  # fmt: skip


def test_draft_is_distilled_as_it_is_told(tmp_path, monkeypatch, capsys):
    run = write_pruned(tmp_path, write_base(tmp_path / "model", depth=10))
    monkeypatch.setattr(draft, "run_program", lambda command, what: run_stage("distill", command[-1]))
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
    monkeypatch.setattr(draft, "run_program", lambda command, what: run_stage("distill", command[-1]))
    assert export_of("--run", run, "--to", "draft") == 0
    facts = facts_of(capsys)
    assert facts["model"] == "distill" and facts["draft"] == str(run / "export/draft/distill/model")
    assert facts["proof"]["identical"] == 4
    assert Lineage.read(run / "export/draft/distill/model").distillation["steps"] == 2
