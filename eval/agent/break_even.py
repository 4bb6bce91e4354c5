"""At which prices of people and of a wrong commit a policy costs as much as all standard."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.agent.compare import ALL_STANDARD
from fastpath.bootstrap import Floats

EVERYWHERE, NOWHERE = "pays at all prices drawn", "pays at no price drawn"
BELOW, ABOVE = "pays below its line", "pays above its line"


def your_prices(agent: Mapping[str, Any]) -> tuple[float, float]:
    """Dollars of a person's hour and of a wrong commit, as the recipe has them."""
    return agent["costs"]["dollars_per_human_hour"], agent["costs"]["dollars_per_wrong_commit"]


def grid(agent: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """(hours, commits): prices from 0 to four times yours; a row a price of a commit."""
    hour, commit = (np.linspace(0, max(4 * price, 40.0), 50) for price in your_prices(agent))
    hours, commits = np.meshgrid(hour, commit)
    return hours, commits


def beyond_standard(agent: Mapping[str, Any]) -> dict[str, Floats]:
    """Policy -> what a success costs beyond all standard, on the grid."""
    standard = cost_at(agent, ALL_STANDARD, *grid(agent))
    return {
        name: cost_at(agent, name, *grid(agent)) - standard
        for name in agent["policies"]
        if name != ALL_STANDARD
    }


def side_of(dearer: Floats) -> str:
    """Where a policy pays, from what it costs beyond all standard; a row a price of a commit, rising."""
    if dearer.max() <= 0:
        return EVERYWHERE
    if dearer.min() >= 0:
        return NOWHERE
    return BELOW if (dearer[-1] - dearer[0]).sum() >= 0 else ABOVE


def break_even_words(agent: Mapping[str, Any]) -> str:
    """The break-even chart in a sentence: where each policy is cheaper than all standard."""
    sides: dict[str, list[str]] = {}
    for name, dearer in beyond_standard(agent).items():
        sides.setdefault(side_of(dearer), []).append(name)
    hours, commits = (prices.max() for prices in grid(agent))
    said = "; ".join(f"{side}: {', '.join(map(repr, names))}" for side, names in sides.items())
    return f"People at $0 to ${hours:g} an hour, wrong commits at $0 to ${commits:g}: {said}."


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
