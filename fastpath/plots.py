"""What every picture shares, and the picture of Scores. Matplotlib is imported inside; no display needed."""

import io
import math
from collections.abc import Collection
from typing import Any

from fastpath.plan import Column, Scores

INK = "#777777"
"""Reads on white and on near-black."""
SIMPLE, COMPLEX, SLOPE, DROPPED = "#3b82c4", "#d9822b", "#8a5fb8", "#8884"


def new_axes(*, width: float, height: float, rows: int = 1) -> tuple[Any, list[Any]]:
    """A figure of `width` x `height` inches with `rows` pairs of axes that share x, see-through."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    all_axes = list(figure.subplots(rows, sharex=True, squeeze=False)[:, 0])
    for axes in all_axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
    return figure, all_axes


def svg_text(figure: Any, *, name: str) -> str:
    """The figure as an SVG element; the same figure and name give the same text.

    Pictures of one page need different names: the ids in the SVG are made from them.
    """
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def cost_figure(scores: Scores, drop: Collection[int]) -> Any:
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
        # A block or two cost a hundred times the others.
        axes.set_yscale("symlog", linthresh=_linear_up_to(column))
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, frameon=False, labelcolor=INK
        )
    costs.set_ylabel(f"cost, {scores.unit}")
    slopes.set_ylabel("the same, per step k")
    slopes.set_xticks(range(0, scores.depth, 1 + scores.depth // 40))  # or the numbers would touch
    slopes.tick_params(axis="x", labelsize=7)
    slopes.set_xlabel("block (shaded: dropped)")
    return figure


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
