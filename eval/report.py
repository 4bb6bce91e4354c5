"""What a run found, for people: report.html, report.md and the terminal. Reads run folders only.

python -m eval.report runs/quickstart
"""

import argparse
import json
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

from eval.plots import gap_plot, score_plot
from eval.speed_tables import headline_ratios, speed_table
from eval.tables import KIND_WORDS, Table, claim_words, gap_table, points
from fastpath.cli import console, guarded
from fastpath.errors import RunError
from fastpath.plan import Plan, Scores, read_plan, read_scores, spans_of
from fastpath.runs import read_json, write_text

RESULTS_VERSION = 2
NUM_DISAGREEMENTS = 10


def write_report(folder: Path) -> None:
    """Write report.md and report.html into an eval folder that has results.json."""
    facts = read_facts(folder)
    write_text(folder / "report.md", markdown(facts))
    write_text(folder / "report.html", html(facts))


def read_facts(folder: Path) -> dict[str, Any]:
    """Everything the report shows: results, disagreements, scores and plan of the prune stage."""
    results = read_json(folder / "results.json")
    if results.get("version") != RESULTS_VERSION:
        raise RunError(
            f"{folder / 'results.json'}: version {results.get('version')!r}, "
            f"this code reads version {RESULTS_VERSION}"
        )
    facts = {
        "name": folder.parent.name,
        "results": results,
        "env": _flat(read_json(folder / "env.json")),
        "tables": [gap_table(label, variant) for label, variant in results["variants"].items()],
        "speed": speed_table(results["speed"]),
        "disagreements": _disagreements(folder, list(results["variants"])),
        "scores": None,
        "plan": None,
    }
    prune = folder.parent / "prune"
    if (prune / "plan.json").exists():
        facts["plan"] = read_plan(prune / "plan.json")
        if (prune / "scores.json").exists():  # a plan that was given has none
            facts["scores"] = read_scores(prune / "scores.json")
    return facts


def _flat(env: dict[str, Any]) -> dict[str, str]:
    """The environment as words: packages one by one, bytes in GB."""
    flat: dict[str, Any] = {**env.pop("packages", {}), **env}
    gigabytes = {
        key.removesuffix("_bytes"): f"{v / 1e9:.1f} GB" for key, v in flat.items() if key.endswith("_bytes")
    }
    plain = {
        k: ", ".join(v) if isinstance(v, list) else str(v)
        for k, v in flat.items()
        if not k.endswith("_bytes")
    }
    return plain | gigabytes


def _disagreements(folder: Path, labels: list[str]) -> Table:
    rows = []
    for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        for label in labels:
            if item["base"]["right"] != item[label]["right"]:
                cells = (item["base"].get("answer") or "", item[label].get("answer") or "")
                prompt = item["prompt"] if len(item["prompt"]) < 300 else f"... {item['prompt'][-300:]}"
                rows.append((item["task"].removeprefix("fastpath_"), prompt, *cells, _who(item, label)))
    return Table(
        title=f"{min(NUM_DISAGREEMENTS, len(rows))} of {len(rows)} items on which one model is right",
        headings=("task", "prompt", "base answers", "variant answers", "right"),
        rows=tuple(_spread(rows)[:NUM_DISAGREEMENTS]),
    )


def _spread(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """In turn from every task, and there from those that the base and those that the variant got right."""
    groups: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for row in rows:
        groups.setdefault((row[-1], row[0]), []).append(row)
    turns = zip_longest(*groups.values())
    return [row for turn in turns for row in turn if row is not None]


def _who(item: dict[str, Any], label: str) -> str:
    return "base" if item["base"]["right"] > item[label]["right"] else label


def score_table(scores: Scores, plan: Plan) -> Table:
    """What dropping each block costs, simple beside complex, with 95 % intervals."""
    rows = []
    for i in range(scores.depth):
        cells = [f"{c.cost[i]:+.3f} ({c.low[i]:+.3f} to {c.high[i]:+.3f})" for c in
                 (scores.simple, scores.complex, scores.reasoning)]  # fmt: skip
        rows.append((str(i), *cells, "dropped" if i in plan.drop else ""))
    return Table(
        title=f"Cost of each block by {scores.criterion} ({scores.unit}; 95 % interval)",
        headings=("block", "simple", "complex", "reasoning = complex - simple", ""),
        rows=tuple(rows),
        note=f"{scores.simple.items} simple and {scores.complex.items} complex calibration items.",
    )


def plan_words(plan: Plan) -> str:
    """The plan in one line."""
    spans = ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans_of(plan.drop))
    return f"Dropped {len(plan.drop)} of {plan.depth} blocks: {spans} ({plan.criterion}, {plan.chooser})."


