"""Agents of known error rates: found again, and each policy costs what it should."""

import json
from functools import partial

import numpy as np
import pytest
from agents import compared

from eval.agent import scores
from eval.agent.break_even import (
    ABOVE,
    BELOW,
    NOWHERE,
    break_even_loss,
    break_even_words,
    cost_at,
    side_of,
)
from eval.agent.checker import ERRORS
from eval.agent.compare import ALL_STANDARD
from eval.agent.planted import planted_rows, planted_run, steps
from eval.agent.records import task_records
from eval.agent.tables import pass_table, rules_table
from eval.agent.words import advice, best_policy
from eval.route import serve_section
from fastpath.bootstrap import bootstrap_ratio
from fastpath.config_costs import CostsConfig

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
    assert agent["commit"]["fast"]["loss"]["value"] in (0.0, None)


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
    assert agent["commit"]["fast"]["loss"]["value"] is not None
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
    assert side_of(np.array([[-1.0, 0.5], [2.0, 3.0]])) == BELOW
    assert side_of(np.array([[1.0, 2.0], [-1.0, 0.5]])) == ABOVE
    assert side_of(np.array([[1.0, 2.0]])) == NOWHERE
    assert f"{NOWHERE}: 'all priority'" in break_even_words(agent)
    loss = break_even_loss(agent, "all fast", 0.0)
    assert loss is not None
    assert cost_at(agent, "all fast", 0.0, loss) == pytest.approx(cost_at(agent, ALL_STANDARD, 0.0, loss))


def test_why_every_call_stays_on_standard_is_what_was_found():
    agent = bad_fast(dollars_per_wrong_commit=50.0)
    assert "no policy with a fast tier is cheaper: a run of all fast waits" in advice(agent)
    dear = CostsConfig(dollars_per_waiting_hour=1e5)  # and priority is no tier of serve
    agent = compared(planted_run({"base": {}, "fast": {"misread_constraint": 0.3}}, num_tasks=16), costs=dear)
    assert best_policy(agent) == "all priority"
    assert "(all priority) saves" in advice(agent, ALL_STANDARD)
    assert "none that serve can be told" in advice(agent, ALL_STANDARD)
    row = agent["policies"]["all priority"]
    row["saving"]["low"] = -row["saving"]["value"]
    assert "not shown to be more than luck" in advice(agent, ALL_STANDARD)


def test_what_was_never_seen_is_not_certain():
    agent = compared(planted_run({"base": {}, "fast": {}}, num_tasks=16))
    never = agent["tiers"]["fast"]["profile"]["gave_up"]
    assert (never["value"], never["low"]) == (0.0, 0.0) and 0.1 < never["high"] < 0.3  # Wilson, 16 tasks
    always = agent["tiers"]["fast"]["profile"]["right"]
    assert always["high"] == 1.0 and always["low"] == pytest.approx(1 - never["high"])
    assert agent["policies"]["all fast"]["completion_rate"]["low"] < 1


def test_a_loss_is_that_of_a_call_that_nobody_notices():
    """Standard's edge in harm is its edge in wrong calls that cannot be undone, times 1 - detection."""
    rates = {"base": {}, "fast": {"misread_constraint": 0.3}}
    rows = planted_run(rates, num_tasks=32)
    prices = CostsConfig(dollars_per_million_tokens={"base": 500.0, "fast": 100.0})
    half, tenth, none = (
        compared(rows, detection=d, costs=prices)["commit"]["fast"]["loss"]["value"] for d in (0.5, 0.9, 1.0)
    )
    assert half > 0 and tenth == pytest.approx(5 * half) and none is None


def test_the_curves_of_whole_tasks_are_in_words():
    agent = compared(planted_run({"base": {}, "fast": {"gave_up": 0.2}}, num_tasks=16))
    rows = pass_table(agent).rows
    assert [row[0] for row in rows][:2] == ["pass@1: one of 1", "pass@2: one of 2"]
    assert all(row[1].startswith("100.0") for row in rows)


def test_a_draw_depends_on_the_seed_the_tier_and_the_step_alone():
    rows = planted_rows(np.random.default_rng(0), PLANTED, steps(8))
    flat = [row | {"log_likelihoods": [0.0] * len(row["errors"])} for row in rows]
    one, again, other = (
        task_records({"base": flat[: n or None]}, trials=4, temperature=1.0, seed=s)
        for n, s in ((0, 0), (3, 0), (0, 1))
    )
    assert again[0].steps["base"][0] == one[0].steps["base"][0]
    assert [t.steps for t in one] != [t.steps for t in other]


