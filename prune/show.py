"""Print what a prune folder holds. Reads only."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fastpath.cli import console
from fastpath.frontier import Frontier, read_frontier
from fastpath.plan import Plan, Scores, read_plan, read_scores, spans_of


def show(folder: Path) -> dict[str, Any]:
    """Print the score table and the plan of OUT/prune; return the headline facts."""
    scores = read_scores(folder / "scores.json")
    plan = read_plan(folder / "plan.json")
    frontier = read_frontier(folder / "frontier.json")
    out = console()
    out.print(score_table(scores, plan))
    out.print(frontier_table(frontier, plan))
    out.print(plan_line(plan), soft_wrap=True)
    out.print(f"model   {folder / 'model'}", soft_wrap=True)
    return {"drop": list(plan.drop), "keep": list(plan.keep), "model": str(folder / "model")}


def score_table(scores: Scores, plan: Plan) -> Table:
    """What dropping each block costs: simple beside complex beside the difference, with 95 % intervals."""
    table = Table(
        title=f"Cost of each block by {scores.criterion} ({scores.unit}; 95 % interval), "
        f"{scores.simple.items} simple and {scores.complex.items} complex calibration items",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="cost: what the answers lose when the block is skipped; reasoning = complex - simple",
        caption_justify="left",
    )
    for heading in ("block", "simple", "complex", "reasoning"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("plan", no_wrap=True)
    for i in range(scores.depth):
        cells = [
            f"{c.cost[i]:+.2f} [{c.low[i]:+.2f},{c.high[i]:+.2f}]"
            for c in (scores.simple, scores.complex, scores.reasoning)
        ]
        dropped = i in plan.drop
        table.add_row(
            str(i), *map(escape, cells), "drop" if dropped else "", style="bold yellow" if dropped else ""
        )
    return table


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
    spans = _spans(plan.drop)
    how = "one by one" if plan.chooser == "lowest" else "together"
    return (
        f"plan    drop {len(plan.drop)} of {plan.depth} blocks: {spans} (criterion {plan.criterion}, "
        f"chooser {plan.chooser})\n"
        f"        cost on the calibration items: {plan.simple_cost:+.2f} {plan.unit}. Optimistic: these\n"
        f"        blocks were chosen for being cheap there, {how}; `python -m eval` measures the loss."
    )
