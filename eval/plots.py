"""Pictures of a run's facts, as SVG text. Matplotlib is imported inside; no display is needed."""

import io
from collections.abc import Collection, Mapping
from typing import Any

from fastpath.plan import Column, Scores

SIMPLE, COMPLEX, DROPPED = "#3b82c4", "#d9822b", "#8884"
INK = "#777777"  # reads on white and on near-black


def score_plot(scores: Scores, drop: Collection[int]) -> str:
    """Cost of each block, simple beside complex, with 95 % intervals; dropped blocks are shaded."""
    figure, axes = _axes(width=9, height=3.2)
    for i in drop:
        axes.axvspan(i - 0.5, i + 0.5, color=DROPPED, linewidth=0)
    _bars(axes, scores.simple, offset=-0.2, color=SIMPLE, label="simple")
    _bars(axes, scores.complex, offset=0.2, color=COMPLEX, label="complex")
    axes.set_yscale("symlog", linthresh=0.1)  # one or two blocks cost a hundred times the others
    axes.set_xticks(range(scores.depth))
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("block (shaded: dropped)")
    axes.set_ylabel(f"cost, {scores.unit}")
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure)


def _bars(axes: Any, column: Column, *, offset: float, color: str, label: str) -> None:
    below = [max(0.0, c - low) for c, low in zip(column.cost, column.low, strict=True)]
    above = [max(0.0, high - c) for c, high in zip(column.cost, column.high, strict=True)]
    at = [i + offset for i in range(len(column.cost))]
    axes.bar(at, column.cost, width=0.4, color=color, label=label)
    axes.errorbar(at, column.cost, yerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.7)


def gap_plot(variants: Mapping[str, Any]) -> str:
    """Gap of every task that can show one, in points, with 95 % intervals: simple above complex."""
    rows = []
    for label, variant in variants.items():
        for suite, color in (("complex", COMPLEX), ("simple", SIMPLE)):
            for name, task in reversed(variant[suite]["tasks"].items()):
                if not task["floor"]:
                    words = name.removeprefix("fastpath_") + (f" ({label})" if len(variants) > 1 else "")
                    rows.append((words, task, color))
    figure, axes = _axes(width=9, height=0.6 + 0.32 * max(2, len(rows)))
    for y, (_, task, color) in enumerate(rows):
        ends = [[100 * (task["gap"] - task["gap_low"])], [100 * (task["gap_high"] - task["gap"])]]
        axes.errorbar([100 * task["gap"]], [y], xerr=ends, fmt="o", color=color, capsize=3)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [words for words, _, _ in rows])
    axes.set_xlabel("points of accuracy lost (95 % interval)")
    return _svg(figure)


def _axes(*, width: float, height: float) -> tuple[Any, Any]:
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


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastpath"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
