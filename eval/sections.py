"""What the report of one run shows, in order: tiles, sentences, tables, plots. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.agent.outside_tables import outside_tables
from eval.agent.plots import agent_plots
from eval.agent.tables import assumptions_table, pass_table, policy_table, reliability_table, rules_table
from eval.agent.words import advice
from eval.curves import ceiling_plot, depth_plots, frontier_plot
from eval.depth_tables import contrast, depth_table, depth_words
from eval.error_profile import disagreement_table, profile_table
from eval.facts import Facts
from eval.lineage_tables import env_table, lineage_table
from eval.plots import Plot, gap_plot, score_plot
from eval.speed_tables import headline_ratios, speed_grid_table, speed_table, speed_words
from eval.tables import KIND_WORDS, TONES, Table, claim_words, gap_table, interval, points
from fastpath.plan import Plan, Scores, repair_words, spans_of


@dataclass(frozen=True)
class Tile:
    """One number of the overview."""

    name: str
    value: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    words: tuple[str, ...] = ()
    plots: tuple[tuple[Plot, ...], ...] = ()
    """Rows of pictures."""
    tables: tuple[Table, ...] = ()
    folded: bool = False
    """Tables that the plot shows already: behind a click."""
    texts: tuple[tuple[str, str], ...] = ()
    """(who, what it wrote)."""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    headlines: tuple[str, ...]
    tiles: tuple[tuple[str, tuple[Tile, ...]], ...]
    """(variant, its tiles)."""
    sections: tuple[Section, ...]


def run_page(facts: Facts) -> Page:
    """The report of one run."""
    speed = facts.results["speed"]
    sections = [
        *_removed(facts),
        *(
            Section(
                table.title,
                words=(claim_words(variant["claim"], label),),
                plots=((gap_plot(label, variant),),),
                tables=(table,),
            )
            for label, variant in facts.variants.items()
            for table in [gap_table(label, variant)]
        ),
        *_depth(facts),
        *_agent(facts),
        Section(
            "Speed against accuracy",
            words=(FRONTIER_WORDS,),
            plots=(frontier_plot({facts.name: facts}),),
        ),
        Section("Speed", plots=(ceiling_plot(speed),), tables=_speed_tables(speed)),
        *(
            Section(table.title, tables=(table, disagreement_table(facts.items, label)))
            for label in facts.variants
            for table in [profile_table(facts.items, label)]
        ),
        _one_prompt(facts),
        Section("Lineage", tables=(lineage_table(facts),)),
        Section("Environment", tables=(env_table(facts.env),)),
    ]
    return Page(
        title=f"{facts.name}: {facts.results['base']}",
        headlines=tuple(headlines(facts)),
        tiles=tuple((label, tuple(_tiles(facts, label))) for label in facts.variants),
        sections=tuple(sections),
    )


FRONTIER_WORDS = (
    "Every variant at its speed over its base (decode, prefill) and its accuracy; the base, hollow, stands "
    "at 1. Bars: 95 % interval of the difference from the base. The ring marks the chosen point: the first "
    "variant of a run."
)


def _removed(facts: Facts) -> list[Section]:
    plan, scores = facts.plan, facts.scores
    if plan is None:
        return []
    return [
        Section(
            "What was removed, and why",
            words=(
                plan_words(plan),
                *([f"Repair: {repair_words(plan.repair)}"] if plan.repair else []),
                WHY_WORDS if scores else GIVEN_WORDS,
            ),
            plots=((score_plot(scores, plan.drop),),) if scores else (),
            tables=(score_table(scores, plan),) if scores else (),
            folded=True,
        )
    ]


WHY_WORDS = "What dropping each block alone costs on calibration items: low goes first."
GIVEN_WORDS = "The plan was given: no block was scored."


def _depth(facts: Facts) -> list[Section]:
    depth = facts.results["depth"]
    if not depth["dials"]:
        return []
    return [
        Section(
            "Depth: what is lost where more steps depend on one another",
            words=tuple(depth_words(depth, label) for label in facts.variants),
            plots=depth_plots(depth),
            tables=tuple(depth_table(depth, label) for label in facts.variants),
        )
    ]


def _agent(facts: Facts) -> list[Section]:
    agent = facts.results.get("agent")
    if not agent:
        return []
    tables = (policy_table, reliability_table, pass_table, rules_table, assumptions_table)
    return [
        Section(
            "Agent: what mistakes cost",
            words=(advice(agent), AGENT_WORDS),
            plots=agent_plots(agent),
            tables=(*(table(agent) for table in tables), *outside_tables(agent)),
        )
    ]


AGENT_WORDS = (
    "Time is waiting for the model plus fixing its mistakes: a fast tier shortens the first and, if it is "
    "wrong more often, lengthens the second. Below its line in the second picture a policy is cheaper than "
    "the standard tier alone; the star stands at your prices."
)


def _one_prompt(facts: Facts) -> Section:
    answers = dict(facts.results["answers"])
    prompt = answers.pop("prompt")
    return Section("One prompt, every model's answer", texts=(("prompt", prompt), *answers.items()))


def _tiles(facts: Facts, label: str) -> list[Tile]:
    variant = facts.variants[label]
    verdict = variant["claim"]["verdict"]
    claim = f"loses under {100 * variant['claim']['margin']:g} points on simple tasks"
    tiles = [Tile("simple unchanged?", "at chance" if verdict == "floor" else verdict, claim, TONES[verdict])]
    for suite in ("simple", "complex"):
        for kind, mean in variant[suite]["means"].items():
            name = f"points lost, {suite}, {KIND_WORDS[kind]}"
            tiles.append(Tile(name, points(mean["gap"]), _ends(interval(mean))))
    if mean := facts.results["depth"]["contrast"].get(label):
        words = contrast(mean, "accuracy")
        tiles.append(Tile("points lost by depth", words.partition(" ")[0], _ends(words)))
    ratios = headline_ratios(facts.results["speed"], label)
    decode, prefill = (ratios[f"{phase}_tokens_per_second"] for phase in ("decode", "prefill"))
    tiles.append(Tile("speed over the base", f"{decode:.2f} x", f"decode; prefill {prefill:.2f} x"))
    return tiles


def _ends(words: str) -> str:
    return f"95 %: {words.partition(' ')[2][1:-1].replace(', ', ' to ')}"


def score_table(scores: Scores, plan: Plan) -> Table:
    """What dropping each block costs: simple, complex, their difference, depth slope; 95 % intervals."""
    columns = {
        "simple": scores.simple,
        "complex": scores.complex,
        "reasoning = complex - simple": scores.reasoning,
        "depth slope, per step k": scores.depth_slope,
    }
    rows = []
    for i in range(scores.depth):
        cells = [f"{c.cost[i]:+.3f} [{c.low[i]:+.3f}, {c.high[i]:+.3f}]" for c in columns.values()]
        rows.append((str(i), *cells, "dropped" if i in plan.drop else ""))
    return Table(
        title=f"Cost of each block by {scores.criterion} ({scores.unit}; 95 % interval)",
        headings=("block", *columns, "plan"),
        rows=tuple(rows),
        note=f"{scores.simple.items} simple, {scores.complex.items} complex and {scores.depth_slope.items} "
        "dial calibration items; depth slope: the rise of the cost with each dependent step.",
    )


def plan_words(plan: Plan) -> str:
    """The plan in one line."""
    how = f"{plan.criterion}, {plan.chooser}"
    return f"Dropped {len(plan.drop)} of {plan.depth} blocks: {drop_words(plan)} ({how})."


def drop_words(plan: Plan) -> str:
    """'3, 17 to 19'."""
    return ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans_of(plan.drop))


def headlines(facts: Facts) -> list[str]:
    """The run in a few sentences: what was lost, what was gained."""
    lines = [plan_words(facts.plan)] if facts.plan else []
    for label, variant in facts.variants.items():
        lines.append(claim_words(variant["claim"], label))
        for suite in ("simple", "complex"):
            lines += [_mean_words(suite, kind, label, mean) for kind, mean in variant[suite]["means"].items()]
        if words := depth_words(facts.results["depth"], label):
            lines.append(words)
        lines.append(f"Speed, {label} over base: {speed_words(facts.results['speed'], label)}.")
    if agent := facts.results.get("agent"):
        lines.append(advice(agent))
    return lines


def _mean_words(suite: str, kind: str, label: str, mean: Mapping[str, Any]) -> str:
    return (
        f"{suite.capitalize()} suite, {KIND_WORDS[kind]}, {label}: {mean['base_accuracy']:.3f} -> "
        f"{mean['fast_accuracy']:.3f}, {points(mean['gap'])} points lost "
        f"(95 % {points(mean['gap_low'])} to {points(mean['gap_high'])})."
    )


def _speed_tables(speed: Mapping[str, Any]) -> tuple[Table, ...]:
    grid = speed_grid_table(speed)
    return (speed_table(speed), grid) if grid else (speed_table(speed),)
