"""Closed forms against simulation, and intervals that cover the truth."""

import math
from itertools import pairwise

import numpy as np
import pytest

from eval.agent.closed_forms import Attempts, cascade_cost, commit_threshold, pass_at, pass_hat
from eval.agent.policies import STANDARD, Tier, always, cascade, run_all
from eval.agent.records import Answer, StepRecord, TaskRecord
from eval.agent.spending import cost_per_success, dollars, per_run, saving
from fastpath.config_costs import CostsConfig

COSTS = CostsConfig(minutes_per_fix=1.0, minutes_per_repair=0.0, dollars_per_wrong_commit=2.0)
FIX, LOSS = 1.0, 2.0  # dollars: a minute at a dollar a minute
CALL = 0.5  # dollars of one answer
ONE = {STANDARD: Tier(0.0, 0.1, 0.0, CALL)}
TIERS = {**ONE, "fast": Tier(0.0, 0.01, 0.0, CALL / 5, records="fast")}


def planted(random, *, tasks, steps, trials, p, spread=0.0, reversible=False):
    """Tasks on which one tier is right with chance p, which differs from task to task by `spread`."""
    made = []
    for number in range(tasks):
        mine = p + spread * (1 if number % 2 else -1)
        records = []
        for _ in range(steps):
            drawn = zip(random.random(trials) < mine, random.random(trials), strict=True)
            answers = (
                Answer("" if right else "misread_constraint", True, reversible, float(luck), 1)
                for right, luck in drawn
            )
            records.append(StepRecord(tuple(answers), 10))
        made.append(TaskRecord(str(number), (reversible,) * steps, {STANDARD: tuple(records)}))
    return made


def merged(fast, standard):
    return [
        TaskRecord(a.id, a.reversible, {"fast": a.steps[STANDARD], STANDARD: b.steps[STANDARD]})
        for a, b in zip(fast, standard, strict=True)
    ]


