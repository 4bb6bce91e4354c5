"""Print what a prune folder holds. Reads only."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fastpath.cli import console
from fastpath.frontier import Frontier, read_frontier
from fastpath.plan import Column, Plan, Scores, read_plan, read_scores, repair_words, spans_of
from prune.choose import EDITED
from prune.frontier import SEARCHES
from prune.mergekit import GIVEN

STABLE = 0.8
"""Least rank correlation of two halves of the items at which a ranking means something."""


def show(folder: Path) -> dict[str, Any]:
    """Print scores, frontier and plan of OUT/prune (a given plan has the plan alone); return the headline."""
    plan = read_plan(folder / "plan.json")
    out = console()
    if plan.criterion != GIVEN:
        scores = read_scores(folder / "scores.json")
        out.print(score_table(scores, plan.drop))
        for line in score_lines(scores):
            out.print(line, soft_wrap=True, highlight=False)
        out.print(frontier_table(read_frontier(folder / "frontier.json"), plan))
    out.print(plan_line(plan), soft_wrap=True)
    if plan.repair is not None:
        out.print(f"repair  {escape(repair_words(plan.repair))}", soft_wrap=True)
    out.print(f"model   {folder / 'model'}", soft_wrap=True)
    return {"drop": list(plan.drop), "keep": list(plan.keep), "model": str(folder / "model")}


def score_table(scores: Scores, marked: Collection[int], *, word: str = "drop") -> Table:
    """What dropping each block costs: simple, complex, their difference, depth slope; 95 % intervals.

    `marked` blocks stand out, with a word that says why.
    """
    table = Table(
        title=f"Cost of each block by {scores.criterion} ({scores.unit}; 95 % interval), "
        f"{scores.simple.items} simple, {scores.complex.items} complex and {scores.depth_slope.items} dial "
        "calibration items",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0),
        caption="reasoning = complex - simple; depth slope: its rise per dependent step k, same format",
        caption_justify="left",
    )
    for heading in ("block", "simple", "complex", "reasoning", "depth slope"):
        table.add_column(heading, justify="right", no_wrap=True)
    for i in range(scores.depth):
        cells = [_cell(scores.simple, i), _cell(scores.complex, i), f"{scores.reasoning.cost[i]:+.2f}",
                 _cell(scores.depth_slope, i)]  # fmt: skip
        name, style = (f"{word} {i}", "bold yellow") if i in marked else (str(i), "")
        table.add_row(name, *map(escape, cells), style=style)
    return table


def _cell(column: Column, i: int) -> str:
    return f"{column.cost[i]:+.2f} [{column.low[i]:+.2f},{column.high[i]:+.2f}]"


def score_lines(scores: Scores) -> list[str]:
    """What else the scores say: rank stability, the attention sink, the effect of the first token."""
    columns = ("simple", "complex", "reasoning", "depth_slope")
    halves = {name: getattr(scores, name).stability for name in columns}
    lines = [
        "halves  rank correlation of two halves of the items: "
        + ", ".join(f"{name} {'none' if rho is None else f'{rho:.2f}'}" for name, rho in halves.items())
    ]
    for name, key in (("simple", "items_per_task"), ("depth_slope", "items_per_level")):
        if (rho := halves[name]) is not None and rho < STABLE:
            lines.append(
                f"warning: not enough calibration items to rank blocks by {name}: the halves agree at "
                f"{rho:.2f}, {STABLE} is wanted; raise prune.{key}"
            )
    if scores.sink:
        block, ratio = scores.sink.block, scores.sink.ratio
        line = (
            f"sink    block {block} writes the attention sink: the first token's norm grows "
            f"{ratio:.0f} times as much as that of the others"
        )
        if rest := scores.simple_without_first:
            ranks = [_rank(column, block) for column in (scores.simple, rest)]
            line += (
                f"; it is the {ranks[0]}. costliest of {scores.depth} blocks, {ranks[1]}. without that token "
                f"({scores.simple.cost[block]:.3g}, {rest.cost[block]:.3g})"
            )
        lines.append(line)
    return lines


def _rank(column: Column, block: int) -> int:
    return 1 + sum(cost > column.cost[block] for cost in column.cost)


def frontier_table(frontier: Frontier, plan: Plan) -> Table:
    """For every number of blocks the best plan found: what it costs on held-out items, what it gains."""
    measured = any(point.measured_ratio is not None for point in frontier.points)
    table = Table(
        title=f"Best plan for each number of blocks by {frontier.chooser}: nats per answer token over the "
        f"base on {frontier.simple_items} simple and {frontier.complex_items} complex held-out items",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="prefill: speed over the base, predicted" + ("; speed: measured" if measured else ""),
        caption_justify="left",
        width=79,
    )
    table.add_column("drop", overflow="fold")
    for heading in ("simple", "complex", "size", "prefill", *(["speed"] if measured else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in frontier.points:
        cells = [f"{r.nats:+.2f} [{r.low:+.2f},{r.high:+.2f}]" for r in (point.simple, point.complex)]
        cells += [f"{point.parameters / frontier.parameters:.0%}", f"{point.predicted_prefill_ratio:.2f}x"]
        cells += [f"{point.measured_ratio:.2f}x"] if point.measured_ratio is not None else []
        chosen = point.drop == plan.drop
        spans = f"{len(point.drop)}: {_spans(point.drop)}"
        table.add_row(spans, *map(escape, cells), style="bold yellow" if chosen else "")
    return table


def _spans(drop: tuple[int, ...]) -> str:
    return ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans_of(drop))


def plan_line(plan: Plan) -> str:
    """The plan in a few words, and what its predicted cost is worth."""
    dropped = f"plan    drop {len(plan.drop)} of {plan.depth} blocks: {_spans(plan.drop)}"
    if plan.cost is None:
        return f"{dropped} (given: nothing was scored; `python -m eval` measures the loss)"
    if plan.chooser == EDITED:
        worth = "The sum of\n        what each block costs alone"
    else:
        how = "together" if plan.chooser in SEARCHES else "one by one"
        worth = (
            f"Optimistic: these\n        blocks were chosen for being cheap there, {how}; the table above has"
            " their cost on held-out items"
        )
    return (
        f"{dropped} (criterion {plan.criterion}, chooser {plan.chooser})\n"
        f"        cost on the calibration items: {plan.cost:+.2f} {plan.unit}. {worth};"
        " `python -m eval` measures the loss."
    )
