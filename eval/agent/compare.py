"""All policies on the same recorded answers: what each costs, who should commit, where fast begins to pay."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.agent.closed_forms import commit_threshold
from eval.agent.policies import (
    PRIORITY,
    STANDARD,
    Route,
    Run,
    Tier,
    always,
    cascade,
    escalate,
    run_all,
    spent,
    tiered,
)
from eval.agent.records import TaskRecord
from eval.agent.scores import tier_facts
from eval.agent.spending import Figure, mean_cost, per_run, saving
from fastpath.bootstrap import Floats, bootstrap_ratio, interval_of
from fastpath.config_costs import AgentConfig, CostsConfig

NUM_THRESHOLDS = 20
NEVER, ALWAYS = -math.inf, 0.0
"""Thresholds: no answer is below the one; all but those that are certain are below the other."""


def compare_policies(
    tasks: Sequence[TaskRecord],
    calibration: Sequence[TaskRecord],
    tiers: Mapping[str, Tier],
    config: AgentConfig,
    costs: CostsConfig,
    *,
    seed: int,
) -> dict[str, Any]:
    """Facts of every tier and every policy, as JSON data. Tiers: base and each variant; priority is added."""
    with_priority = {**tiers, PRIORITY: priority(tiers[STANDARD], costs)}
    variants = [label for label in tiers if label != STANDARD]
    thresholds = {
        label: best_threshold(calibration, label, with_priority, config, costs)
        for label in variants
        if logprobs(calibration, label)  # some servers tell none
    }
    routes = policies(variants, thresholds)
    runs = {name: _runs(tasks, route, with_priority, config) for name, (_, _, route) in routes.items()}
    rows = {}
    for name, (tier, kind, _) in routes.items():
        rows[name] = {
            "tier": tier,
            "policy": kind,
            **per_run(runs[name], costs, seed=seed),
            "saving": saving(runs[name], runs[ALL_STANDARD], costs, seed=seed),
            **totals(runs[name]),
        }
    return {
        "num_tasks": len(tasks),
        "num_steps": sum(len(task.reversible) for task in tasks),
        "num_calibration_tasks": len(calibration),
        "trials": config.trials,
        "attempts": config.attempts,
        "temperature": config.temperature,
        "detection": config.detection,
        "costs": costs.model_dump(),
        "tiers": {label: tier_facts(tasks, label, seed=seed) for label in tiers},
        "thresholds": {
            label: None if threshold == NEVER else threshold for label, threshold in thresholds.items()
        },
        "commit": {
            label: commit_facts(tasks, label, with_priority, costs, detection=config.detection, seed=seed)
            for label in variants
        },
        "policies": rows,
        "cost_per_success": {name: row["cost_per_success"]["value"] for name, row in rows.items()},
    }


ALL_STANDARD, ALL_PRIORITY = "all standard", "all priority"


def policies(variants: Sequence[str], thresholds: Mapping[str, float]) -> dict[str, tuple[str, str, Route]]:
    """{name: (tier, kind, route)}; `thresholds`: nats below which a variant asks standard, if any."""
    routes: dict[str, tuple[str, str, Route]] = {
        ALL_STANDARD: (STANDARD, "all", always(STANDARD)),
        ALL_PRIORITY: (PRIORITY, "all", always(PRIORITY)),
    }
    for label in variants:
        routes[f"all {label}"] = (label, "all", always(label))
        routes[f"{label}, standard commits"] = (label, "tiered", tiered(label))
        if label in thresholds:
            unsure = escalate(label, thresholds[label])
            routes[f"{label}, standard where unsure"] = (label, "escalate", unsure)
        routes[f"{label}, then standard"] = (label, "cascade", cascade(label))
    return routes


def priority(standard: Tier, costs: CostsConfig) -> Tier:
    """The standard tier's weights, served sooner and dearer: its answers, its errors."""
    return Tier(
        seconds_per_token_read=standard.seconds_per_token_read / costs.priority_speed,
        seconds_per_token_written=standard.seconds_per_token_written / costs.priority_speed,
        dollars_per_token_read=standard.dollars_per_token_read * costs.priority_price,
        dollars_per_token_written=standard.dollars_per_token_written * costs.priority_price,
        queue_seconds=0.0,
        records=standard.records,
    )


