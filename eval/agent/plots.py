"""Pictures of the agent task: minutes split into waiting and fixing, break-even, pass^k."""

from collections.abc import Mapping
from typing import Any

from eval.agent.break_even import ABOVE, BELOW, beyond_standard, break_even_words, grid, side_of, your_prices
from eval.curves import MODEL_COLORS, MODEL_MARKS
from eval.plots import Plot, finished, legend_below
from fastpath.plots import COMPLEX, INK, SIMPLE, new_axes


def split_plot(agent: Mapping[str, Any]) -> Plot:
    """Minutes of a run under every policy: waiting for the model, then fixing its mistakes."""
    names = list(agent["policies"])
    figure, (axes,) = new_axes(width=8, height=1.3 + 0.32 * len(names))
    waiting, fixing = (
        [agent["policies"][name][key]["value"] for name in names]
        for key in ("waiting_minutes", "human_minutes")
    )
    axes.barh(names, waiting, color=SIMPLE, label="waiting for the model")
    axes.barh(names, fixing, left=waiting, color=COMPLEX, label="fixing mistakes")
    axes.invert_yaxis()
    axes.set_xlabel("minutes a run")
    legend_below(figure, axes)
    return finished(figure, "Minutes of a run: waiting for the model and fixing mistakes, by policy")


def pass_plot(agent: Mapping[str, Any]) -> Plot:
    """Chance that all of k runs of a task succeed, of every tier, with 95 % bands."""
    figure, (axes,) = new_axes(width=4.8, height=3.4)
    for number, (label, tier) in enumerate(agent["tiers"].items()):
        ks = range(1, len(tier["pass_hat"]) + 1)
        middle, low, high = (
            [figure_[end] for figure_ in tier["pass_hat"]] for end in ("value", "low", "high")
        )
        color, mark = (palette[number % len(palette)] for palette in (MODEL_COLORS, MODEL_MARKS))
        axes.fill_between(ks, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(ks, middle, color=color, marker=mark, markersize=4, linewidth=1.5, label=label)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(list(ks))
    axes.set_xlabel("k runs of a task, no retries")
    axes.set_ylabel("pass^k: all k succeed")
    legend_below(figure, axes)
    return finished(figure, "pass^k of every tier")


def break_even_plot(agent: Mapping[str, Any]) -> Plot:
    """For which price of people and of a wrong commit each policy costs as much as all standard."""
    figure, (axes,) = new_axes(width=4.8, height=3.4)
    hours, prices = grid(agent)
    for number, (name, dearer) in enumerate(beyond_standard(agent).items()):
        if (side := side_of(dearer)) in (BELOW, ABOVE):
            color = MODEL_COLORS[number % len(MODEL_COLORS)]
            axes.contour(hours, prices, dearer, levels=[0], colors=[color], linewidths=1.5)
            axes.plot([], [], color=color, linewidth=1.5, label=f"{name}: {side}")
    axes.plot(*your_prices(agent), marker="*", markersize=11, color=INK, linestyle="", label="your prices")
    axes.set_xlim(0, hours.max())
    axes.set_ylim(0, prices.max())
    axes.set_xlabel("a person's hour, $")
    axes.set_ylabel("a wrong commit, $")
    legend_below(figure, axes, columns=1)
    return finished(
        figure, f"At which prices each policy costs as much as all standard. {break_even_words(agent)}"
    )


def agent_plots(agent: Mapping[str, Any]) -> tuple[tuple[Plot, ...], ...]:
    """Rows of pictures."""
    return ((split_plot(agent),), (break_even_plot(agent), pass_plot(agent)))
