"""Facts of the agent task -> figures and sentences in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.agent.compare import ALL_STANDARD
from eval.agent.policies import PRIORITY, STANDARD

KINDS = {
    "all": "every call",
    "tiered": "calls that can be undone",
    "escalate": "calls it is sure of",
    "cascade": "first attempts",
}


def sure_words(threshold: float) -> str:
    """For which answers a fast tier need not ask standard."""
    return "never" if threshold >= 0 else f"mean token log-probability of {threshold:.2f} nats or more"


FORMS = {
    "choice": "calls are drawn among candidates by likelihood",
    "tools": "calls are written by the model",
}


def run_words(agent: Mapping[str, Any]) -> str:
    """How it was measured, in words."""
    lost = agent["infrastructure_errors"]
    return (
        f"{agent['num_tasks']} tasks of 1 to 8 dependent steps, {agent['trials']} runs each; "
        f"{FORMS[agent['form']]}; tokens at the speed measured here, each request reads its whole prompt."
        + (f" {lost} answers did not come: their runs are left out for all." if lost else "")
    )


def best_policy(agent: Mapping[str, Any], *, without: Sequence[str] = ()) -> str:
    """The policy with the lowest cost of a success; those named in `without` do not count."""
    return min(
        (name for name in agent["policies"] if name not in without),
        key=lambda name: _infinite_if_none(agent["policies"][name]["cost_per_success"]["value"]),
    )


def advice(agent: Mapping[str, Any], name: str | None = None) -> str:
    """One sentence that says what to do: follow the policy `name`, or the cheapest."""
    name = name or best_policy(agent)
    best, standard = agent["policies"][name], agent["policies"][ALL_STANDARD]
    cost = dollars_words(best["cost_per_success"])
    if best["cost_per_success"]["value"] is None:
        return "What to do: nothing here succeeds at all; take a larger model."
    if name == ALL_STANDARD:
        return f"What to do: keep every call on the standard tier. A success costs {cost} there{_why(agent)}."
    what = (
        "serve the same weights with priority"
        if best["tier"] == PRIORITY
        else f"send {KINDS[best['policy']]} to {best['tier']}"
        + ("" if best["policy"] == "all" else ", the rest to standard")
    )
    if best["policy"] == "escalate" and (threshold := agent["thresholds"][best["tier"]]) is not None:
        what += f" (sure: {sure_words(threshold)})"
    beside = f"A success costs {cost}, on the standard tier {dollars_words(standard['cost_per_success'])}"
    saved = dollars_words(best["saving"])
    if best["saving"]["low"] is not None and best["saving"]["low"] > 0:
        return f"What to do: {what}. {beside}: {saved} saved."
    return f"What to do: {what}, if at all. {beside}; that it saves anything is not shown ({saved})."


def _why(agent: Mapping[str, Any]) -> str:
    """Why every call stays on standard."""
    name = best_policy(agent)
    if name != ALL_STANDARD:
        saved = agent["policies"][name]["saving"]
        shown = saved["low"] is not None and saved["low"] > 0
        but = "is none that serve can be told" if shown else "that is not shown to be more than luck"
        return f"; the cheapest policy ({name}) saves {dollars_words(saved)}, but {but}"
    standard = agent["policies"][ALL_STANDARD]
    for name, row in agent["policies"].items():
        if row["policy"] == "all" and row["tier"] not in (STANDARD, PRIORITY):
            return (
                f", and no policy with a fast tier is cheaper: a run of {name} waits "
                f"{row['waiting_minutes']['value']:.2f} min for the model ({ALL_STANDARD}: "
                f"{standard['waiting_minutes']['value']:.2f}), and people spend "
                f"{row['human_minutes']['value']:.2f} min on its mistakes "
                f"({standard['human_minutes']['value']:.2f})"
            )
    return ""


def by_hand_words(agent: Mapping[str, Any]) -> str:
    """What a task costs without any model."""
    costs = agent["costs"]
    minutes = agent["num_steps"] / agent["num_tasks"] * costs["minutes_per_fix"]
    dollars = minutes / 60 * costs["dollars_per_human_hour"]
    return f"Without a model, every step done by hand, a task costs ${dollars:.2f} ({minutes:.1f} min)."


def _infinite_if_none(value: float | None) -> float:
    return float("inf") if value is None else value


def _cell(figure: Mapping[str, Any] | None, word: str) -> str:
    if figure is None:
        return ""
    value, low, high = (
        "inf" if figure[key] is None else word.format(figure[key]) for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def dollars_words(figure: Mapping[str, Any]) -> str:
    """'$1.20 [$1.05, $1.41]'; inf where there may be no success."""
    small = all(abs(figure[key] or 0) < 0.1 for key in ("value", "low", "high"))
    return _cell(figure, "${:.2g}" if small else "${:.2f}").replace("$-", "-$")


def percent_words(figure: Mapping[str, Any] | None) -> str:
    """'93.1 [90.2, 95.5]'; "" where there is none."""
    if figure is None:
        return ""
    scaled = {key: 100 * value for key, value in figure.items()}
    return _cell(scaled, "{:.1f}")


def number_words(figure: Mapping[str, Any]) -> str:
    """'1.20 [1.05, 1.41]'."""
    return _cell(figure, "{:.2f}")
