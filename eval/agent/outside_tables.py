"""The outside check as tables. Reads only."""

from collections.abc import Mapping
from typing import Any

from eval.agent.checker import ERRORS
from eval.agent.scores import RIGHT
from eval.agent.words import percent_words
from eval.tables import Table


def outside_tables(agent: Mapping[str, Any]) -> tuple[Table, ...]:
    """Every file of the recipe's own tool-calling data: the tiers' right answers and errors."""
    return tuple(_table(name, facts) for name, facts in agent["outside"].items())


def _table(name: str, facts: Mapping[str, Any]) -> Table:
    tiers = facts["tiers"]
    rows = [
        (kind.replace("_", " "), *(percent_words(profile[kind]) for profile in tiers.values()))
        for kind in (RIGHT, *ERRORS)
        if kind == RIGHT or any(profile[kind]["value"] for profile in tiers.values())
    ]
    return Table(
        title=f"Outside check: {name}, % of items",
        headings=("likeliest call", *tiers),
        rows=tuple(rows),
        note=f"{facts['num_items']} items that ask for one call; a guess is right in {facts['chance']:.0%}; "
        "95 % intervals.",
        sortable=False,
    )
