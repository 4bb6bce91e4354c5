"""What a distillation did, against the tokens that were learnt."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from distill.phases import NATS
from fastpath.plots import COMPLEX, INK, SIMPLE, SLOPE, new_axes

SUITES = {"simple": SIMPLE, "complex": COMPLEX}
LOSSES = {
    "hidden_error_per_token": "squared error\nof the stream",
    "kd_nats_per_token": "nats per token\nto the teacher",
    "ce_nats_per_token": "nats per token\nof the data",
}
KD, CE = NATS
DEV = {"nats_per_token": "dev items,\nnats per token", "accuracy": "dev items,\naccuracy"}


def training_figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows of metrics.jsonl: what was minimised, below it the dev items, if any; lines part phases."""
    rows = [{k: v for k, v in row.items() if k != CE or KD not in row} for row in rows]  # one of them
    known = {key for row in rows for key in row}
    losses = [key for key in LOSSES if key in known]
    dev = [key for key in DEV if any(f"eval_{suite}_{key}" in known for suite in SUITES)]
    num = len(losses) + len(dev)
    figure, all_axes = new_axes(width=7, height=0.6 + 1.6 * num, rows=num)
    for axes, key in zip(all_axes, losses, strict=False):
        for phase in dict.fromkeys(row["phase"] for row in rows):
            _line(axes, [row for row in rows if row["phase"] == phase], key, color=SLOPE)
        axes.set_ylabel(LOSSES[key])
    for axes, key in zip(all_axes[len(losses) :], dev, strict=True):
        for suite, color in SUITES.items():
            _line(axes, rows, f"eval_{suite}_{key}", color=color, marker="o", markersize=3, label=suite)
        axes.set_ylabel(DEV[key])
        axes.legend(frameon=False, labelcolor=INK)
    _part_phases(all_axes, rows)
    all_axes[-1].set_xlabel("learnt tokens")
    return figure


def _line(axes: Any, rows: Sequence[dict[str, Any]], key: str, **style: Any) -> None:
    points = [(row["learnt_tokens"], row[key]) for row in rows if key in row]
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _part_phases(all_axes: Sequence[Any], rows: Sequence[dict[str, Any]]) -> None:
    """A line where a phase begins, with its name above the first axes; none where there is one phase."""
    begins = [b for a, b in pairwise(rows) if a["phase"] != b["phase"]]
    for row in begins:
        for axes in all_axes:
            axes.axvline(row["learnt_tokens"], color=INK, linewidth=0.6, linestyle=":")
        all_axes[0].annotate(
            row["phase"], (row["learnt_tokens"], 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", fontsize=8, color=INK,
        )  # fmt: skip
