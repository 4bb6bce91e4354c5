"""The policy that an evaluation chose, served by `python -m serve`: it costs no more than the better tier."""

import json

import pytest
from agents import compared
from scripted_tier import NEW_TOKENS, PROMPT_TOKENS, scripted_tier
from tiny import byte_tokenizer, run_stage, write_recipe, write_tiny

from benchmarks.policy import facts_of, measure, retry_tier
from benchmarks.policy import main as benchmark
from benchmarks.policy_client import Setting, answers_paid, message_of, run_tasks
from eval.agent.planted import planted_run
from eval.agent.policies import STANDARD, Run, Tier
from eval.agent.tasks import generate_tasks
from eval.route import call_classes, servable, serve_section
from fastpath.config_costs import AgentConfig, CostsConfig

TASKS = generate_tasks(split="evaluation", seed=1000, num_tasks=48)
RATES = {STANDARD: {"misread_constraint": 0.05}, "fast": {"misread_constraint": 0.2}}
PRICES = {"escalate": 1700.0, "cascade": 1700.0, "tiered": 6800.0}  # of a million tokens of standard
FAST_PRICE = 170.0
COSTS = {
    "escalate": {"minutes_per_repair": 15.0, "dollars_per_wrong_commit": 0.0},
    "cascade": {"minutes_per_repair": 0.0, "dollars_per_wrong_commit": 0.0},
    "tiered": {"minutes_per_repair": 0.0, "dollars_per_wrong_commit": 60.0},
}
# Of dear mistakes that are rare a sample may hold none, and all fast looks cheap: here there are about ten.
DETECTION = {"escalate": 0.5, "cascade": 1.0, "tiered": 0.6}
NATS = {"escalate": (-2.0, -20.0), "cascade": (-2.0, -2.0), "tiered": (-2.0, -2.0)}


def priced(dollars_per_million_tokens):
    return Tier(1e-4, 1e-3, *[dollars_per_million_tokens / 1e6] * 2)


def policy_for(kind, costs):
    """A policy file's data, chosen on other tasks by agents that err as often as the servers do."""
    settings = {"attempts": 2, "detection": DETECTION[kind]}
    agent = compared(planted_run(RATES, num_tasks=64, nats=NATS[kind]), costs=costs, **settings)
    name = servable(agent | {"form": "tools"})
    found = agent["policies"][name]["policy"]
    assert found == kind, (name, agent["cost_per_success"])
    return {
        "serve": serve_section(agent, "fast", found),
        "classes": call_classes(agent, "fast", found),
        "because": name,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["escalate", "cascade", "tiered"])
def test_a_served_policy_costs_no_more_than_either_tier_alone(tmp_path, kind):
    """fast is right in 80 %, standard in 95 %, behind a real gateway; tasks that the choice has not seen."""
    prices = {"fast": FAST_PRICE, STANDARD: PRICES[kind]}
    costs = CostsConfig(dollars_per_million_tokens=prices, **COSTS[kind])
    paid = {"fast": priced(prices["fast"]), "standard": priced(prices[STANDARD])}
    policy = policy_for(kind, costs)
    config = AgentConfig(form="tools", trials=2, attempts=2, detection=DETECTION[kind], examples=0)
    nats = tuple(value / NEW_TOKENS for value in NATS[kind])
    with (
        scripted_tier("quick", TASKS, errs=RATES["fast"], nats=nats) as fast,
        scripted_tier("sound", TASKS, errs=RATES[STANDARD], nats=nats) as standard,
    ):
        tiers = {tier: {"url": server.url, "model": server.name} for tier, server in
                 (("fast", fast), ("standard", standard))}  # fmt: skip
        recipe = {
            "out": str(tmp_path),
            "model": {"name": "folder/scripted"},
            "serve": {"tiers": ["fast", "standard"], **tiers},
        }
        facts = measure(recipe, policy, TASKS, paid, config, costs, seed=7)
    assert facts["infrastructure_errors"] == 0 and facts["runs"] == 2 * len(TASKS)
    gain = facts["policy_minus_best_dollars"]
    assert gain["low"] <= 0, facts
    assert gain["value"] < 0 or kind == "tiered", facts  # there a few dear mistakes decide
    if kind == "escalate":
        assert gain["high"] < 0, facts
    json.dumps(facts, allow_nan=False)


