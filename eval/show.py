"""Print what an eval folder holds. Reads only."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from eval.agent.tables import pass_table, policy_table, reliability_table, rules_table
from eval.agent.words import advice
from eval.depth_tables import depth_table
from eval.facts import Facts, read_facts
from eval.speed_tables import headline_ratios, speed_grid_table, speed_table
from eval.tables import Table, gap_table
from fastpath.cli import console

NARROW = 110
STYLES = {"good": "green", "bad": "red", "open": ""}


def show(folder: Path) -> dict[str, Any]:
    """Print the tables of OUT/eval to the terminal; return the headline facts."""
    facts = read_facts(folder)
    results = facts.results
    out = console()
    for label, variant in facts.variants.items():
        print_table(out, gap_table(label, variant))
        if results["depth"]["dials"]:
            print_table(out, depth_table(results["depth"], label))
    print_table(out, speed_table(results["speed"]))
    if grid := speed_grid_table(results["speed"]):
        print_table(out, grid)
    if agent := results.get("agent"):
        print_table(out, policy_table(agent, brief=True))
        for made in (reliability_table, pass_table, rules_table):
            print_table(out, made(agent))
        out.print(advice(agent), markup=False)
    for label, text in results["answers"].items():
        out.print(f"{label:7} {text if label == 'prompt' else repr(text)}", markup=False)
    for label, model_folder in results["models"].items():
        out.print(f"model   {label}: {model_folder}", soft_wrap=True, markup=False)
    out.print(f"report  {folder / 'report.html'}", soft_wrap=True, markup=False)
    return {
        "report": str(folder / "report.html"),
        **{label: _headline(facts, label) for label in facts.variants},
        **({"cost_per_success": results["agent"]["cost_per_success"]} if "agent" in results else {}),
    }


def print_table(out: Console, table: Table) -> None:
    """One table; a narrow terminal gets fewer columns."""
    columns = len(table.headings) - (table.spare if out.width < NARROW else 0)
    rich = RichTable(
        title=table.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for number, heading in enumerate(table.headings[:columns]):
        if number < 2:
            rich.add_column(heading, justify="left", min_width=12)
        else:
            rich.add_column(heading, justify="right", no_wrap=True)
    for number, row in enumerate(table.rows):
        cells = [
            Text(cell, style=STYLES.get(table.tones.get((number, column), ""), ""))
            for column, cell in enumerate(row[:columns])
        ]
        rich.add_row(*cells, style="dim" if number in table.dim else "")
    out.print(rich)
    for line in (table.note, *table.remarks):
        out.print(line, markup=False)
    out.print()


def _headline(facts: Facts, label: str) -> dict[str, Any]:
    variant, contrast = facts.variants[label], facts.results["depth"]["contrast"].get(label)
    return {
        "simple_gap": variant["claim"].get("gap"),
        **{f"complex_{kind}_gap": mean["gap"] for kind, mean in variant["complex"]["means"].items()},
        **({"depth_contrast": contrast["accuracy"]["gap"]} if contrast else {}),
        "simple_unchanged": variant["claim"]["verdict"],
        "decode_speed_ratio": headline_ratios(facts.results["speed"], label)["decode_tokens_per_second"],
    }
