"""Pictures of the agent task: minutes split into waiting and fixing, break-even, pass^k."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.agent.compare import ALL_STANDARD
from eval.curves import MODEL_COLORS, MODEL_MARKS
from eval.plots import Plot, finished, legend_below
from fastpath.bootstrap import Floats
from fastpath.plots import COMPLEX, INK, SIMPLE, new_axes


def split_plot(agent: Mapping[str, Any]) -> Plot:
    """Minutes of a run under every policy: waiting for the model, then fixing its mistakes."""
    names = list(agent["policies"])
    figure, (axes,) = new_axes(width=8, height=1.3 + 0.32 * len(names))
    waiting, fixing = (
        [agent["policies"][name][key]["value"] for name in names]
        for key in ("waiting_minutes", "human_minutes")
    )
    axes.barh(names, waiting, color=SIMPLE, label="waiting for the model")
    axes.barh(names, fixing, left=waiting, color=COMPLEX, label="fixing mistakes")
    axes.invert_yaxis()
    axes.set_xlabel("minutes a run")
    legend_below(figure, axes)
    return finished(figure, "Minutes of a run: waiting for the model and fixing mistakes, by policy")


def pass_plot(agent: Mapping[str, Any]) -> Plot:
    """Chance that all of k runs of a task succeed, of every tier, with 95 % bands."""
    figure, (axes,) = new_axes(width=4.8, height=3.4)
    for number, (label, tier) in enumerate(agent["tiers"].items()):
        ks = range(1, len(tier["pass_hat"]) + 1)
        middle, low, high = (
            [figure_[end] for figure_ in tier["pass_hat"]] for end in ("value", "low", "high")
        )
        color, mark = (palette[number % len(palette)] for palette in (MODEL_COLORS, MODEL_MARKS))
        axes.fill_between(ks, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(ks, middle, color=color, marker=mark, markersize=4, linewidth=1.5, label=label)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(list(ks))
    axes.set_xlabel("k runs of a task, no retries")
    axes.set_ylabel("pass^k: all k succeed")
    legend_below(figure, axes)
    return finished(figure, "pass^k of every tier")


def break_even_plot(agent: Mapping[str, Any]) -> Plot:
    """For which price of people and of a wrong commit each policy costs as much as all standard."""
    costs = agent["costs"]
    here = costs["dollars_per_human_hour"], costs["dollars_per_wrong_commit"]
    top = max(4 * here[0], 40.0), max(4 * here[1], 40.0)
    figure, (axes,) = new_axes(width=4.8, height=3.4)
    hours, prices = np.meshgrid(np.linspace(0, top[0], 50), np.linspace(0, top[1], 50))
    others = [name for name in agent["policies"] if name != ALL_STANDARD]
    for number, name in enumerate(others):
        color = MODEL_COLORS[number % len(MODEL_COLORS)]
        dearer = cost_at(agent, name, hours, prices) - cost_at(agent, ALL_STANDARD, hours, prices)
        words = f"{name}: {side_words(dearer)}"
        if dearer.min() < 0 < dearer.max():
            axes.contour(hours, prices, dearer, levels=[0], colors=[color], linewidths=1.5)
            axes.plot([], [], color=color, linewidth=1.5, label=words)
        else:
            axes.plot([], [], linestyle="", label=words)
    axes.plot(*here, marker="*", markersize=11, color=INK, linestyle="", label="your prices")
    axes.set_xlim(0, top[0])
    axes.set_ylim(0, top[1])
    axes.set_xlabel("a person's hour, $")
    axes.set_ylabel("a wrong commit, $")
    legend_below(figure, axes)
    return finished(figure, "At which prices each policy costs as much as all standard")


def side_words(dearer: Floats) -> str:
    """Where a policy pays, from what it costs beyond all standard; a row a price of a commit, rising."""
    if dearer.max() <= 0:
        return "pays at all these prices"
    if dearer.min() >= 0:
        return "pays at none of these prices"
    return f"pays {'below' if (dearer[-1] - dearer[0]).sum() >= 0 else 'above'} its line"


def break_even_loss(agent: Mapping[str, Any], name: str, dollars_per_human_hour: float) -> float | None:
    """The loss of a wrong commit below which the policy is cheaper than all standard, at this human price.

    None where the loss makes no difference between the two, or where only above it the policy is cheaper.
    """
    fixed, per_loss = zip(
        *(_linear(agent, policy, dollars_per_human_hour) for policy in (name, ALL_STANDARD)), strict=True
    )
    slope = per_loss[0] - per_loss[1]
    return (fixed[1] - fixed[0]) / slope if slope > 0 else None


def cost_at(
    agent: Mapping[str, Any], name: str, dollars_per_human_hour: Any, dollars_per_wrong_commit: Any
) -> Any:
    """Cost of a success at other prices of people and losses: numbers, or arrays of one shape."""
    fixed, per_loss = _linear(agent, name, dollars_per_human_hour)
    return fixed + per_loss * dollars_per_wrong_commit


def _linear(agent: Mapping[str, Any], name: str, hour: Any) -> tuple[Any, float]:
    """(cost of a success without losses, wrong commits a success)."""
    total, costs = agent["policies"][name]["total"], agent["costs"]
    minutes = total["fixes"] * costs["minutes_per_fix"] + total["wrong"] * costs["minutes_per_repair"]
    spent = (
        total["model_dollars"]
        + total["attempts"] * costs["dollars_per_check"]
        + total["waiting_seconds"] / 3600 * costs["dollars_per_waiting_hour"]
        + minutes / 60 * hour
    )
    right = max(total["right"], 1e-9)
    return spent / right, total["wrong_commits"] / right


def agent_plots(agent: Mapping[str, Any]) -> tuple[tuple[Plot, ...], ...]:
    """Rows of pictures."""
    return ((split_plot(agent),), (break_even_plot(agent), pass_plot(agent)))
