"""Facts of a run -> tables of words, one definition for Markdown, HTML and the terminal. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KIND_WORDS = {"likelihood": "chosen", "generation": "written"}
VERDICTS = {
    "shown": "shown",
    "not shown": "not shown",
    "refuted": "refuted",
    "floor": "no verdict: the base is not above chance",
}


@dataclass(frozen=True)
class Table:
    """Headings and rows of words; `dim` marks rows that count for nothing."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    dim: frozenset[int] = frozenset()
    remarks: tuple[str, ...] = ()
    spare: int = 0
    """How many columns on the right a narrow terminal can do without."""

    def markdown(self) -> str:
        """The table in GitHub's Markdown, its title above and its note below."""
        lines = [f"**{self.title}**", "", _line(self.headings), _line(["---"] * len(self.headings))]
        lines += [_line(row) for row in self.rows]
        lines += ["", self.note, *(["", *(f"- {remark}" for remark in self.remarks)] if self.remarks else [])]
        return "\n".join(lines) + "\n"


def gap_table(label: str, facts: Mapping[str, Any]) -> Table:
    """Simple and complex tasks, base beside variant, with 95 % intervals of the difference."""
    rows: list[tuple[str, ...]] = []
    dim, remarks = set(), [LEGEND]
    for suite in (s for s in ("simple", "complex", "knowledge") if s in facts):
        for name, task in facts[suite]["tasks"].items():
            if task["floor"]:
                dim.add(len(rows))
            words = name.removeprefix("fastpath_")
            rows.append((suite, words, *_gap_cells(task)))
            if remark := _remark(task):
                remarks.append(f"{words}: {remark}")
        for kind, mean in facts[suite]["means"].items():
            words = f"mean of {mean['num_tasks']} {KIND_WORDS[kind]}"
            rows.append((f"{suite}: all", words, *_gap_cells(mean)))
    return Table(
        title=f"Gap: base beside {label}",
        headings=(
            "suite",
            "task",
            "points lost (95 %)",
            "base",
            label,
            "kept",
            "items",
            "lost / won",
            "p (Holm)",
        ),
        rows=tuple(rows),
        note=claim_words(facts["claim"], label),
        dim=frozenset(dim),
        remarks=tuple(remarks),
        spare=2,
    )


LEGEND = (
    "points lost: accuracy of the base minus the variant's; kept: share of the accuracy above chance; "
    "lost / won: items that only the base / the variant got right; "
    "p: exact McNemar test by template, Holm over the suite"
)


def _gap_cells(task: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{points(task['gap'])} [{points(task['gap_low'])}, {points(task['gap_high'])}]",
        f"{task['base_accuracy']:.3f}",
        f"{task['fast_accuracy']:.3f}",
        f"{task['retention_above_chance']:.0%}" if "retention_above_chance" in task else "",
        _items(task),
        f"{task['lost']} / {task['won']}" if "lost" in task else "",
        f"{task['holm_p']:.2g}" if "holm_p" in task else "",
    )


def _items(task: Mapping[str, Any]) -> str:
    if task.get("num_sources", task["num_items"]) < task["num_items"]:
        return f"{task['num_items']} steps of {task['num_sources']}"
    return str(task["num_items"])


def _remark(task: Mapping[str, Any]) -> str:
    if task["floor"]:
        return f"base not above chance ({task['chance']:.2f}): cannot show a gap, not counted"
    if "base_prose_nats_per_byte" in task:
        return (
            f"each computed result costs {task['base_nats_per_answer']:.2f} -> "
            f"{task['fast_nats_per_answer']:.2f} nats; "
            f"the prose around it, as control, {task['base_prose_nats_per_byte']:.2f} -> "
            f"{task['fast_prose_nats_per_byte']:.2f} nats a byte"
        )
    return ""


def points(share: float) -> str:
    """0.021 -> '+2.1': percentage points, positive = lost."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # + 0.0: no minus before a zero


def claim_words(claim: Mapping[str, Any], label: str) -> str:
    """The verdict on "essentially unchanged", in one sentence with its evidence."""
    margin = f"{100 * claim['margin']:g} points"
    words = f'Claim "{label} loses less than {margin} on simple tasks": {VERDICTS[claim["verdict"]]}.'
    if claim["verdict"] == "floor":
        return words
    words += (
        f" Points lost: {points(claim['gap'])}, 90 % interval {points(claim['gap_low'])} to "
        f"{points(claim['gap_high'])}, {claim['num_items']} paired items of {claim['num_tasks']} tasks"
        + (
            f", {claim['num_tasks_at_chance']} more at chance left out."
            if claim["num_tasks_at_chance"]
            else "."
        )
    )
    if claim["verdict"] == "refuted":
        words += (
            " So this cut is no free fast tier: drop fewer blocks, take a larger model, "
            "or send it only what tolerates the loss."
        )
    if claim["verdict"] == "not shown":
        words += (
            f" With {100 * claim['discordance']:.0f} % of items answered differently it takes about "
            f"{claim['items_needed']} items to show it if nothing were lost."
        )
    return words


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
