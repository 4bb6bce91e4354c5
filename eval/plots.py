"""Pictures of a run's facts, as SVG text. Matplotlib is imported inside; no display is needed.

Ink is the page's own text colour, so a picture reads on light, on dark and on paper.
"""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from eval.tables import short, side_by_side
from fastpath.plan import Column, Scores

SIMPLE, COMPLEX, KNOWLEDGE, DROPPED = "#3b82c4", "#d9822b", "#8a7fb8", "#8884"
SUITE_COLORS = {"simple": SIMPLE, "complex": COMPLEX, "knowledge": KNOWLEDGE}
INK = "#777777"
"""Written as currentColor."""


@dataclass(frozen=True)
class Plot:
    """One picture and what it shows, for who cannot see it."""

    svg: str
    alt: str


def score_plot(scores: Scores, drop: Collection[int]) -> Plot:
    """Cost of each block, simple beside complex, with 95 % intervals; dropped blocks are shaded."""
    figure, axes = new_axes(width=8, height=3.2)
    for i in drop:
        axes.axvspan(i - 0.5, i + 0.5, color=DROPPED, linewidth=0)
    _bars(axes, scores.simple, offset=-0.2, color=SIMPLE, label="simple")
    _bars(axes, scores.complex, offset=0.2, color=COMPLEX, label="complex")
    axes.set_yscale("symlog", linthresh=0.1)  # one or two blocks cost a hundred times the others
    axes.set_xticks(range(0, scores.depth, 1 + scores.depth // 40))  # or the numbers would touch
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("block (shaded: dropped)")
    axes.set_ylabel(f"cost, {scores.unit}")
    legend_below(figure, axes)
    return finished(figure, "Cost of each block on simple and on complex items")


def _bars(axes: Any, column: Column, *, offset: float, color: str, label: str) -> None:
    below = [max(0.0, c - low) for c, low in zip(column.cost, column.low, strict=True)]
    above = [max(0.0, high - c) for c, high in zip(column.cost, column.high, strict=True)]
    at = [i + offset for i in range(len(column.cost))]
    axes.bar(at, column.cost, width=0.4, color=color, label=label)
    axes.errorbar(at, column.cost, yerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.7)


def gap_plot(label: str, variant: Mapping[str, Any]) -> Plot:
    """Gap of every task that can show one, in points, with 95 % intervals, simple on top."""
    rows = []
    for suite in ("knowledge", "complex", "simple"):
        for name, task in reversed(side_by_side(variant.get(suite, {"tasks": {}})["tasks"])):
            if not task["floor"]:
                rows.append((short(name), task, suite))
    figure, axes = new_axes(width=8, height=1.3 + 0.3 * max(2, len(rows)))
    margin = 100 * variant["claim"]["margin"]
    axes.axvspan(0, margin, color=DROPPED, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    named = set()
    for y, (_, task, suite) in enumerate(rows):
        ends = [[100 * (task["gap"] - task["gap_low"])], [100 * (task["gap_high"] - task["gap"])]]
        known = {} if suite in named else {"label": suite}
        axes.errorbar(
            [100 * task["gap"]], [y], xerr=ends, fmt="o", color=SUITE_COLORS[suite], capsize=3, **known
        )
        named.add(suite)
    axes.set_yticks(range(len(rows)), [words for words, _, _ in rows])
    axes.set_xlabel(f"points of accuracy lost, 95 % interval (shaded: the margin of {margin:g})")
    legend_below(figure, axes)
    return finished(figure, f"Points of accuracy that {label} loses on every task")


def new_axes(*, width: float, height: float) -> tuple[Any, Any]:
    """A figure of `width` x `height` inches with one pair of axes, see-through."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axes


def legend_below(figure: Any, axes: Any, *, columns: int = 4) -> None:
    """What the colours and marks mean, under the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=8.5,
    )


def finished(figure: Any, alt: str) -> Plot:
    """The figure as an SVG element for a page."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return Plot(svg[svg.index("<svg") :].replace(INK, "currentColor"), alt)
