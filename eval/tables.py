"""Facts of a run -> tables of words, one definition for Markdown, HTML and the terminal. Reads only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

PREFIX, WRITTEN = "fastpath_", "_written"
KIND_WORDS = {"likelihood": "chosen", "generation": "written"}
VERDICTS = {
    "shown": "shown",
    "not shown": "not shown",
    "refuted": "refuted",
    "floor": "no verdict: nothing is above chance",
}


TONES = {"shown": "good", "refuted": "bad", "not shown": "open", "floor": "open"}
"""Verdict -> tone. A tone colours words that say the same: colour alone says nothing."""


@dataclass(frozen=True)
class Table:
    """Headings and rows of words."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    dim: frozenset[int] = frozenset()
    """Rows that count for nothing."""
    remarks: tuple[str, ...] = ()
    spare: int = 0
    """How many columns on the right a narrow terminal can do without."""
    totals: frozenset[int] = frozenset()
    """Rows that sum up the others of their group: sorting leaves them below."""
    starts: frozenset[int] = frozenset()
    """Rows that begin a group; sorting mixes no groups."""
    tones: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """(row, column) -> good, bad or open."""
    sortable: bool = True

    def groups(self) -> list[range]:
        """Row numbers, group by group."""
        cuts = sorted({0, *self.starts, len(self.rows)})
        return [range(a, b) for a, b in pairwise(cuts)]

    def markdown(self, *, titled: bool = True, said: Collection[str] = ()) -> str:
        """The table in GitHub's Markdown: title above; note (unless `said` before) and remarks below."""
        lines = [f"**{self.title}**", ""] if titled else []
        lines += [_line(self.headings), _line(["---"] * len(self.headings)), *map(_line, self.rows)]
        if self.note and self.note not in said:
            lines += ["", self.note]
        if self.remarks:
            lines += ["", *(f"- {remark}" for remark in self.remarks)]
        return "\n".join(lines) + "\n"


def gap_table(label: str, facts: Mapping[str, Any]) -> Table:
    """Simple and complex tasks, base beside variant, with 95 % intervals of the difference."""
    margin = facts["claim"]["margin"]
    rows: list[tuple[str, ...]] = []
    dim, totals, starts, tones, remarks = set(), set(), set(), {}, [LEGEND]

    def add(suite: str, words: str, task: Mapping[str, Any], verdict: str) -> None:
        tones.update({(len(rows), column): TONES[verdict] for column in (GAP, VERDICT)})
        rows.append((suite, words, *_gap_cells(task), "at chance" if verdict == "floor" else verdict))

    for suite in (s for s in ("simple", "complex", "knowledge") if s in facts):
        starts.add(len(rows))
        for name, task in side_by_side(facts[suite]["tasks"]):
            if task["floor"]:
                dim.add(len(rows))
            words = short(name)
            add(suite, words, task, "floor" if task["floor"] else row_verdict(task, margin))
            if remark := _remark(task):
                remarks.append(f"{words}: {remark}")
        for kind, mean in facts[suite]["means"].items():
            totals.add(len(rows))
            words = f"mean of {mean['num_tasks']} {KIND_WORDS[kind]}"
            add(f"{suite}: all", words, mean, row_verdict(mean, margin))
    return Table(
        title=f"Gap: base beside {label}",
        headings=("suite", "task", "points lost (95 %)", "base", label, "kept", "items", "lost / won",
                  "p (Holm)", f"under {100 * margin:g} points"),
        rows=tuple(rows),
        note=claim_words(facts["claim"], label),
        dim=frozenset(dim),
        remarks=tuple(remarks),
        spare=4,
        totals=frozenset(totals),
        starts=frozenset(starts),
        tones=tones,
    )  # fmt: skip


GAP, VERDICT = 2, 9  # columns of the gap table
LEGEND = (
    "points lost: accuracy of the base minus the variant's; kept: share of the accuracy above chance (of a "
    "written task: above what the best constant answer, or a number of the prompt, gets); "
    "lost / won: items that only the base / the variant got right; p: exact McNemar test by template, Holm "
    "over the suite; under ... points: whether the whole interval lies below the margin (shown), above it "
    "(refuted) or on both sides (not shown), each row by itself"
)


def short(name: str) -> str:
    """A task's name for people: ours without their prefix, 'arithmetic (written)' beside 'arithmetic'."""
    ours = name.removeprefix(PREFIX)
    if ours != name and ours.endswith(WRITTEN):
        return f"{ours.removesuffix(WRITTEN)} (written)"
    return ours


def side_by_side(tasks: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The tasks in order, but each written one after the one in which the same is chosen."""
    order = {name: number for number, name in enumerate(tasks)}
    return sorted(tasks.items(), key=lambda task: order.get(task[0].removesuffix(WRITTEN), order[task[0]]))


def row_verdict(gap: Mapping[str, Any], margin: float) -> str:
    """Whether a 95 % interval says that less than `margin` (a share) is lost."""
    if gap["gap_high"] < margin:
        return "shown"
    return "refuted" if gap["gap_low"] > margin else "not shown"


def _gap_cells(task: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        interval(task),
        f"{task['base_accuracy']:.3f}",
        f"{task['fast_accuracy']:.3f}",
        _kept(task),
        _items(task),
        f"{task['lost']} / {task['won']}" if "lost" in task else "",
        f"{task['holm_p']:.2g}" if "holm_p" in task else "",
    )


def _kept(task: Mapping[str, Any]) -> str:
    share = task.get("retention_above_chance")
    return "" if share is None else "< 0%" if share < 0 else f"{share:.0%}"  # < 0: below chance


def _items(task: Mapping[str, Any]) -> str:
    if task.get("num_sources", task["num_items"]) < task["num_items"]:
        return f"{task['num_items']} steps of {task['num_sources']}"
    return str(task["num_items"])


def _remark(task: Mapping[str, Any]) -> str:
    if task["floor"]:
        return f"neither model is shown above chance ({task['chance']:.2f}): cannot show a gap, not counted"
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


def interval(gap: Mapping[str, Any]) -> str:
    """'+2.1 [+0.4, +3.9]': points lost with their 95 % interval."""
    return f"{points(gap['gap'])} [{points(gap['gap_low'])}, {points(gap['gap_high'])}]"


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
        words += f" About {claim['items_needed']} items would show it if nothing were lost" + (
            "; with as many as here, the loss itself stands in the way."
            if claim["items_needed"] <= claim["num_items"]
            else f" ({100 * claim['discordance']:.0f} % of items were answered differently)."
        )
    return words


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