@pytest.mark.slow
def test_one_command_serves_a_run_s_policy(tmp_path, monkeypatch, capsys):
    """Written calls end to end: prune, eval with form: tools, then the benchmark, on a tiny model."""
    folder = write_tiny(tmp_path / "model", max_position_embeddings=8192)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    agent = {"tasks": 2, "calibration_tasks": 2, "trials": 1, "attempts": 1, "form": "tools", "examples": 0}
    recipe = write_recipe(
        tmp_path / "r.yaml",
        model=folder,
        out=tmp_path / "run",
        prune={"criterion": "cosine"},
        eval={"agent": agent | {"max_new_tokens": 4}, "depth": [], "complex": ["fastpath_arithmetic"]},
    )
    assert run_stage("prune", recipe) == 0
    assert run_stage("eval", recipe) == 0
    given = ["policy.py", "--run", str(tmp_path / "run"), "--tasks", "2", "--trials", "1"]
    monkeypatch.setattr("sys.argv", given)
    assert benchmark() == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(facts["cost_per_success"]) == set(facts["answers"]) == {"all fast", "all standard", "policy"}
    assert facts["infrastructure_errors"] == 0 and facts["runs"] == 2
    monkeypatch.setattr("sys.argv", [*given, "--seed", "0"])
    assert benchmark() == 2
    assert "its tasks are not held out" in capsys.readouterr().err


def test_every_answer_behind_a_reply_is_paid():
    usage = {"prompt_tokens": 100, "completion_tokens": 9}
    plain = {"service_tier": "fast", "usage": usage}
    redone = {"service_tier": "standard", "usage": usage, "fastpath": {"fast_tokens": 120}}
    gated = {"service_tier": "fast", "usage": usage, "fastpath": {"confirmation_tokens": 111}}
    assert list(answers_paid(plain)) == [("fast", 100, 9)]
    assert list(answers_paid(redone)) == [("standard", 100, 9), ("fast", 100, 20)]
    assert list(answers_paid(gated)) == [("fast", 100, 9), ("standard", 100, 11)]


def test_where_the_tiers_disagree_standard_commits():
    reply = {"choices": [{"message": {"content": "Nothing was called."}}]}
    assert message_of(reply)["content"] == "Nothing was called."
    calls = [{"function": {"name": "pay", "arguments": "{}"}}]
    note = {"verdict": "disagreed", "standard": calls}
    assert message_of(reply | {"fastpath": note}) == {"tool_calls": calls}


def test_a_failed_call_is_asked_again_of_the_tier_that_the_policy_names():
    agent = compared(planted_run({STANDARD: {}, "fast": {}}, num_tasks=8))
    for kind, tier in (
        ("cascade", "standard"),
        ("all", "fast"),
        ("standard", "standard"),
        ("tiered", "fast"),
    ):
        assert retry_tier({"classes": call_classes(agent, "fast", kind)}) == tier


def test_runs_that_lost_an_answer_in_one_setting_count_in_none():
    def run(task, dollars):
        return Run(task, 1, 1, 0.0, dollars, 0, False, 0), 1

    done = {
        "all fast": [run("a", 1.0), run("b", 1.0), run("c", 1.0)],
        "all standard": [run("a", 2.0), run("b", 2.0), (None, 1)],
        "policy": [run("a", 1.0), run("b", 1.0), run("c", 9.0)],
    }
    facts = facts_of(done, CostsConfig(), seed=0)
    assert facts["runs"] == 2 and facts["infrastructure_errors"] == 1 and facts["best"] == "all fast"
    assert facts["policy_minus_best_dollars"]["value"] == 0
    assert facts["answers"] == {"all fast": 3, "all standard": 3, "policy": 3}


def test_no_server_is_no_answer_and_not_a_mistake(monkeypatch):
    monkeypatch.setattr("eval.agent.written.TRIES", 1)
    nowhere = Setting("all fast", "http://127.0.0.1:9/v1", "x", "fast", "fast")
    config = AgentConfig(form="tools", trials=1, attempts=1)
    assert run_tasks(TASKS[:2], nowhere, {}, config, seed=0) == [(None, 1)] * 2


def test_the_scripted_servers_are_wrong_as_often_as_they_should():
    with scripted_tier("quick", TASKS, errs=RATES["fast"]) as server:
        drawn = [
            server.answer([{"role": "user", "content": f"Task: {task.goal}\nDone before: nothing."}])[0]
            for task in TASKS
            for _ in range(20)
        ]
    right = [call.text for task in TASKS for call in task.gold[:1] * 20]
    share = sum(a.text == b for a, b in zip(drawn, right, strict=True)) / len(drawn)
    assert 0.75 < share < 0.85 and PROMPT_TOKENS > NEW_TOKENS
