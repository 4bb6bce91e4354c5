"""How reliable a tier is: its errors by class, right answers by kind of step, pass@k and pass^k."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.agent.checker import ERRORS
from eval.agent.closed_forms import pass_at, pass_hat
from eval.agent.records import TaskRecord
from eval.agent.spending import Figure, never_certain
from fastpath.bootstrap import Clusters, Floats, bootstrap_ratio, interval_of

RIGHT = "right"


def tier_facts(tasks: Sequence[TaskRecord], tier: str, *, seed: int) -> dict[str, Any]:
    """Error profile over all answers, accuracy on steps that can and cannot be undone, pass curves."""
    names = (RIGHT, *ERRORS)
    rows, clusters, undoable = [], [], []
    for task in tasks:
        for record, reversible in zip(task.steps[tier], task.reversible, strict=True):
            for answer in record.answers:
                rows.append([(answer.error or RIGHT) == name for name in names])
                clusters.append(task.id)
                undoable.append(reversible)
    outcomes, mask = np.array(rows, dtype=float), np.array(undoable)
    return {
        "num_answers": len(rows),
        "profile": dict(zip(names, rates(outcomes, clusters, seed=seed), strict=True)),
        "right_reversible": _rate_where(outcomes, clusters, mask, seed=seed),
        "right_irreversible": _rate_where(outcomes, clusters, ~mask, seed=seed),
        **pass_curves(tasks, tier, seed=seed),
    }


def _rate_where(outcomes: Floats, clusters: Sequence[str], where: Any, *, seed: int) -> Figure | None:
    chosen = [cluster for cluster, use in zip(clusters, where, strict=True) if use]
    return rates(outcomes[where, :1], chosen, seed=seed)[0] if chosen else None


def rates(outcomes: Floats, clusters: Clusters, *, seed: int) -> list[Figure]:
    """Mean of each column (items, columns) with its 95 % interval over clusters."""
    num = len(set(clusters)) if clusters is not None else len(outcomes)
    values, draws = bootstrap_ratio(outcomes, np.ones(len(outcomes)), clusters=clusters, seed=seed)
    low, high = interval_of(draws, freedom=num - 1)
    return [
        never_certain(float(value), float(a), float(b), num)
        for value, a, b in zip(values, low, high, strict=True)
    ]


def pass_curves(tasks: Sequence[TaskRecord], tier: str, *, seed: int) -> dict[str, list[Figure]]:
    """{"pass_at": ..., "pass_hat": ...}, a figure for each k up to the trials; no retries, no person.

    A trial succeeds where every step is right. Trials: those that every task has.
    """
    wins = [
        sum(all(not record.answers[t].error for record in task.steps[tier]) for t in range(task.trials))
        for task in tasks
    ]
    ks = range(1, min(task.trials for task in tasks) + 1)
    curves = {}
    for name, estimate in (("pass_at", pass_at), ("pass_hat", pass_hat)):
        pairs = zip(tasks, wins, strict=True)
        columns = np.array([[estimate(task.trials, won, k) for k in ks] for task, won in pairs])
        curves[name] = rates(columns, [task.id for task in tasks], seed=seed)
    return curves
