"""Pictures of a run's facts, as SVG text.

INK is written as the page's own text colour, so a picture reads on light, on dark and on paper.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from eval.tables import short, side_by_side
from fastpath.plan import Scores
from fastpath.plots import COMPLEX, DROPPED, INK, SIMPLE, cost_figure, new_axes, svg_text

KNOWLEDGE = "#8a7fb8"
SUITE_COLORS = {"simple": SIMPLE, "complex": COMPLEX, "knowledge": KNOWLEDGE}


@dataclass(frozen=True)
class Plot:
    """One picture and what it shows, for who cannot see it."""

    svg: str
    alt: str


def score_plot(scores: Scores, drop: Collection[int]) -> Plot:
    """Cost of each block, simple beside complex, above its depth slope."""
    return finished(cost_figure(scores, drop), "Cost of each block on simple and complex items; depth slope")


def gap_plot(label: str, variant: Mapping[str, Any]) -> Plot:
    """Gap of every task that can show one, in points, with 95 % intervals, simple on top."""
    rows = []
    for suite in ("knowledge", "complex", "simple"):
        for name, task in reversed(side_by_side(variant.get(suite, {"tasks": {}})["tasks"])):
            if not task["floor"]:
                rows.append((short(name), task, suite))
    figure, (axes,) = new_axes(width=8, height=1.3 + 0.3 * max(2, len(rows)))
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
    return Plot(svg_text(figure, name=alt).replace(INK, "currentColor"), alt)