def test_a_tier_that_is_unsure_where_it_errs_escalates_there_and_nowhere_else():
    """Wrong calls have -2 nats a token, right ones -0.2: the threshold lies between, standard mends all."""
    rates = {"base": {}, "fast": {"misread_constraint": 0.2}}
    prices = CostsConfig(dollars_per_million_tokens={"base": 500.0, "fast": 100.0})
    agent = compared(planted_run(rates, num_tasks=48, nats=(-4.0, -40.0)), costs=prices)
    assert -2 < agent["thresholds"]["fast"] <= -0.2
    unsure, fast = (agent["policies"][f"{name}"] for name in ("fast, standard where unsure", "all fast"))
    assert unsure["completion_rate"]["value"] == 1 and unsure["retries"]["value"] == 0
    assert unsure["total"]["wrong"] == unsure["total"]["fixes"] == 0 < fast["total"]["wrong"]
    assert best_policy(agent) == "fast, standard where unsure"
    assert "(sure: mean token log-probability of" in advice(agent) and " nats or more)" in advice(agent)
    served = serve_section(agent, "fast", "escalate")
    assert served["escalate_below"] == pytest.approx(agent["thresholds"]["fast"], abs=1e-4)


def test_a_tier_that_makes_no_mistakes_never_escalates():
    agent = compared(planted_run({"base": {}, "fast": {}}, num_tasks=16))
    assert agent["thresholds"]["fast"] is None
    assert rules_table(agent).rows[0][1] == "always"
    json.dumps(agent, allow_nan=False)


def test_answers_without_log_probabilities_cannot_escalate():
    rows = [
        {label: [as_written(row) for row in of_tier] for label, of_tier in part.items()}
        for part in planted_run({"base": {}, "fast": {}}, num_tasks=8)
    ]
    agent = compared(rows, trials=3)
    assert agent["thresholds"] == {} and "fast, standard where unsure" not in agent["policies"]
    assert rules_table(agent).rows[0][1] == "always"


def as_written(row):
    """A row of the choice form as an endpoint that tells no log-probabilities would have given it."""
    number = int(np.argmax(row["log_likelihoods"]))
    keys = {"errors": "error", "executes": "executes", "reversible": "reversible"}
    answer = {key: row[column][number] for column, key in keys.items()}
    answer |= {"tokens_written": 20, "mean_logprob": None}
    told = {"task": row["task"], "step": row["step"], "gold_reversible": row["reversible"][row["gold"]]}
    return told | {"answers": [answer] * 3, "tokens_read": 100}


@pytest.mark.parametrize("kind", ["standard", "all", "tiered", "escalate", "cascade"])
def test_what_serve_is_told_has_its_keys_and_words(kind):
    told = serve_section({"thresholds": {"fast": -0.31234}}, "fast", kind)
    assert list(told) == ["default_tier", "policy", "reversible_tools", "escalate_below"]
    assert told["default_tier"] == ("standard" if kind == "standard" else "fast")
    assert told["policy"] == ("gate" if kind == "tiered" else "off")
    assert told["escalate_below"] == (-0.3123 if kind == "escalate" else None)
    assert told["reversible_tools"] == []  # simulated ones: a real tool of the same name may do anything


@pytest.mark.parametrize("fast", [0.03, 0.3])
@pytest.mark.parametrize("loss", [0.0, 50.0])
def test_the_chosen_policy_is_no_worse_than_either_tier_alone_on_held_out_tasks(fast, loss):
    """Chosen on some tasks; on others it costs no more than the better of all fast and all standard."""
    rates = {"base": {"misread_constraint": 0.02}, "fast": {"misread_constraint": fast}}
    costs = {"dollars_per_wrong_commit": loss, "dollars_per_million_tokens": {"base": 500.0, "fast": 100.0}}
    chosen = best_policy(
        compared(planted_run(rates, num_tasks=64), costs=CostsConfig(**costs)), without=("all priority",)
    )
    held_out = compared(planted_run(rates, num_tasks=64, seed=8), costs=CostsConfig(**costs))
    better = min(held_out["cost_per_success"][name] for name in ("all standard", "all fast"))
    assert held_out["policies"][chosen]["cost_per_success"]["low"] <= better
