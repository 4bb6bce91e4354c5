"""What a distillation did, against the tokens that were learnt."""

from collections.abc import Sequence
from typing import Any

from fastpath.plots import COMPLEX, INK, SIMPLE, SLOPE, new_axes

SUITES = {"simple": SIMPLE, "complex": COMPLEX}


def training_figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows of metrics.jsonl: the distance from the teacher, and below it what the dev items say, if any."""
    steps = [row for row in rows if "kd_nats_per_token" in row]
    scored = [row for row in rows if any(key.startswith("eval_") for key in row)]
    known = {key for row in scored for key in row}
    what = [key for key in ("nats_per_token", "accuracy") if any(f"eval_{s}_{key}" in known for s in SUITES)]
    figure, all_axes = new_axes(width=7, height=2 + 1.6 * len(what), rows=1 + len(what))
    distance = [row["kd_nats_per_token"] for row in steps]
    all_axes[0].plot([row["learnt_tokens"] for row in steps], distance, color=SLOPE)
    all_axes[0].set_ylabel("nats per token\nto the teacher")
    for axes, key in zip(all_axes[1:], what, strict=True):
        for suite, color in SUITES.items():
            if (name := f"eval_{suite}_{key}") in known:
                at, values = [row["learnt_tokens"] for row in scored], [row[name] for row in scored]
                axes.plot(at, values, color=color, marker="o", markersize=3, label=suite)
        axes.set_ylabel(f"dev items,\n{key.replace('_', ' ')}")
        axes.legend(frameon=False, labelcolor=INK)
    all_axes[-1].set_xlabel("learnt tokens")
    return figure
