"""Print what a prune folder holds. Reads only."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fastpath.cli import console
from fastpath.plan import Plan, Scores, read_plan, read_scores, repair_words, spans_of
from prune.mergekit import GIVEN


def show(folder: Path) -> dict[str, Any]:
    """Print the score table and the plan of OUT/prune; return the headline facts."""
    plan = read_plan(folder / "plan.json")
    out = console()
    if plan.criterion != GIVEN:
        out.print(score_table(read_scores(folder / "scores.json"), plan))
    out.print(plan_line(plan), soft_wrap=True)
    if plan.repair is not None:
        out.print(f"repair  {escape(repair_words(plan.repair))}", soft_wrap=True)
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


def plan_line(plan: Plan) -> str:
    """The plan in a few words, and what its predicted cost is worth."""
    spans = ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans_of(plan.drop))
    dropped = f"plan    drop {len(plan.drop)} of {plan.depth} blocks: {spans}"
    if plan.simple_cost is None:
        return f"{dropped} (given: nothing was scored; `python -m eval` measures the loss)"
    return (
        f"{dropped} (criterion {plan.criterion}, chooser {plan.chooser})\n"
        f"        cost on the calibration items: {plan.simple_cost:+.2f} {plan.unit}. Optimistic: these\n"
        f"        blocks were chosen for being cheap there, one by one; `python -m eval` measures the loss."
    )
