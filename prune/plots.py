"""Pictures of a prune folder's facts, as SVG text."""

import math
from collections.abc import Collection
from typing import Any

from fastpath.plan import Column, Scores
from fastpath.plots import INK, new_axes, svg_text

SIMPLE, COMPLEX, SLOPE, DROPPED = "#3b82c4", "#d9822b", "#8a5fb8", "#8884"


def cost_plot(scores: Scores, drop: Collection[int]) -> str:
    """Cost of each block, simple beside complex, above its depth slope; 95 % intervals, dropped shaded."""
    figure, (costs, slopes) = new_axes(width=9, height=4.6, rows=2)
    for axes in (costs, slopes):
        for i in drop:
            axes.axvspan(i - 0.5, i + 0.5, color=DROPPED, linewidth=0)
        axes.axhline(0, color=INK, linewidth=0.6)
    _bars(costs, scores.simple, offset=-0.2, width=0.4, color=SIMPLE, label="simple")
    _bars(costs, scores.complex, offset=0.2, width=0.4, color=COMPLEX, label="complex")
    _bars(slopes, scores.depth_slope, offset=0, width=0.6, color=SLOPE, label="depth slope")
    for axes, column in ((costs, scores.simple), (slopes, scores.depth_slope)):
        axes.set_yscale(
            "symlog", linthresh=_linear_up_to(column)
        )  # a block or two cost a hundred times the others
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, frameon=False, labelcolor=INK
        )
    costs.set_ylabel(f"cost, {scores.unit}")
    slopes.set_ylabel("the same, per step k")
    slopes.set_xticks(range(scores.depth))
    slopes.tick_params(axis="x", labelsize=7)
    slopes.set_xlabel("block (shaded: dropped)")
    return svg_text(figure)


def _linear_up_to(column: Column) -> float:
    """Where the scale turns logarithmic: the power of ten next to the median size of a cost."""
    sizes = sorted(abs(cost) for cost in column.cost)
    return 10.0 ** round(math.log10(max(sizes[len(sizes) // 2], 1e-9)))


def _bars(axes: Any, column: Column, *, offset: float, width: float, color: str, label: str) -> None:
    below = [max(0.0, c - low) for c, low in zip(column.cost, column.low, strict=True)]
    above = [max(0.0, high - c) for c, high in zip(column.cost, column.high, strict=True)]
    at = [i + offset for i in range(len(column.cost))]
    axes.bar(at, column.cost, width=width, color=color, label=label)
    axes.errorbar(at, column.cost, yerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.7)
