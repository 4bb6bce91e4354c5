"""What the parts of distilling are worth: `python benchmarks/distill_ablation.py --suites FOLDER` (hours).

benchmarks/distill_gain.py with one thing changed at a time (arms() tells where it is two), shorter: the same
cut, and the items of its --dev, which its table does not report. One short run of each arm, so a difference
between two arms holds the luck of one run beside what its interval says: it tells large effects. The arm of
another cut recovers of what that cut lost. Every answer is kept in --out: the same command goes on there
after a kill, with other settings it says so; checkpoints are deleted after the answers. The last line is
JSON.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import prune.run
from benchmarks.distill_gain import MODEL, answers_of, asked, begin, heal, practised, recipe_of, templates
from benchmarks.families import ENGLISH
from benchmarks.gain_tables import Families, simple_change, summary
from fastpath.cli import guarded
from fastpath.env import describe_environment
from fastpath.items.item import digest
from fastpath.runs import step
from fastpath.sources import locate

SHIPPED = "without refit"
SHORT = (
    "distill.refit_tokens=0", "distill.local_steps=40", "distill.loss=forward_kl",
    "distill.learning_rate=5e-4",
)  # fmt: skip
"""What every arm begins with."""
LOOKING_UP = (
    "member", "possession", "location", "time", "number", "cell", "note", "speaker", "position",
    "contains", "topic",
)  # fmt: skip
"""Kinds of practice that look up, or sort by topic, what stands in the prompt, as most asked families do."""


def arms(fold: str) -> dict[str, tuple[str, ...]]:
    """Name -> what it changes in the recipe.

    "own answers" has fewer items too: writing answers to all of them takes hours.
    """
    rest = [kind for kind in practised(fold) if kind not in LOOKING_UP]
    refit = ("distill.refit_tokens=107520", "distill.local_steps=0", "distill.learning_rate=2e-4")
    tuned = "distill.kd_weight=0", "distill.local_steps=0"
    return {
        SHIPPED: (),
        "refit": refit,
        "refit and JSD": (*refit, "distill.loss=jsd"),
        "refit alone": (*refit, "distill.steps=0"),
        "no practice": ("distill.practice=0",),
        "practice without look-ups": (f"distill.practice_kinds={json.dumps(rest)}",),
        "no own questions": ("distill.own_questions=0",),
        "no own texts": ("distill.own_texts=0",),
        "items alone": ("distill.practice=0", "distill.own_questions=0", "distill.own_texts=0"),
        "general text x 4": ("distill.own_texts_weight=2", "distill.own_questions_weight=8"),
        "own answers to worked items": ("distill.own_answers=2", "distill.items_per_task=50"),
        "original's predictions alone": ("distill.kd_weight=1",),
        "data's tokens alone": tuned,
        "data's tokens alone, rate x 0.4": (*tuned, "distill.learning_rate=2e-4"),
        "temperature 1": ("distill.temperature=1",),
        "reverse KL": ("distill.loss=reverse_kl",),
        "JSD": ("distill.loss=jsd",),
        "no local phase": ("distill.local_steps=0",),
        "lora": ("distill.mode=lora",),
        "head+last-k": ("distill.mode=head+last-k",),
        "learning rate x 0.4": ("distill.learning_rate=2e-4",),
        "learning rate x 2": ("distill.learning_rate=1e-3",),
        "cut by Block Influence": ("prune.plan=null", "prune.criterion=cosine", "prune.chooser=lowest"),
    }


def measure(options: argparse.Namespace, arm: str) -> dict[str, Any]:
    """base, cut, distilled -> family -> answers to the dev items, of one arm."""
    changed, name = arms(options.fold)[arm], arm.replace(" ", "-")
    cuts = any(change.startswith("prune.") for change in changed)
    changes = [*SHORT, *options.changes, *changed, *[f"prune.drop={options.drop}"] * cuts]
    mine = argparse.Namespace(**{**vars(options), "changes": changes})
    recipe = recipe_of(mine, options.drop, options.fold)
    if cuts:
        recipe = recipe.model_copy(update={"out": recipe.out.with_name(f"{recipe.out.name}-{name}")})
    families = asked(options.fold, options)
    asked_for = digest(options.fold, *sorted(families), length=8)
    kept = f"{options.simple_items}-{options.items}-{asked_for}.json"
    cut = prune.run.run(recipe) / "model"
    healed = heal(recipe, "distilled", name)
    found = {
        "base": step(options.out, f"base-{kept}", lambda: answers_of(locate(MODEL).folder, families)),
        "cut": step(recipe.out, f"cut-{kept}", lambda: answers_of(cut, families)),
        "distilled": step(recipe.out, f"{name}-{kept}", lambda: answers_of(healed, families)),
        "templates": templates(families),
    }
    shutil.rmtree(healed.parent / "checkpoints", ignore_errors=True)
    print(f"{arm}: answered", flush=True)
    return found


def table(found: dict[str, dict[str, Families]]) -> dict[str, Any]:
    """Print a row for each arm, and one of its families; its facts."""
    rows = {}
    for arm, models in found.items():
        facts = summary({"dev": {**models, "trained": {"distilled": None}}}, "distilled")
        del facts["trained"]
        if SHIPPED in found and arm != SHIPPED:
            pair = {**models, "base": found[SHIPPED]["distilled"]}
            facts["simple_over_shipped"] = simple_change({"dev": pair}, "distilled")["points"]
        rows[arm] = facts
    print(
        "\n| arm | simple | points over base (90 %) | over shipped (90 %) | steps right | recovered (95 %) |"
    )
    print("| --- " * 6 + "|")
    first = summary({"dev": next(iter(found.values()))}, "base")
    print("| base | {simple_accuracy:.3f} | | | {step_accuracy:.3f} | |".format(**first))
    for arm, facts in rows.items():
        change = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*facts["simple_over_base"]["points"])
        over = facts.get("simple_over_shipped")
        beside = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*over) if over else ""
        back = "{:.2f} [{:.2f}, {:.2f}]".format(*facts["complex_nats_recovered"])
        simple, steps = (f"{facts[key]:.3f}" for key in ("simple_accuracy", "step_accuracy"))
        print(f"| {arm} | {simple} | {change} | {beside} | {steps} | {back} |")
    families = {"base": first["families"]} | {arm: facts["families"] for arm, facts in rows.items()}
    names = list(families["base"])
    print("\n| arm | " + " | ".join(name.removeprefix("dev ") for name in names) + " |")
    print("| --- " * (len(names) + 1) + "|")
    for arm, of in families.items():
        print(f"| {arm} | " + " | ".join(f"{of[name]:.3f}" for name in names) + " |")
    return rows


def main() -> int:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arms", nargs="+", default=list(arms("a")), choices=list(arms("a")))
    parser.add_argument("--drop", type=int, default=6)
    parser.add_argument("--fold", default="a", choices=list(ENGLISH.folds))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--simple-items", type=int, default=200, help="items of a simple family")
    parser.add_argument("--items", type=int, default=60, help="items of a complex family (GSM8K: half)")
    parser.add_argument("--suites", type=Path, default=Path(os.environ.get("FASTPATH_SUITES", "suites")))
    parser.add_argument("--out", type=Path, default=Path("runs/distill-ablation"))
    parser.add_argument("changes", nargs="*", metavar="key=value", help="of every arm")
    options = parser.parse_args()

    def work() -> None:
        options.dev, options.search = True, False
        begin(options)
        rows = table({arm: measure(options, arm) for arm in options.arms})
        print(json.dumps({"arms": rows, "env": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
