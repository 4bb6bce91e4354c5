"""The agent task inside `python -m eval`, on a tiny model: results, report, resuming, the tier policy."""

import json
import shutil

import pytest
import yaml
from tiny import run_stage, write_recipe, write_tiny

from eval import route
from eval.agent import run as runner
from eval.agent.checker import ERRORS
from eval.agent.tables import pass_table, policy_table, reliability_table, rules_table
from eval.agent.words import advice

AGENT = {"tasks": 8, "calibration_tasks": 4, "trials": 3}
OUTSIDE = {
    "id": "x",
    "question": [[{"role": "user", "content": "Area of a square of side 3?"}]],
    "function": [{"name": "area", "parameters": {"properties": {"side": {"type": "integer"}}}}],
    "ground_truth": [{"area": {"side": [3]}}],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a tiny model with the agent task."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "mine.jsonl").write_text(f"{json.dumps(OUTSIDE)}\n" * 2)
    agent = AGENT | {"bfcl": [str(folder / "mine.jsonl")]}
    recipe = write_recipe(
        folder / "r.yaml",
        model=write_tiny(folder / "model", max_position_embeddings=4096),
        out=folder / "run",
        prune={"criterion": "cosine"},
        eval={"agent": agent, "depth": [], "complex": ["fastpath_arithmetic"], "items_per_task": 4},
        costs={"dollars_per_human_hour": 30.0},
    )
    assert run_stage("prune", recipe) == 0
    assert run_stage("eval", recipe) == 0
    return folder / "run", recipe


def test_results_hold_every_policy_with_its_cost(finished):
    agent = json.loads((finished[0] / "eval/results.json").read_text())["agent"]
    assert set(agent["cost_per_success"]) == set(agent["policies"]) and len(agent["policies"]) == 6
    assert set(agent["tiers"]) == {"base", "fast"}
    assert set(agent["tiers"]["fast"]["profile"]) == {"right", *ERRORS}
    assert agent["costs"]["dollars_per_human_hour"] == 30.0
    assert len(agent["tiers"]["base"]["pass_hat"]) == AGENT["trials"]
    assert agent["outside"]["mine"]["num_items"] == 2


def test_the_report_has_the_section_in_both_forms(finished):
    run, _ = finished
    agent = json.loads((run / "eval/results.json").read_text())["agent"]
    page, text = (run / "eval/report.html").read_text(), (run / "eval/report.md").read_text()
    assert "Outside check: mine" in page and "Outside check: mine" in text
    assert "Agent: what mistakes cost" in page and "## Agent: what mistakes cost" in text
    for table in (policy_table(agent), reliability_table(agent), pass_table(agent), rules_table(agent)):
        assert table.markdown(titled=False) in text
    names = [row[0].removesuffix(" (cheapest)") for row in policy_table(agent).rows]
    assert names == list(agent["policies"])
    beside = {name: row[1] for name, row in zip(names, policy_table(agent).rows, strict=True)}
    assert beside["all priority"] == "same weights, served sooner" and beside["all fast"] == "other weights"
    assert advice(agent) in text


def test_a_killed_run_goes_on_where_it_died_and_gives_the_same_facts(finished, tmp_path, monkeypatch):
    run, recipe = finished
    want = json.loads((run / "eval/results.json").read_text())["agent"]
    shutil.copytree(run, tmp_path / "run")
    for name in ("DONE", "results.json", "agent/fast/evaluation-orders.json"):
        (tmp_path / "run/eval" / name).unlink()
    asked = []
    real = runner.score
    monkeypatch.setattr(runner, "score", lambda *given, **more: asked.append(0) or real(*given, **more))
    assert run_stage("eval", recipe, f"out={tmp_path / 'run'}") == 0
    assert json.loads((tmp_path / "run/eval/results.json").read_text())["agent"] == want
    assert len(asked) == 1


def test_settings_that_cannot_take_effect_are_one_line(finished, capsys, tmp_path):
    _, recipe = finished
    for change, said in (
        ("eval.agent=null", "costs: nothing here has a cost"),
        ("eval.agent.attempts=9", "eval.agent: attempts: 9 need as many trials, found 3"),
        ("costs.dollars_per_million_tokens={quick: 1.0}", "no tier 'quick'; there are base, fast"),
        ("costs.dollars_per_human_hour=-1", "costs.dollars_per_human_hour"),
        ("costs.dollars_per_hour=1", "costs.dollars_per_hour: unknown key"),
    ):
        assert run_stage("eval", recipe, change) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error, error


def test_route_writes_a_policy_with_the_numbers_behind_it(finished, monkeypatch, capsys):
    run, _ = finished
    monkeypatch.setattr("sys.argv", ["eval.route", "--run", str(run)])
    assert route.main() == 0
    policy = yaml.safe_load((run / "eval/policy.yaml").read_text())
    agent = json.loads((run / "eval/results.json").read_text())["agent"]
    assert policy["policy"] == route.servable(agent)
    assert all(row["tier"] in ("fast", "standard") and row["because"] for row in policy["classes"])
    assert set(policy["serve"]) == {"default_tier", "policy", "reversible_tools", "escalate_below"}
    monkeypatch.setattr("sys.argv", ["eval.route", "--run", str(run / "nowhere")])
    assert route.main() == 2
    assert "no such run" in capsys.readouterr().err


def test_route_serves_standard_unless_another_policy_is_shown_to_save():
    def agent(form, **rows):
        made = {"all standard": row("base", "all", 5.0, None), **rows}
        return {"form": form, "policies": made}

    def row(tier, policy, value, low):
        return {"tier": tier, "policy": policy, "cost_per_success": {"value": value}, "saving": {"low": low}}

    sure = row("fast", "escalate", 1.0, 0.5)
    assert route.servable(agent("tools", unsure=sure)) == "unsure"
    assert route.servable(agent("choice", unsure=sure)) == "all standard"  # another scale than serve's
    assert route.servable(agent("tools", fast=row("fast", "all", 1.0, -0.1))) == "all standard"
    assert route.servable(agent("tools", all_priority=row("priority", "all", 1.0, 0.5))) == "all standard"
