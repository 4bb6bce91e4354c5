"""Facts of the agent task -> tables and sentences. Reads only."""

from collections.abc import Mapping
from typing import Any

from eval.agent.break_even import break_even_words
from eval.agent.checker import ERRORS
from eval.agent.compare import ALL_STANDARD
from eval.agent.policies import PRIORITY, STANDARD
from eval.agent.scores import RIGHT
from eval.agent.words import (
    best_policy,
    by_hand_words,
    dollars_words,
    number_words,
    percent_words,
    run_words,
    sure_words,
)
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


def policy_table(agent: Mapping[str, Any], *, brief: bool = False) -> Table:
    """Every policy: cost of a success, what is saved, completion, retries, minutes of waiting and of people.

    brief: for a terminal, with intervals of the costs alone.
    """
    best = best_policy(agent)
    rows: list[tuple[str, ...]] = []
    tones = {}
    saving_at = 2 if brief else 3
    for name, row in agent["policies"].items():
        tones[len(rows), saving_at] = _tone(row["saving"])
        figures = [
            *(percent_words(row[key]) for key in ("success_rate", "completion_rate")),
            *(number_words(row[key]) for key in COUNTS),
        ]
        rows.append(
            (
                name + (" (cheapest)" if name == best else ""),
                *(() if brief else (_difference(row),)),
                dollars_words(row["cost_per_success"]),
                "" if name == ALL_STANDARD else dollars_words(row["saving"]),
                *(figure.split(" ")[0] if brief else figure for figure in figures),
            )
        )
    return Table(
        title="Policies: which tier answers which call",
        headings=(
            "policy", *(() if brief else ("beside standard",)), "cost of a success (95 %)", "saved (95 %)",
            "right, %", "alone, %", "retries", "waiting min", "human min", "min in all",
        ),
        rows=tuple(rows),
        note=run_words(agent),
        remarks=(POLICY_WORDS, by_hand_words(agent), break_even_words(agent)),
        spare=5,
        tones=tones,
    )  # fmt: skip


COUNTS = ("retries", "waiting_minutes", "human_minutes", "total_minutes")
POLICY_WORDS = (
    "a row a policy, each figure a run: cost of a success: all that was spent, failures, people and losses "
    "included, over the outcomes that are right in the end; right: no wrong call was executed unnoticed; "
    "alone: and no step was done by a person; saved: over all standard; intervals: 95 %, whole tasks "
    "resampled. Priority has the weights of standard and so its mistakes: it buys latency. A pruned tier has "
    "other weights: it buys latency and price, and mistakes of its own."
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
        note=f"{agent['num_steps']} steps of {agent['num_tasks']} tasks, "
        f"{agent['tiers'][labels[0]]['num_answers']} answers a tier; 95 % intervals, whole tasks resampled."
        + (f" Right by chance: {chance:.1%}." if (chance := agent.get("chance")) else ""),
        remarks=tuple(f"{error.replace('_', ' ')}: {words}" for error, words in ERRORS.items()),
        starts=frozenset({0, 3}),
        sortable=False,
    )


def pass_table(agent: Mapping[str, Any]) -> Table:
    """Every tier: chance that one of k runs of a task is right throughout, and that all are; no retries."""
    labels = list(agent["tiers"])
    num = len(agent["tiers"][labels[0]]["pass_hat"])
    ks = [k for k in (1, 2, 4, 8, 16) if k <= num]
    rows = [
        (words.format(k=k), *(percent_words(agent["tiers"][label][key][k - 1]) for label in labels))
        for key, words in (("pass_at", "pass@{k}: one of {k}"), ("pass_hat", "pass^{k}: all {k}"))
        for k in ks
    ]
    return Table(
        title="Whole tasks right without retries or people, % of tasks",
        headings=("runs of a task", *labels),
        rows=tuple(rows),
        note="95 % intervals, whole tasks resampled.",
        starts=frozenset({0, len(ks)}),
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


def _commit_words(loss: Mapping[str, Any] | None) -> str:
    if loss is None or loss["value"] is None:
        return "never: it is no better there"
    return f"from a loss of {dollars_words(loss)}"


RULES = (
    "What fast is less sure of is asked of standard as well; the threshold is the cheapest on {num} "
    "calibration tasks of other templates. Standard commits where (its chance to do no harm - fast's) x loss "
    "is more than what it costs and takes beyond fast; harm: a wrong call that is executed, cannot be undone "
    "and is not noticed."
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


def _difference(row: Mapping[str, Any]) -> str:
    if row["tier"] == STANDARD:
        return ""
    return "same weights, served sooner" if row["tier"] == PRIORITY else "other weights"


def _tone(figure: Mapping[str, Any]) -> str:
    low, high = figure["low"], figure["high"]
    if low is not None and low > 0:
        return "good"
    return "bad" if high is not None and high < 0 else "open"