@pytest.mark.parametrize("p", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("limit", [1, 2, 4])
@pytest.mark.parametrize("detection", [1.0, 0.8])
def test_closed_forms_agree_with_simulation_to_1_percent(p, limit, detection):
    # As the policies run, a million times: who is accepted when, and who is right.
    random = np.random.default_rng(int(1000 * p) + limit)
    runs = 1_000_000
    right = random.random((runs, limit)) < p
    accepted = right | (random.random((runs, limit)) >= detection)
    first = np.where(accepted.any(1), accepted.argmax(1), limit)
    tries = np.minimum(first + 1, limit)
    handed = first == limit
    fine = ~handed & right[np.arange(runs), np.minimum(first, limit - 1)]
    wrong = ~handed & ~fine
    form = Attempts(p, limit, detection)
    assert form.expected == pytest.approx(tries.mean(), rel=0.01)
    assert form.retries == pytest.approx(tries.mean() - 1, rel=0.01, abs=1e-3)
    assert form.right == pytest.approx(fine.mean(), rel=0.01)
    assert form.wrong == pytest.approx(wrong.mean(), rel=0.01, abs=1e-3)
    assert form.handed_over == pytest.approx(handed.mean(), rel=0.01, abs=1e-3)
    spent = (CALL * tries + FIX * handed + LOSS * wrong).sum() / (~wrong).sum()
    assert form.cost_per_success(attempt=CALL, fix=FIX, loss=LOSS) == pytest.approx(spent, rel=0.01)


@pytest.mark.parametrize(("detection", "limit"), [(1.0, 3), (0.7, 2)])
def test_policies_on_planted_answers_agree_with_closed_forms_to_1_percent(detection, limit):
    random = np.random.default_rng(1)
    tasks = planted(random, tasks=20_000, steps=1, trials=4, p=0.7)
    runs = run_all(tasks, always(STANDARD), ONE, attempts=limit, detection=detection)
    form = Attempts(0.7, limit, detection)
    assert np.mean([r.attempts for r in runs]) == pytest.approx(form.expected, rel=0.01)
    assert np.mean([r.completed for r in runs]) == pytest.approx(form.right, rel=0.01)
    spent = sum(dollars(r, COSTS) for r in runs) / sum(not r.wrong for r in runs)
    assert form.cost_per_success(attempt=CALL, fix=FIX, loss=LOSS) == pytest.approx(spent, rel=0.01)
    assert np.mean([r.waiting_seconds for r in runs]) == pytest.approx(0.1 * form.expected, rel=0.01)


def test_a_cascade_takes_standard_s_chance_where_fast_failed():
    """Half of the steps are easy, for both tiers: each is right in 70 %, but standard in 40 % after fast."""
    random = np.random.default_rng(2)
    hard = {"tasks": 20_000, "steps": 1, "trials": 2, "p": 0.7, "spread": 0.3}
    tasks = merged(planted(random, **hard), planted(random, **hard))
    runs = run_all(tasks, cascade("fast"), TIERS, attempts=2, detection=1.0)
    form = cascade_cost(0.7, 0.4, fast=CALL / 5, standard=CALL, fix=FIX)
    assert np.mean([dollars(r, COSTS) for r in runs]) == pytest.approx(form, rel=0.01)
    assert cascade_cost(0.7, 0.7, fast=CALL / 5, standard=CALL, fix=FIX) < 0.8 * form


def test_a_mean_of_ratios_is_wrong():
    """Half of the tasks always succeed, half hardly ever: the mean of each task's own ratio is far off."""
    random = np.random.default_rng(3)
    tasks = planted(random, tasks=400, steps=1, trials=20, p=0.55, spread=0.4, reversible=True)
    costs = CostsConfig(minutes_per_fix=0.0, minutes_per_repair=0.0)
    runs = run_all(tasks, always(STANDARD), ONE, attempts=1, detection=0.0)
    truth = CALL / 0.55  # every run costs one call, 55 % succeed
    assert cost_per_success(runs, costs, seed=0)["value"] == pytest.approx(truth, rel=0.03)
    by_task: dict[str, list] = {}
    for run in runs:
        by_task.setdefault(run.task, []).append(run)
    ratios = [
        sum(dollars(r, costs) for r in mine) / wins
        for mine in by_task.values()
        if (wins := sum(not r.wrong for r in mine))
    ]
    assert np.mean(ratios) > 1.5 * truth


def test_intervals_cover_the_truth_in_500_simulated_runs(monkeypatch):
    monkeypatch.setattr("eval.agent.spending.DRAWS", 1000)
    random = np.random.default_rng(4)
    form = [Attempts(p, 2, 0.8) for p in (0.6, 0.9)]
    spent = sum(f.cost(attempt=CALL, fix=FIX, loss=LOSS) for f in form)
    truth = spent / sum(1 - f.wrong for f in form)
    completion = sum(f.right for f in form) / 2
    truths = {"cost_per_success": truth, "completion_rate": completion}
    covered = dict.fromkeys(truths, 0)
    for number in range(500):
        tasks = planted(random, tasks=40, steps=1, trials=4, p=0.75, spread=0.15)
        runs = run_all(tasks, always(STANDARD), ONE, attempts=2, detection=0.8)
        facts = per_run(runs, COSTS, seed=number)
        for name, value in truths.items():
            covered[name] += facts[name]["low"] <= value <= facts[name]["high"]
    # 95 %, and two standard errors of the simulation
    assert all(0.93 < count / 500 < 0.985 for count in covered.values()), covered


def test_without_any_success_the_cost_is_none_and_not_a_number():
    random = np.random.default_rng(5)
    tasks = planted(random, tasks=5, steps=1, trials=2, p=0.0)
    runs = run_all(tasks, always(STANDARD), ONE, attempts=1, detection=0.0)
    assert cost_per_success(runs, COSTS, seed=0) == {"value": None, "low": None, "high": None}
    assert saving(runs, runs, COSTS, seed=0)["value"] is None


def test_a_policy_saves_nothing_over_itself():
    tasks = planted(np.random.default_rng(6), tasks=30, steps=2, trials=2, p=0.8)
    runs = run_all(tasks, always(STANDARD), ONE, attempts=2, detection=0.9)
    assert saving(runs, runs, COSTS, seed=0) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_limits_are_what_the_formulas_say():
    assert Attempts(0.25, 10**6).expected == pytest.approx(4)  # 1 / p
    assert Attempts(0.25, 10**6).cost_per_success(attempt=2.0, fix=9.0) == pytest.approx(8)  # cost of pass
    assert Attempts(0.0, 3).handed_over == 1 and Attempts(1.0, 3).expected == 1
    assert Attempts(0.0, 1, detection=0.0).cost_per_success(attempt=1.0, fix=1.0) == math.inf
    form = Attempts(0.4, 3, 0.5)
    assert form.right + form.wrong + form.handed_over == pytest.approx(1)


def test_the_commit_threshold_of_the_worked_example():
    # 0.9 against 0.7 right, 2 against 1 dollars, 5 seconds at a cent each: from 5.25 dollars up
    loss = commit_threshold(0.9, 0.7, extra_cost=1.0, extra_seconds=5.0, dollars_per_second=0.01)
    assert loss == pytest.approx(5.25)
    worse = commit_threshold(0.7, 0.7, extra_cost=1.0, extra_seconds=0.0, dollars_per_second=0.0)
    assert worse == math.inf
    assert commit_threshold(0.8, 0.7, extra_cost=-1.0, extra_seconds=0.0, dollars_per_second=0.0) == 0
    assert commit_threshold(0.7, 0.7, extra_cost=0.0, extra_seconds=0.0, dollars_per_second=0.0) == math.inf


def test_pass_at_k_and_pass_hat_k_are_unbiased():
    assert [round(pass_hat(8, 6, k), 3) for k in (1, 2, 4, 8)] == [0.75, 0.536, 0.214, 0]
    random = np.random.default_rng(7)
    successes = random.binomial(8, 0.6, size=20_000)
    for k in (1, 2, 4, 8):
        assert np.mean([pass_hat(8, s, k) for s in successes]) == pytest.approx(0.6**k, abs=0.01)
        assert np.mean([pass_at(8, s, k) for s in successes]) == pytest.approx(1 - 0.4**k, abs=0.01)
    curve = [pass_hat(8, 5, k) for k in range(1, 9)]
    assert all(a >= b for a, b in pairwise(curve))
