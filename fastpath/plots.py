"""What every picture shares: see-through axes and SVG text. Matplotlib is imported inside."""

import io
from typing import Any

INK = "#777777"
"""Reads on white and on near-black."""


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


def svg_text(figure: Any) -> str:
    """The figure as an SVG element; the same figure gives the same text."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastpath"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
