"""Runs of a policy -> what they cost: ratios of sums with intervals, whole tasks resampled."""

import math
from collections.abc import Sequence

import numpy as np

from eval.agent.policies import Run
from fastpath.bootstrap import Floats, bootstrap_ratio, interval_of
from fastpath.config_costs import CostsConfig
from fastpath.stats import wilson

Figure = dict[str, float | None]
"""{"value", "low", "high"}: 95 %; None is infinite: there may be no success to pay for."""

DRAWS = 4000


def never_certain(value: float, low: float, high: float, num: int) -> Figure:
    """A rate with its interval; one of 0 or 1 has no spread to resample: its open end is Wilson's (1927).

    num: independent units. What was never seen in 48 tasks may still come in 7 % of them.
    """
    if value in (0.0, 1.0):
        end = wilson(round(value * num), num)
        low, high = (0.0, end.high) if value == 0.0 else (end.low, 1.0)
    return {"value": value, "low": low, "high": high}


def human_minutes(run: Run, costs: CostsConfig) -> float:
    """Of a person: steps done by hand, and a wrong outcome found and mended later."""
    return run.fixes * costs.minutes_per_fix + run.wrong * costs.minutes_per_repair


def dollars(run: Run, costs: CostsConfig) -> float:
    """All that a run cost: model, checks, waiting, people, losses."""
    return (
        run.model_dollars
        + run.attempts * costs.dollars_per_check
        + run.waiting_seconds / 3600 * costs.dollars_per_waiting_hour
        + human_minutes(run, costs) / 60 * costs.dollars_per_human_hour
        + run.wrong_commits * costs.dollars_per_wrong_commit
    )


def per_run(runs: Sequence[Run], costs: CostsConfig, *, seed: int) -> dict[str, Figure]:
    """Means over runs, and the cost of a success."""
    columns = {
        "attempts": [run.attempts for run in runs],
        "retries": [run.attempts - run.steps for run in runs],
        "completion_rate": [run.completed for run in runs],
        "success_rate": [not run.wrong for run in runs],
        "human_minutes": [human_minutes(run, costs) for run in runs],
        "waiting_minutes": [run.waiting_seconds / 60 for run in runs],
        "total_minutes": [run.waiting_seconds / 60 + human_minutes(run, costs) for run in runs],
        "model_dollars": [run.model_dollars for run in runs],
        "dollars": [dollars(run, costs) for run in runs],
        "wrong_commits": [run.wrong_commits for run in runs],
    }
    numerators = np.array(list(columns.values()), dtype=float).T
    values, low, high = _ratios(runs, numerators, np.ones(len(runs)), seed=seed)
    figures: dict[str, Figure] = {
        name: {"value": value, "low": a, "high": b}
        for name, value, a, b in zip(columns, values, low, high, strict=True)
    }
    for name in ("completion_rate", "success_rate"):
        value, a, b = (float(figures[name][key] or 0) for key in ("value", "low", "high"))
        figures[name] = never_certain(value, a, b, _tasks(runs))
    return figures | {"cost_per_success": cost_per_success(runs, costs, seed=seed)}


def cost_per_success(runs: Sequence[Run], costs: CostsConfig, *, seed: int) -> Figure:
    """All that was spent, failures and people included, over the outcomes that are right in the end."""
    (value,), (low,), (high,) = _ratios(runs, _spent(runs, costs), _right(runs), seed=seed)
    return {"value": value, "low": low, "high": high}


def mean_cost(runs: Sequence[Run], costs: CostsConfig) -> float:
    """The value of cost_per_success; infinite where nothing succeeds."""
    right = _right(runs).sum()
    return float(_spent(runs, costs).sum() / right) if right else math.inf


def saving(runs: Sequence[Run], other: Sequence[Run], costs: CostsConfig, *, seed: int) -> Figure:
    """Cost per success of `other` minus that of `runs`, on the same tasks resampled together."""
    draws, values = [], []
    for side in (other, runs):
        value, drawn = _bootstrap(side, _spent(side, costs), _right(side), seed=seed)
        values.append(float(value[0]))
        draws.append(drawn[:, 0])
    with np.errstate(invalid="ignore"):
        difference = draws[0] - draws[1]
    known = difference[~np.isnan(difference)]  # infinite on both sides: no difference to speak of
    if not len(known) or not math.isfinite(values[0] - values[1]):
        return {"value": None, "low": None, "high": None}
    low, high = interval_of(known[:, None], freedom=_tasks(runs) - 1)
    return {"value": values[0] - values[1], "low": _finite(low[0]), "high": _finite(high[0])}


def _spent(runs: Sequence[Run], costs: CostsConfig) -> Floats:
    return np.array([[dollars(run, costs)] for run in runs], dtype=float)


def _right(runs: Sequence[Run]) -> Floats:
    return np.array([not run.wrong for run in runs], dtype=float)


def _bootstrap(
    runs: Sequence[Run], numerators: Floats, denominators: Floats, *, seed: int
) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        values, draws = bootstrap_ratio(
            numerators, denominators, clusters=[run.task for run in runs], draws=DRAWS, seed=seed
        )
    return np.nan_to_num(values, nan=np.inf, posinf=np.inf), np.nan_to_num(draws, nan=np.inf, posinf=np.inf)


def _ratios(
    runs: Sequence[Run], numerators: Floats, denominators: Floats, *, seed: int
) -> tuple[list[float | None], list[float | None], list[float | None]]:
    values, draws = _bootstrap(runs, numerators, denominators, seed=seed)
    with np.errstate(invalid="ignore"):
        low, high = interval_of(draws, freedom=_tasks(runs) - 1)
    low, high = (np.nan_to_num(ends, nan=np.inf, posinf=np.inf) for ends in (low, high))
    return [*map(_finite, values)], [*map(_finite, low)], [*map(_finite, high)]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _tasks(runs: Sequence[Run]) -> int:
    return len({run.task for run in runs})
