"""Which work goes to which tier, as measured: writes policy.yaml, each line with the numbers behind it.

python -m eval.route --run runs/agent           writes runs/agent/eval/policy.yaml

Classes of work come from the run's suites and its agent task; they tell clients what to ask for. `serve`
itself reads `serve:` and `fast_model`. The policy is the one with the lowest cost of a success at the prices
of the run's `costs:`, if it is shown to save anything over the standard tier.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from eval.agent.compare import ALL_STANDARD
from eval.agent.policies import PRIORITY, STANDARD
from eval.agent.words import advice, best_policy, dollars_words, percent_words
from eval.facts import Facts, read_facts
from eval.tables import claim_words, interval
from fastpath.cli import guarded
from fastpath.errors import RunError
from fastpath.runs import write_text

GATED = {"tiered": "gate"}
"""Policy of the agent task -> what `serve` does with calls of tools by the fast tier; off for the others."""


def policy_of(facts: Facts) -> dict[str, Any]:
    """The tier policy of a run as data. Raises RunError if the run has no agent task."""
    agent = facts.results.get("agent")
    if not agent:
        raise RunError(f"{facts.folder}: no agent task; add `eval.agent` to the recipe and evaluate again")
    name = servable(agent)
    row = agent["policies"][name]
    label = row["tier"] if row["tier"] != STANDARD else next(iter(facts.variants))
    kind = "standard" if row["tier"] == STANDARD else row["policy"]
    return {
        "run": facts.name,
        "policy": name,
        "because": advice(agent, name),
        "fast_tier": label,
        "fast_model": facts.results["models"][label],
        "classes": [*suite_classes(facts, label), *call_classes(agent, label, kind)],
        "thresholds": thresholds(agent, label, kind),
        "serve": serve_section(agent, label, kind),
    }


def servable(agent: Mapping[str, Any]) -> str:
    """The policy to serve: the cheapest, where it is shown to save anything over all standard.

    Not priority, which is no tier of `serve`; nor escalation by the likelihood of candidates (form: choice),
    which is on another scale than that of written answers.
    """
    without = [name for name, row in agent["policies"].items() if row["tier"] == PRIORITY]
    if agent["form"] == "choice":
        without += [name for name, row in agent["policies"].items() if row["policy"] == "escalate"]
    name = best_policy(agent, without=without)
    low = agent["policies"][name]["saving"]["low"]
    return name if low is not None and low > 0 else ALL_STANDARD


def serve_section(agent: Mapping[str, Any], label: str, kind: str) -> dict[str, Any]:
    """Keys of fastpath/config_serve.py: what the stage `serve` does under this policy."""
    return {
        "default_tier": "standard" if kind == "standard" else "fast",
        "policy": GATED.get(kind, "off"),
        "reversible_tools": [],  # the operator's to name: the tools of the agent task are simulated
        "escalate_below": escalation(agent, label, kind),
    }


def suite_classes(facts: Facts, label: str) -> list[dict[str, str]]:
    """Single answers: simple work goes fast if the claim is shown, complex if no loss is known."""
    variant = facts.variants[label]
    claim = variant["claim"]
    rows = [
        {
            "work": "simple: one look-up or one label",
            "tier": "fast" if claim["verdict"] == "shown" else "standard",
            "because": claim_words(claim, label),
        }
    ]
    for kind, mean in variant["complex"]["means"].items():
        unharmed = mean["gap_high"] < claim["margin"]
        rows.append(
            {
                "work": f"complex: several dependent steps ({kind})",
                "tier": "fast" if unharmed else "standard",
                "because": f"{interval(mean)} points lost, {mean['num_items']} items",
            }
        )
    return rows


def call_classes(agent: Mapping[str, Any], label: str, kind: str) -> list[dict[str, str]]:
    """Calls of tools: those that can be undone, those that cannot, and what comes after a failed one."""
    tiers = agent["tiers"]

    def right(key: str) -> str:
        return (
            f"right in {percent_words(tiers[label][key])} % by {label}, "
            f"{percent_words(tiers[STANDARD][key])} % by standard"
        )

    first = "standard" if kind == "standard" else "fast"
    return [
        {"work": "calls that can be undone", "tier": first, "because": right("right_reversible")},
        {
            "work": "calls that cannot be undone",
            "tier": "standard" if kind in ("standard", "tiered") else first,
            "because": (GATE if kind == "tiered" else "") + right("right_irreversible"),
        },
        {
            "work": "the next attempt after a failed call",
            "tier": "standard" if kind in ("standard", "cascade") else first,
            "because": (CASCADE if kind == "cascade" else "")
            + "; ".join(
                f"{name} {dollars_words(row['cost_per_success'])}" for name, row in agent["policies"].items()
            ),
        },
    ]


GATE = (
    "name your tools that can be undone in serve.reversible_tools, else standard confirms every call; "
    "where the tiers disagree the answer holds standard's calls (fastpath.standard), which count; "
)
CASCADE = "only the client knows that a call failed: it asks again with service_tier: standard; "


def thresholds(agent: Mapping[str, Any], label: str, kind: str) -> dict[str, Any]:
    """Nats below which standard is asked, null: unused; loss from which standard commits, null: never."""
    return {
        "escalate_below_mean_token_logprob": escalation(agent, label, kind),
        "commit_by_standard_from_loss_dollars": agent["commit"][label]["loss"],
        "attempts": agent["attempts"],
    }


def escalation(agent: Mapping[str, Any], label: str, kind: str) -> float | None:
    """Mean token log-probability (nats) of a fast answer below which standard is asked too; None: never."""
    threshold = agent["thresholds"][label] if kind == "escalate" else None
    return None if threshold is None else round(threshold, 4)


def write_policy(run: Path) -> Path:
    """RUN/eval/policy.yaml, written anew. Raises RunError if the run has no agent task."""
    policy = policy_of(read_facts(run / "eval"))
    text = yaml.safe_dump(policy, sort_keys=False, width=100)
    path = run / "eval/policy.yaml"
    told = f"serve.policy_file={path}"
    head = f"# Written by python -m eval.route --run {run}; python -m serve --config RECIPE {told}\n"
    write_text(path, head + text)
    return path


def main() -> int:
    """Write policy.yaml of a finished run, print it and its path."""
    description, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m eval.route",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="a run folder, for example runs/agent")
    arguments = parser.parse_args()

    def work() -> None:
        path = write_policy(arguments.run)
        print(path.read_text(encoding="utf-8"))
        print(path)

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
