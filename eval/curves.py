"""Curves and frontiers as SVG: the depth dials, speed against accuracy, speed against ceilings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.facts import Facts
from eval.plots import SUITE_COLORS, Plot, finished, legend_below
from eval.speed_tables import headline_ratios
from eval.tables import KIND_WORDS, short
from fastpath.plots import INK, new_axes

MODEL_COLORS = (INK, "#c2459b", "#1b9e77", "#7a6bd8", "#b8860b", "#2a7fb8")
MODEL_MARKS = ("o", "s", "^", "D", "v", "P")
KIND_MARKS = {"likelihood": "o", "generation": "s"}
PHASES = {"decode": "memory bandwidth", "prefill": "matrix multiplication"}


def depth_plots(depth: Mapping[str, Any]) -> tuple[tuple[Plot, ...], ...]:
    """Two rows, accuracy and nats against k: a panel a dial, every model with its 95 % band."""
    units = ("accuracy", "nats")
    return tuple(tuple(_dial(name, dial, unit) for name, dial in depth["dials"].items()) for unit in units)


def _dial(name: str, dial: Mapping[str, Any], unit: str) -> Plot:
    figure, (axes,) = new_axes(width=3.3, height=2.7)
    steps = [level["k"] for level in dial["levels"]]
    for number, label in enumerate(dial["levels"][0]["models"]):
        facts = [level["models"][label] for level in dial["levels"]]
        middle, low, high = ([f[f"{unit}{end}"] for f in facts] for end in ("", "_low", "_high"))
        color = MODEL_COLORS[number % len(MODEL_COLORS)]
        mark = MODEL_MARKS[number % len(MODEL_MARKS)]
        axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(steps, middle, color=color, marker=mark, markersize=4, linewidth=1.5, label=label)
    if unit == "accuracy":
        axes.axhline(dial["chance"], color=INK, linestyle="--", linewidth=0.9, label="chance")
        axes.set_ylim(0, 1.02)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(steps)
    axes.set_title(short(name).removeprefix("dial_"), loc="left", fontsize=10, color=INK)
    axes.set_xlabel("k (dependent steps)")
    axes.set_ylabel("accuracy" if unit == "accuracy" else "nats of the right answer")
    legend_below(figure, axes)
    return finished(figure, f"{unit} of every model against k on {short(name)}")


def frontier_plot(runs: Mapping[str, Facts]) -> tuple[Plot, ...]:
    """Speed over the base (decode; prefill) against mean accuracies, every variant of every run a point."""
    return tuple(_frontier(runs, phase) for phase in PHASES)


def _frontier(runs: Mapping[str, Facts], phase: str) -> Plot:
    figure, (axes,) = new_axes(width=4.8, height=4.2)
    places: list[tuple[float, str]] = []
    named: set[str] = set()
    for run, facts in runs.items():
        for number, (label, variant) in enumerate(facts.variants.items()):
            x = headline_ratios(facts.results["speed"], label)[f"{phase}_tokens_per_second"]
            places.append((x, f"{run}: {label}" if len(runs) > 1 else label))
            for suite, kind, mean in _means(variant):
                words = f"{suite}, {KIND_WORDS[kind]}"
                known = {} if words in named else {"label": words}
                named.add(words)
                _point(
                    axes,
                    x,
                    mean,
                    color=SUITE_COLORS[suite],
                    mark=KIND_MARKS[kind],
                    chosen=number == 0,
                    **known,
                )
    axes.axvline(1, color=INK, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.02)
    places.append((1.0, "base"))
    ends = [x for x, _ in places]
    room = 0.12 * (max(ends) - min(ends) or 1)
    axes.set_xlim(min(ends) - room, max(ends) + room)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"{phase} speed over the base")
    axes.set_ylabel("mean accuracy")
    _names(axes, sorted(places))
    legend_below(figure, axes, columns=2)
    return finished(figure, f"{phase} speed over the base against mean accuracy of every model")


def _means(variant: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for suite in ("simple", "complex"):
        for kind, mean in variant[suite]["means"].items():
            yield suite, kind, mean


def _point(
    axes: Any, x: float, mean: Mapping[str, Any], *, color: str, mark: str, chosen: bool, **known: str
) -> None:
    """The base at 1, the variant at x with the interval of their difference, a line between."""
    y, base = mean["fast_accuracy"], mean["base_accuracy"]
    ends = [[max(0, mean["gap_high"] - mean["gap"])], [max(0, mean["gap"] - mean["gap_low"])]]
    line = "-" if mark == KIND_MARKS["likelihood"] else ":"
    axes.plot([1, x], [base, y], color=color, linewidth=1, linestyle=line, alpha=0.7)
    axes.plot([1], [base], color=color, marker=mark, markersize=6, markerfacecolor="none")
    axes.errorbar([x], [y], yerr=ends, color=color, fmt=mark, markersize=6, capsize=3, **known)
    if chosen:
        axes.plot([x], [y], marker="o", markersize=13, markerfacecolor="none", markeredgecolor=INK)


def _names(axes: Any, places: Sequence[tuple[float, str]]) -> None:
    """Names above the axes, each over its x, pushed apart where they would overlap."""
    low, high = axes.get_xlim()
    apart = spread([x for x, _ in places], low=low, high=high, gap=0.075 * (high - low))
    for (x, name), at in zip(places, apart, strict=True):
        axes.annotate(
            name,
            xy=(x, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(at, 1.05),
            textcoords=axes.get_xaxis_transform(),
            rotation=40,
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )


def spread(rising: Sequence[float], *, low: float, high: float, gap: float) -> list[float]:
    """Rising places moved to stand `gap` apart inside [low, high], closer where they must."""
    gap = min(gap, (high - low) / max(1, len(rising) - 1))
    places: list[float] = []
    for number, x in enumerate(rising):  # leave room on the right for those to come
        x = min(x, high - gap * (len(rising) - 1 - number))
        places.append(max(x, places[-1] + gap if places else low))
    return places


def ceiling_plot(speed: Mapping[str, Any]) -> tuple[Plot, ...]:
    """How much of what the device can do each model uses, in decode and in prefill; () if not measured."""
    plots = []
    for phase, ceiling in PHASES.items():
        shares = [
            (f"{_point_name(point)}  {label}", number, facts[f"{phase}_share_of_ceiling"])
            for point in speed.get("points", ())
            for number, (label, facts) in enumerate(point["models"].items())
            if facts.get(f"{phase}_share_of_ceiling") is not None
        ]
        if shares:
            plots.append(_shares(phase, ceiling, shares))
    return tuple(plots)


def _point_name(point: Mapping[str, Any]) -> str:
    return f"{point['prompt_tokens']:,} tokens x {point['batch_size']}"


def _shares(phase: str, ceiling: str, shares: Sequence[tuple[str, int, float]]) -> Plot:
    figure, (axes,) = new_axes(width=4.8, height=1.0 + 0.3 * max(2, len(shares)))
    at = range(len(shares))
    colors = [MODEL_COLORS[number % len(MODEL_COLORS)] for _, number, _ in shares]
    bars = axes.barh(at, [100 * share for _, _, share in shares], color=colors, alpha=0.85, height=0.65)
    axes.bar_label(bars, [f"{share:.0%}" for _, _, share in shares], padding=3, color=INK, fontsize=8)
    axes.set_yticks(at, [name for name, _, _ in shares])
    axes.invert_yaxis()
    axes.set_xlim(0, max(100, *(110 * share for _, _, share in shares)))
    axes.set_xlabel(f"{phase}: % of the device's {ceiling}")
    return finished(figure, f"Share of the device's {ceiling} that {phase} reaches")
