"""The agent task inside `python -m eval`, on a tiny model, and planted agents whose rates are found again."""

import json
import shutil
from functools import cache, partial

import numpy as np
import pytest
import yaml
from tiny import run_stage, write_recipe, write_tiny

from eval import route
from eval.agent import run as runner
from eval.agent import scores
from eval.agent.checker import ERRORS
from eval.agent.choices import choice_steps
from eval.agent.compare import ALL_STANDARD, compare_policies
from eval.agent.plots import break_even_loss, cost_at
from eval.agent.policies import Tier
from eval.agent.records import step_row, task_records
from eval.agent.tables import advice, best_policy, policy_table, reliability_table, rules_table
from eval.agent.tasks import generate_tasks
from fastpath.bootstrap import bootstrap_ratio
from fastpath.config_costs import AgentConfig, CostsConfig

AGENT = {"tasks": 8, "calibration_tasks": 4, "trials": 3}
OUTSIDE = {
    "id": "x",
    "question": [[{"role": "user", "content": "Area of a square of side 3?"}]],
    "function": [{"name": "area", "parameters": {"properties": {"side": {"type": "integer"}}}}],
    "ground_truth": [{"area": {"side": [3]}}],
}


@cache
def steps(num_tasks, split="evaluation", seed=1):
    made = generate_tasks(split=split, seed=seed, num_tasks=num_tasks)
    return [step for task in made for step in choice_steps(task)]


def planted_rows(random, rates, made):
    """Log-likelihoods of an agent that errs at each step with these chances, whatever the step offers."""
    rows = []
    for step in made:
        classes = [choice.error for choice in step.choices]
        chances = [rates.get(error, 0.0) for error in classes]
        chances[classes.index("")] = 1 - sum(rates[e] for e in rates if e in classes)
        drawn = random.choice(len(classes), p=chances)
        nats = [0.0 if number == drawn else -1e3 for number in range(len(classes))]
        rows.append(step_row(step, nats, [100, *[20] * len(classes)]))
    return rows


def compared(rows, *, costs=None, **config):
    """compare_policies on rows of evaluation and calibration."""
    evaluation, calibration = (
        task_records(part, trials=config.get("trials", 3), temperature=1.0, seed=0) for part in rows
    )
    tiers = {label: Tier(0.001, 0.01, 1e-6, 1e-5, records=label) for label in rows[0]}
    facts = compare_policies(
        evaluation, calibration, tiers, AgentConfig(**{"trials": 3} | config), costs or CostsConfig(), seed=0
    )
    return facts | {"form": "choice", "infrastructure_errors": 0, "outside": {}}


def planted_run(tiers, *, num_tasks, seed=1):
    """Rows of evaluation and calibration tasks, every tier with its error rates."""
    random = np.random.default_rng(seed)
    return [
        {label: planted_rows(random, rates, steps(num_tasks, split, seed)) for label, rates in tiers.items()}
        for split in ("evaluation", "calibration")
    ]


PLANTED = {
    "wrong_tool": 0.02,
    "hallucinated_argument": 0.05,
    "skipped_precondition": 0.04,
    "misread_constraint": 0.03,
    "malformed_call": 0.01,
    "gave_up": 0.02,
}


def test_planted_agents_are_recovered_within_their_intervals_class_by_class(monkeypatch):
    """An agent of known rates, tried on 30 draws: every class lies in its 95 % interval about as often."""
    monkeypatch.setattr(scores, "bootstrap_ratio", partial(bootstrap_ratio, draws=500))
    made = steps(192)
    offered = np.mean([any(c.error == "skipped_precondition" for c in s.choices) for s in made])
    truths = PLANTED | {"skipped_precondition": PLANTED["skipped_precondition"] * offered}
    covered = dict.fromkeys(ERRORS, 0)
    for number in range(30):
        rows = {"base": planted_rows(np.random.default_rng(number), PLANTED, made)}
        facts = scores.tier_facts(task_records(rows, trials=1, temperature=1.0, seed=0), "base", seed=number)
        for error, truth in truths.items():
            figure = facts["profile"][error]
            covered[error] += figure["low"] <= truth <= figure["high"]
    assert all(count >= 25 for count in covered.values()), covered
    assert sum(covered.values()) >= 0.9 * 30 * len(ERRORS), covered


def test_a_perfect_agent_costs_its_calls_and_nothing_else():
    agent = compared(planted_run({"base": {}, "fast": {}}, num_tasks=16))
    for row in agent["policies"].values():
        assert row["completion_rate"]["value"] == row["success_rate"]["value"] == 1
        assert row["retries"]["value"] == row["human_minutes"]["value"] == row["wrong_commits"]["value"] == 0
    standard, priority, fast = (agent["policies"][n] for n in (ALL_STANDARD, "all priority", "all fast"))
    for one in (fast, standard):
        assert one["cost_per_success"] == pytest.approx(standard["model_dollars"])
    assert priority["cost_per_success"]["value"] == pytest.approx(2 * standard["cost_per_success"]["value"])
    assert priority["waiting_minutes"]["value"] == pytest.approx(standard["waiting_minutes"]["value"] / 2)
    assert all(figure["value"] == 1 for figure in agent["tiers"]["fast"]["pass_hat"])
    assert agent["commit"]["fast"]["loss"] in (0.0, None)


