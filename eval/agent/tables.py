"""Facts of the agent task -> tables and sentences. Reads only."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.agent.checker import ERRORS
from eval.agent.compare import ALL_STANDARD
from eval.agent.policies import PRIORITY, STANDARD
from eval.agent.scores import RIGHT
from eval.tables import Table

COSTS = {
    "dollars_per_machine_hour": "a machine hour, $",
    "priority_speed": "priority answers so many times as fast",
    "priority_price": "priority costs so many times as much",
    "queue_seconds": "wait before a request is read, s",
    "dollars_per_check": "checking a call, $",
    "dollars_per_human_hour": "a person's hour, $",
    "minutes_per_fix": "a step done by hand, min",
    "minutes_per_repair": "a wrong outcome found and mended, min",
    "dollars_per_waiting_hour": "an hour of waiting, $",
    "dollars_per_wrong_commit": "a wrong call that cannot be undone, $",
}
KINDS = {
    "all": "every call",
    "tiered": "calls that can be undone",
    "escalate": "calls it is sure of",
    "cascade": "first attempts",
}


def policy_table(agent: Mapping[str, Any]) -> Table:
    """Every policy: cost of a success, what is saved, completion, retries, minutes of people and waiting."""
    best = best_policy(agent)
    rows: list[tuple[str, ...]] = []
    tones = {}
    for name, row in agent["policies"].items():
        saved = "" if name == ALL_STANDARD else dollars_words(row["saving"])
        tones[len(rows), 3] = _tone(row["saving"])
        rows.append(
            (
                name + (" (cheapest)" if name == best else ""),
                _difference(row),
                dollars_words(row["cost_per_success"]),
                saved,
                *(percent_words(row[key]) for key in ("success_rate", "completion_rate")),
                *(_number(row[key]) for key in ("retries", "human_minutes", "waiting_minutes")),
                dollars_words(row["model_dollars"]),
            )
        )
    return Table(
        title="Policies: which tier answers which call",
        headings=("policy", "beside standard", "cost of a success (95 %)", "saved over standard (95 %)",
                  "right", "without a person", "retries", "human min", "waiting min", "model"),
        rows=tuple(rows),
        note=run_words(agent),
        remarks=(POLICY_WORDS,),
        spare=3,
        tones=tones,
    )  # fmt: skip


POLICY_WORDS = (
    "a row a policy, each figure a run: cost of a success: all that was spent, failures, people and losses "
    "included, over the outcomes that are right in the end; right: no wrong call was executed unnoticed; "
    "without a person: and no step was done by hand; intervals: 95 %, whole tasks resampled. Priority has "
    "the weights of standard and so its mistakes: it buys latency. A pruned tier has other weights: it buys "
    "latency and price, and mistakes of its own."
)


def reliability_table(agent: Mapping[str, Any]) -> Table:
    """Every tier: right answers and errors by class, each with its interval."""
    labels = list(agent["tiers"])
    rows = [
        ("right", *(percent_words(agent["tiers"][label]["profile"][RIGHT]) for label in labels)),
        *(
            (f"right, {words}", *(percent_words(agent["tiers"][label][key]) for label in labels))
            for key, words in (
                ("right_reversible", "call can be undone"),
                ("right_irreversible", "call cannot be undone"),
            )
        ),
        *(
            (
                error.replace("_", " "),
                *(percent_words(agent["tiers"][label]["profile"][error]) for label in labels),
            )
            for error in ERRORS
        ),
    ]
    return Table(
        title="Error profile of the tiers, % of answers",
        headings=("answer", *labels),
        rows=tuple(rows),
        note=f"{agent['num_steps']} steps of {agent['num_tasks']} tasks, {agent['trials']} answers each; "
        "95 % intervals, whole tasks resampled.",
        remarks=tuple(f"{error.replace('_', ' ')}: {words}" for error, words in ERRORS.items()),
        starts=frozenset({0, 3}),
        sortable=False,
    )


def rules_table(agent: Mapping[str, Any]) -> Table:
    """For every fast tier: when it should ask standard, and who should commit."""
    rows = []
    for label, facts in agent["commit"].items():
        threshold = agent["thresholds"].get(label)
        rows.append(
            (
                label,
                "always" if threshold is None else sure_words(threshold),
                *("" if facts[p] is None else f"{facts[p]:.0%}" for p in ("p_fast", "p_standard")),
                _commit_words(facts["loss"]),
            )
        )
    return Table(
        title="Rules: when fast may answer, who commits",
        headings=("fast tier", "answers itself", "right, cannot be undone", "standard's", "standard commits"),
        rows=tuple(rows),
        note=RULES.format(num=agent["num_calibration_tasks"]),
    )


def sure_words(threshold: float) -> str:
    """For which answers a fast tier need not ask standard."""
    return "never" if threshold >= 0 else f"mean token log-probability of {threshold:.2f} nats or more"


def _commit_words(loss: Mapping[str, Any] | None) -> str:
    if loss is None or loss["value"] is None:
        return "never: it is no better there"
    return f"from a loss of {dollars_words(loss)}"


RULES = (
    "What fast is less sure of is asked of standard as well; the threshold is the cheapest on {num} "
    "calibration tasks of other templates. Standard commits where (its chance to be right - fast's) x loss "
    "is more than what it costs and takes beyond fast."
)


def assumptions_table(agent: Mapping[str, Any]) -> Table:
    """What every figure in dollars rests on."""
    costs = agent["costs"]
    rows = [(words, f"{costs[key]:g}") for key, words in COSTS.items()]
    prices = costs["dollars_per_million_tokens"]
    rows += [(f"a million tokens of {tier}, $", f"{price:g}") for tier, price in prices.items()]
    rows += [
        ("attempts at a step before a person does it", str(agent["attempts"])),
        ("wrong calls noticed, of those that a tool would execute", f"{agent['detection']:.0%}"),
    ]
    return Table(title="What the dollars rest on: your assumptions", headings=("", "value"), rows=tuple(rows))


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
        return (
            f"What to do: keep every call on the standard tier. A success costs {cost} there, and no policy "
            "with a fast tier is cheaper: its mistakes cost more than its speed saves."
        )
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


def _difference(row: Mapping[str, Any]) -> str:
    if row["tier"] == STANDARD:
        return ""
    return "same weights, served sooner" if row["tier"] == PRIORITY else "other weights"


def _tone(figure: Mapping[str, Any]) -> str:
    low, high = figure["low"], figure["high"]
    if low is not None and low > 0:
        return "good"
    return "bad" if high is not None and high < 0 else "open"


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


def _number(figure: Mapping[str, Any]) -> str:
    return _cell(figure, "{:.2f}")