def headlines(facts: dict[str, Any]) -> list[str]:
    """The run in a few sentences: what was lost, what was gained."""
    lines = [plan_words(facts["plan"])] if facts["plan"] else []
    for label, variant in facts["results"]["variants"].items():
        lines.append(claim_words(variant["claim"], label))
        for suite in ("simple", "complex"):
            for kind, mean in variant[suite]["means"].items():
                lines.append(
                    f"{suite.capitalize()} suite, {KIND_WORDS[kind]}, {label}: "
                    f"{mean['base_accuracy']:.3f} -> "
                    f"{mean['fast_accuracy']:.3f}, {points(mean['gap'])} points lost "
                    f"(95 % {points(mean['gap_low'])} to {points(mean['gap_high'])})."
                )
        ratio = headline_ratios(facts["results"]["speed"], label)
        lines.append(
            f"Speed, {label} over base: prefill {ratio['prefill_tokens_per_second']:.2f} times, "
            f"decode {ratio['decode_tokens_per_second']:.2f} times."
        )
    return lines


def markdown(facts: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts = [
        f"# {facts['name']}: {facts['results']['base']}",
        "",
        *(f"- {line}" for line in headlines(facts)),
        "",
    ]
    for table in _all_tables(facts):
        parts += [table.markdown()]
    parts += [f"**One prompt, both answers**: {facts['results']['answers']['prompt']}", ""]
    parts += [f"- {label}: {text!r}" for label, text in _answers(facts)]
    return "\n".join(parts) + "\n"


def _all_tables(facts: dict[str, Any]) -> list[Table]:
    scores = [score_table(facts["scores"], facts["plan"])] if facts["scores"] else []
    return [*facts["tables"], facts["speed"], *scores, facts["disagreements"]]


def _answers(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [(label, text) for label, text in facts["results"]["answers"].items() if label != "prompt"]


def html(facts: dict[str, Any]) -> str:
    """The report as one self-contained page: no script, no network, light and dark."""
    from jinja2 import Environment, PackageLoader

    template = Environment(loader=PackageLoader("eval"), autoescape=True).get_template("report.html")
    return template.render(
        facts,
        headlines=headlines(facts),
        answers=_answers(facts),
        score_table=score_table(facts["scores"], facts["plan"]) if facts["scores"] else None,
        score_svg=score_plot(facts["scores"], facts["plan"].drop) if facts["scores"] else "",
        gap_svg=gap_plot(facts["results"]["variants"]),
    )


def gap_markdown(folder: Path, label: str) -> str:
    """The measured gap of one variant, for its model card."""
    results = read_json(folder / "results.json")
    return (
        gap_table(label, results["variants"][label]).markdown()
        + "\n"
        + speed_table(results["speed"]).markdown()
    )


def show(folder: Path) -> dict[str, Any]:
    """Print the tables of OUT/eval to the terminal; return the headline facts."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    facts = read_facts(folder)
    out = console()
    for table in (*facts["tables"], facts["speed"]):
        columns = len(table.headings) - (table.spare if out.width < 110 else 0)
        rich = RichTable(
            title=table.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        for number, heading in enumerate(table.headings[:columns]):
            rich.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number < 3)
        for number, row in enumerate(table.rows):
            rich.add_row(*map(escape, row[:columns]), style="dim" if number in table.dim else "")
        out.print(rich)
        for line in (table.note, *table.remarks):
            out.print(line, markup=False)
        out.print()
    out.print(f"prompt  {facts['results']['answers']['prompt']}", markup=False)
    for label, text in _answers(facts):
        out.print(f"{label:7} {text!r}", markup=False)
    for label, model_folder in facts["results"]["models"].items():
        out.print(f"model   {label}: {model_folder}", soft_wrap=True, markup=False)
    out.print(f"report  {folder / 'report.html'}", soft_wrap=True, markup=False)
    return _headline(folder, facts["results"])


def _headline(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"report": str(folder / "report.html")}
    for label, variant in results["variants"].items():
        line[label] = {
            "simple_gap": variant["claim"].get("gap"),
            **{f"complex_{kind}_gap": mean["gap"] for kind, mean in variant["complex"]["means"].items()},
            "simple_unchanged": variant["claim"]["verdict"],
            "decode_speed_ratio": headline_ratios(results["speed"], label)["decode_tokens_per_second"],
        }
    return line


def main() -> int:
    """Write the report of a finished run again and print its path."""
    parser = argparse.ArgumentParser(prog="python -m eval.report", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, for example runs/quickstart")
    arguments = parser.parse_args()

    def work() -> None:
        write_report(arguments.run / "eval")
        print(markdown(read_facts(arguments.run / "eval")))
        print(arguments.run / "eval" / "report.html")

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