def bad_fast(**costs):
    """A fast tier that misreads constraints, beside a standard tier that hardly errs."""
    rates = {"base": {"misread_constraint": 0.02}, "fast": {"misread_constraint": 0.3}}
    rows = planted_run(rates, num_tasks=64)
    return compared(rows, costs=CostsConfig(**costs), detection=0.5)


def test_mistakes_that_cannot_be_undone_make_standard_the_cheapest_and_the_gate_pays():
    agent = bad_fast(dollars_per_wrong_commit=50.0)
    cost = agent["cost_per_success"]
    assert cost["all fast"] > 3 * cost[ALL_STANDARD]
    assert cost["fast, standard commits"] < 0.8 * cost["all fast"]
    assert agent["policies"]["all fast"]["saving"]["high"] < 0
    assert agent["commit"]["fast"]["loss"] is not None
    commits = [agent["policies"][n]["wrong_commits"]["value"] for n in ("all fast", "fast, standard commits")]
    assert commits[1] < 0.3 * commits[0]
    assert "keep every call on the standard tier" in advice(agent)


def test_where_mistakes_cost_nothing_price_decides():
    free = {"dollars_per_human_hour": 0.0, "dollars_per_wrong_commit": 0.0}
    cost = bad_fast(**free)["cost_per_success"]
    assert cost["all priority"] == pytest.approx(2 * cost[ALL_STANDARD])
    # what is wrong is no success: even free mistakes have to be paid for in calls
    assert cost["all fast"] > cost[ALL_STANDARD]


def test_the_break_even_line_is_where_both_cost_the_same():
    agent = bad_fast()
    for name, row in agent["policies"].items():
        costs = agent["costs"]
        now = cost_at(agent, name, costs["dollars_per_human_hour"], costs["dollars_per_wrong_commit"])
        assert now == pytest.approx(row["cost_per_success"]["value"])
    loss = break_even_loss(agent, "all fast", 0.0)
    assert loss is not None
    assert cost_at(agent, "all fast", 0.0, loss) == pytest.approx(cost_at(agent, ALL_STANDARD, 0.0, loss))


def test_a_draw_depends_on_the_seed_the_tier_and_the_step_alone():
    rows = planted_rows(np.random.default_rng(0), PLANTED, steps(8))
    flat = [row | {"log_likelihoods": [0.0] * len(row["errors"])} for row in rows]
    one, again, other = (
        task_records({"base": flat[: n or None]}, trials=4, temperature=1.0, seed=s)
        for n, s in ((0, 0), (3, 0), (0, 1))
    )
    assert again[0].steps["base"][0] == one[0].steps["base"][0]
    assert [t.steps for t in one] != [t.steps for t in other]


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
    for table in (policy_table(agent), reliability_table(agent), rules_table(agent)):
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
    monkeypatch.setattr(runner, "score", lambda *given: asked.append(len(given[2])) or real(*given))
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
    assert policy["policy"] == best_policy(agent, without=("priority",))
    assert all(row["tier"] in ("fast", "standard") and row["because"] for row in policy["classes"])
    assert (
        "refund" not in policy["serve"]["reversible_tools"]
        and "find_order" in policy["serve"]["reversible_tools"]
    )
    monkeypatch.setattr("sys.argv", ["eval.route", "--run", str(run / "nowhere")])
    assert route.main() == 2
    assert "no such run" in capsys.readouterr().err


@pytest.mark.parametrize("fast", [0.03, 0.3])
@pytest.mark.parametrize("loss", [0.0, 50.0])
def test_the_chosen_policy_is_no_worse_than_either_tier_alone_on_held_out_tasks(fast, loss):
    """Chosen on some tasks; on others it costs no more than the better of all fast and all standard."""
    rates = {"base": {"misread_constraint": 0.02}, "fast": {"misread_constraint": fast}}
    costs = {"dollars_per_wrong_commit": loss, "dollars_per_million_tokens": {"base": 500.0, "fast": 100.0}}
    chosen = best_policy(
        compared(planted_run(rates, num_tasks=64), costs=CostsConfig(**costs)), without=("priority",)
    )
    held_out = compared(planted_run(rates, num_tasks=64, seed=8), costs=CostsConfig(**costs))
    better = min(held_out["cost_per_success"][name] for name in ("all standard", "all fast"))
    assert held_out["policies"][chosen]["cost_per_success"]["low"] <= better
