"""Several runs side by side: a column a variant of a run. Reads only."""

from collections.abc import Iterator, Mapping
from typing import Any

from eval.curves import frontier_plot
from eval.depth_tables import contrast
from eval.facts import Facts
from eval.sections import FRONTIER_WORDS, Page, Section, drop_words, headlines
from eval.speed_tables import headline_ratios
from eval.tables import KIND_WORDS, TONES, Table, interval, row_verdict, short

Runs = Mapping[str, Facts]
UNDER = "95 % intervals, and whether they show (shown) or refute that less than the margin is lost"


def runs_page(runs: Runs) -> Page:
    """The report of several runs."""
    sections = (
        Section("Side by side", words=tuple(_cautions(runs)), tables=(side_table(runs),)),
        Section("Speed against accuracy", words=(FRONTIER_WORDS,), plots=(frontier_plot(runs),)),
        Section("Points lost, task by task", tables=(task_table(runs),)),
        *(Section(f"In words: {name}", words=tuple(headlines(facts))) for name, facts in runs.items()),
    )
    return Page(title=" beside ".join(runs), headlines=(), tiles=(), sections=sections)


def _cautions(runs: Runs) -> Iterator[str]:
    """What keeps these runs from being compared."""
    if len({facts.digests["base"] for facts in runs.values()}) > 1:
        yield (
            "These runs have different bases: each gap is over its own base, and accuracies do not compare. "
            + "; ".join(f"{name}: {facts.results['base']}" for name, facts in runs.items())
            + "."
        )
    if len({frozenset(row["id"] for row in facts.items) for facts in runs.values()}) > 1:
        yield "These runs were scored on different items: some of what differs here is the luck of the draw."
    if len({(facts.env["cpu"], str(facts.env["accelerators"])) for facts in runs.values()}) > 1:
        yield "These runs were timed on different machines: only ratios over the base compare."


def _variants(runs: Runs) -> list[tuple[str, Facts, str]]:
    """(column, facts, variant)."""
    return [(f"{name}: {label}", facts, label) for name, facts in runs.items() for label in facts.variants]


def side_table(runs: Runs) -> Table:
    """What was dropped, the claim, both suites, the depth contrast and speed; a column a variant."""
    columns = [(column, _cells(facts, label)) for column, facts, label in _variants(runs)]
    keys = list(dict.fromkeys(key for _, cells in columns for key in cells))
    tones = {
        (row, number + 1): cells[key][1]
        for row, key in enumerate(keys)
        for number, (_, cells) in enumerate(columns)
        if key in cells and cells[key][1]
    }
    return Table(
        title="Side by side",
        headings=("", *(column for column, _ in columns)),
        rows=tuple((key, *(cells.get(key, ("", ""))[0] for _, cells in columns)) for key in keys),
        remarks=(f"points lost: accuracy of the base minus the variant's, mean over tasks; {UNDER}",),
        tones=tones,
        sortable=False,
    )


def _cells(facts: Facts, label: str) -> dict[str, tuple[str, str]]:
    """Row -> (words, tone)."""
    variant = facts.variants[label]
    margin, verdict = variant["claim"]["margin"], variant["claim"]["verdict"]
    cells = {"base": (facts.results["base"], ""), "dropped": (_dropped(facts, label), "")}
    cells[f"simple: loses under {100 * margin:g} points"] = (
        "at chance" if verdict == "floor" else verdict,
        TONES[verdict],
    )
    for suite in ("simple", "complex"):
        for kind, mean in variant[suite]["means"].items():
            words = f"{suite}, {KIND_WORDS[kind]}"
            accuracies = f"{mean['base_accuracy']:.3f} -> {mean['fast_accuracy']:.3f}"
            under = row_verdict(mean, margin)
            cells[f"{words}: points lost"] = (f"{interval(mean)} {under}", TONES[under])
            cells[f"{words}: accuracy, base -> variant"] = (accuracies, "")
    if mean := facts.results["depth"]["contrast"].get(label):
        cells["depth contrast, points"] = (contrast(mean, "accuracy"), "")
        cells["depth contrast, nats"] = (contrast(mean, "nats"), "")
    ratios = headline_ratios(facts.results["speed"], label)
    for phase in ("prefill", "decode"):
        cells[f"{phase} speed over the base"] = (f"{ratios[f'{phase}_tokens_per_second']:.2f}", "")
    return cells


def _dropped(facts: Facts, label: str) -> str:
    """By lineage, for a variant may be any folder; the plan says by which criterion."""
    lineage = facts.lineages[label]
    if lineage is None:
        return "unknown: no lineage.json"
    words = f"{lineage['depth'] - len(lineage['keep'])} of {lineage['depth']}"
    if facts.plan is not None and list(facts.plan.keep) == lineage["keep"]:
        words += f": {drop_words(facts.plan)} ({facts.plan.criterion}, {facts.plan.chooser})"
    return words


def task_table(runs: Runs) -> Table:
    """Points lost on every task; a column a variant."""
    columns = _variants(runs)
    keys = dict.fromkeys(
        (suite, name)
        for _, facts, label in columns
        for suite in ("simple", "complex", "knowledge")
        for name in facts.variants[label].get(suite, {"tasks": ()})["tasks"]
    )
    rows: list[tuple[str, ...]] = []
    starts: dict[str, int] = {}
    tones = {}
    for suite, name in keys:
        starts.setdefault(suite, len(rows))
        cells = []
        for column, (_, facts, label) in enumerate(columns, start=2):
            task = facts.variants[label].get(suite, {"tasks": {}})["tasks"].get(name)
            words, tone = _task_cell(task, facts.variants[label]["claim"]["margin"])
            cells.append(words)
            tones[len(rows), column] = tone
        rows.append((suite, short(name), *cells))
    return Table(
        title="Points lost, task by task",
        headings=("suite", "task", *(column for column, _, _ in columns)),
        rows=tuple(rows),
        remarks=(f"{UNDER}; (chance): no model is above chance, the task cannot show a gap",),
        starts=frozenset(starts.values()),
        tones=tones,
    )


def _task_cell(task: Mapping[str, Any] | None, margin: float) -> tuple[str, str]:
    if task is None:
        return "", ""
    if task["floor"]:
        return f"{interval(task)} (chance)", "open"
    verdict = row_verdict(task, margin)
    return f"{interval(task)} {verdict}", TONES[verdict]
