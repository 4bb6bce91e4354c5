"""Print what a distill folder holds. Reads only."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from distill.phases import NATS, minimised
from distill.refit import FILE
from distill.refit import FOLDER as REFIT
from distill.training import read_metrics
from fastpath.cli import console
from fastpath.models import Lineage
from fastpath.runs import read_json

LINES = 10
"""Of the table: the log itself is metrics.jsonl."""


def show(folder: Path) -> dict[str, Any]:
    """Print how the loss fell in OUT/distill; return the headline."""
    facts, out = Lineage.read(folder / "model").distillation, console()
    if (path := folder / REFIT / FILE).exists():
        out.print(refit_table(read_json(path)))
    if facts is None:
        out.print(f"model   {folder / 'model'}", soft_wrap=True)
        return {"mode": None, "steps": 0, "learnt_tokens": 0, "nats_per_token": None,
                "model": str(folder / "model")}  # fmt: skip
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if "loss" in row]
    if (path := folder / "candidates.json").exists():
        out.print(candidate_table(**read_json(path)))
    out.print(loss_table(rows))
    out.print(f"model   {folder / 'model'}", soft_wrap=True)
    last = rows[-1].get(minimised(rows[-1]) or "")
    keys = ("mode", "steps", "learnt_tokens")
    return {**{key: facts[key] for key in keys}, "nats_per_token": last, "model": str(folder / "model")}


def refit_table(solved: list[dict[str, Any]]) -> Table:
    """What the refit did to each block."""
    table = Table(
        title="Refit: squared distance of the stream after a block from the original's, as a share, on "
        "held-out batches",
        title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
        caption="before: behind the blocks solved for so far, with the map as it was",
        caption_justify="left",
    )  # fmt: skip
    for heading in ("block", "before", "after", "ridge"):
        table.add_column(heading, justify="right")
    for row in solved:
        strength = "unchanged" if row["strength"] is None else f"{row['strength']:g}"
        table.add_row(str(row["block"]), f"{row['error_before']:.3f}", f"{row['error']:.3f}", strength)
    return table


def candidate_table(candidates: list[dict[str, Any]], chosen: int) -> Table:
    """The plans that got a short distillation, and what they then made of the dev items."""
    table = Table(
        title="Candidates after a short distillation, dev items (nats per answer token; 95 % interval)",
        title_justify="left", box=SIMPLE_HEAD, padding=(0, 0),
        caption="before: as it was cut; simple rise: over the first. The lowest complex nats go on, of those "
        "whose simple items are not surely worse",
        caption_justify="left",
    )  # fmt: skip
    for heading in ("drop", "complex before", "after", "simple", "simple rise", ""):
        table.add_column(heading, justify="right" if heading != "drop" else "left")
    for number, row in enumerate(candidates):
        rise, low, high = row["simple_rise_nats"]
        simple = row.get("simple_nats_per_token")
        table.add_row(
            ", ".join(map(str, row["drop"])), f"{row['before_complex_nats_per_token']:.3f}",
            f"{row['complex_nats_per_token']:.3f}", "-" if simple is None else f"{simple:.3f}",
            escape(f"{rise:+.3f} [{low:+.3f},{high:+.3f}]"), "goes on" if number == chosen else "",
        )  # fmt: skip
    return table


def loss_table(rows: list[dict[str, Any]]) -> Table:
    """About ten lines of the log, the first and the last among them."""
    told = dict.fromkeys(map(minimised, rows))
    what = ", ".join(NATS[key] for key in told if key) or "squared error of the stream"
    table = Table(
        title=f"On the batches trained on: {what}",
        title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    table.add_column("phase")
    for heading in ("step", "nats per token", "gradient norm", "learning rate", "learnt tokens", "tokens/s"):
        table.add_column(heading, justify="right")
    every = max(1, -(-len(rows) // LINES))
    for row in rows[: len(rows) - 1 : every] + rows[-1:]:
        nats = row.get(minimised(row) or "")
        table.add_row(
            row["phase"], str(row["step"]), "-" if nats is None else f"{nats:.4f}",
            f"{row['gradient_norm']:.2f}", f"{row['learning_rate']:.1e}", f"{row['learnt_tokens']:,}",
            f"{row['tokens_per_second']:,.0f}",
        )  # fmt: skip
    return table
