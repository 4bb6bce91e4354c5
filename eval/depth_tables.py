"""Depth dials as words: how much more is lost where more steps depend on one another. Reads only."""

from collections.abc import Mapping
from typing import Any

from eval.tables import Table, interval, short

MEANING = (
    "points and nats lost at the highest k beyond those lost at the lowest. Above zero (worse), depth itself "
    "is lost: answer format and vocabulary are the same at every k. Both are k at which the base is above "
    "chance; each eighth of the templates is measured at the k that the others pick; base at chance: there "
    "are not two such k. nats: of the right answer. short cut: share of answers at the highest k that leave "
    "out a step, base -> variant"
)


NONE = "base at chance"


def depth_words(depth: Mapping[str, Any], label: str) -> str:
    """The depth contrast of one variant in a sentence; "" for a run without dials."""
    if not depth["dials"]:
        return ""
    mean = depth["contrast"][label]
    if mean is None:
        return (
            f"Depth contrast, {label}: none to show. On no dial is the base above chance "
            "at two numbers of steps."
        )
    dials = len(mean["dials"])
    return (
        f"Depth contrast, {label}: {contrast(mean, 'accuracy')} points and {contrast(mean, 'nats')} nats "
        f"over {dials} dial{'s' if dials > 1 else ''} (95 %; above zero is worse: "
        "more is lost where more steps depend on one another)."
    )


def depth_table(depth: Mapping[str, Any], label: str) -> Table:
    """Every dial of one variant, and their mean."""
    rows: list[tuple[str, ...]] = []
    dim, tones = set(), {}

    def add(name: str, steps: str, facts: Mapping[str, Any] | None, rates: str) -> None:
        for column, unit in ((2, "accuracy"), (3, "nats")):
            if facts is not None:
                tones[len(rows), column] = _tone(facts[unit])
        cells = (contrast(facts, "accuracy"), contrast(facts, "nats")) if facts else (NONE, "")
        rows.append((name, steps, *cells, rates, _worse(facts) if facts else ""))

    for name, dial in depth["dials"].items():
        facts = dial["contrast"][label]
        if facts is None:
            dim.add(len(rows))
        top = dial["levels"][-1]["k"] if dial["k_high"] is None else dial["k_high"]
        words, steps = short(name).removeprefix("dial_"), f"{dial['k_low']} to {top}"
        add(words, steps, facts, _rates(dial, top, label))
    totals = {len(rows)} if depth["contrast"][label] else set()
    if totals:
        add(f"mean of {len(depth['contrast'][label]['dials'])}", "", depth["contrast"][label], "")
    return Table(
        title=f"Depth contrast: base beside {label}",
        headings=("dial", "k", "points lost (95 %)", "nats lost (95 %)", "short cut", "worse with depth"),
        rows=tuple(rows),
        note=depth_words(depth, label),
        dim=frozenset(dim),
        remarks=(MEANING,),
        totals=frozenset(totals),
        spare=1,
        tones=tones,
    )


def contrast(facts: Mapping[str, Any], unit: str) -> str:
    """'+9.1 [+2.0, +15.8]' points or '+0.41 [+0.20, +0.63]' nats."""
    gap = facts[unit]
    if unit == "accuracy":
        return interval(gap)
    return f"{gap['gap']:+.2f} [{gap['gap_low']:+.2f}, {gap['gap_high']:+.2f}]"


def _worse(facts: Mapping[str, Any]) -> str:
    """In which units more is known to be lost."""
    units = [word for word, unit in (("points", "accuracy"), ("nats", "nats")) if facts[unit]["gap_low"] > 0]
    return f"shown in {' and '.join(units)}" if units else "not shown"


def _tone(gap: Mapping[str, Any]) -> str:
    """Bad: known to be above zero; good: known not to be."""
    if gap["gap_low"] > 0:
        return "bad"
    return "good" if gap["gap_high"] <= 0 else "open"


def _rates(dial: Mapping[str, Any], k: int, label: str) -> str:
    (level,) = (level for level in dial["levels"] if level["k"] == k)
    base, fast = (level["models"][model]["short_cut_rate"] for model in ("base", label))
    return "" if base is None or fast is None else f"{base:.0%} -> {fast:.0%}"