def best_threshold(
    tasks: Sequence[TaskRecord],
    label: str,
    tiers: Mapping[str, Tier],
    config: AgentConfig,
    costs: CostsConfig,
) -> float:
    """The mean token log-probability below which asking standard is cheapest, on calibration tasks (nats)."""
    quantiles = np.quantile(logprobs(tasks, label), np.linspace(0, 1, NUM_THRESHOLDS))
    candidates = [NEVER, *quantiles.tolist(), ALWAYS]

    def cost(threshold: float) -> float:
        return mean_cost(_runs(tasks, escalate(label, threshold), tiers, config), costs)

    return min(candidates, key=cost)


def logprobs(tasks: Sequence[TaskRecord], label: str) -> list[float]:
    """Mean token log-probability of every answer of a tier that has one."""
    answers = (answer for task in tasks for record in task.steps[label] for answer in record.answers)
    return [answer.mean_logprob for answer in answers if answer.mean_logprob is not None]


def commit_facts(
    tasks: Sequence[TaskRecord],
    label: str,
    tiers: Mapping[str, Tier],
    costs: CostsConfig,
    *,
    detection: float,
    seed: int,
) -> dict[str, float | Figure | None]:
    """Who should make calls that cannot be undone: the loss from which on standard pays; None: never.

    From the answers to steps whose right call cannot be undone, whole tasks resampled. p_*: right answers.
    The loss, as in the cost model, is that of a wrong call which a tool executes, which cannot be undone and
    which nobody notices (chance 1 - detection); the rule compares the chances of that.
    """
    rows, clusters = [], []
    for task in tasks:
        for number, reversible in enumerate(task.reversible):
            for trial in range(0 if reversible else task.trials):
                row: list[float] = []
                for tier in (STANDARD, label):
                    record = task.steps[tier][number]
                    answer = record.answers[trial]
                    harmful = bool(answer.error) and answer.executes and not answer.reversible
                    harmless = 1 - harmful * (1 - detection)
                    row += [harmless, *spent(tiers[tier], record, trial), not answer.error]
                rows.append(row)
                clusters.append(task.id)
    if not rows:
        return {"p_standard": None, "p_fast": None, "loss": None}
    values, draws = bootstrap_ratio(
        np.array(rows, dtype=float), np.ones(len(rows)), clusters=clusters, seed=seed
    )
    worth = costs.dollars_per_waiting_hour / 3600
    losses = np.array([_commit_loss(draw, worth) for draw in draws])
    with np.errstate(invalid="ignore"):
        low, high = interval_of(losses[:, None], freedom=len(set(clusters)) - 1)
    ends = (_commit_loss(values, worth), float(low[0]), float(high[0]))
    finite = [end if np.isfinite(end) else None for end in ends]
    loss: Figure = dict(zip(("value", "low", "high"), finite, strict=True))
    return {"p_standard": float(values[3]), "p_fast": float(values[7]), "loss": loss}


def _commit_loss(means: Floats, dollars_per_second: float) -> float:
    """commit_threshold of (harmless, seconds, dollars, right) of standard, then of fast."""
    p_standard, t_standard, c_standard, _, p_fast, t_fast, c_fast, _ = map(float, means)
    return commit_threshold(
        p_standard,
        p_fast,
        extra_cost=c_standard - c_fast,
        extra_seconds=t_standard - t_fast,
        dollars_per_second=dollars_per_second,
    )


def totals(runs: Sequence[Run]) -> dict[str, Any]:
    """Sums over runs, from which the cost at other prices of people and losses follows."""
    return {
        "total": {
            "runs": len(runs),
            "right": sum(not run.wrong for run in runs),
            "model_dollars": sum(run.model_dollars for run in runs),
            "waiting_seconds": sum(run.waiting_seconds for run in runs),
            "attempts": sum(run.attempts for run in runs),
            "fixes": sum(run.fixes for run in runs),
            "wrong": sum(run.wrong for run in runs),
            "wrong_commits": sum(run.wrong_commits for run in runs),
        }
    }


def _runs(
    tasks: Sequence[TaskRecord], route: Route, tiers: Mapping[str, Tier], config: AgentConfig
) -> list[Run]:
    return run_all(
        tasks,
        route,
        tiers,
        attempts=config.attempts,
        detection=config.detection,
    )
