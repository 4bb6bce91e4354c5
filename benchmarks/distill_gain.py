"""What distilling brings back: `python benchmarks/distill_gain.py --suites FOLDER` (hours).

SmolLM2-135M-Instruct is cut as benchmarks/plans.py found by the defaults of `python -m prune` (--search: they
search again, an hour), then healed twice, from the same cut, on the same data and by as many operations:
distilled (refitted to the original's streams, then the original's predictions are learnt beside the data's
own tokens), and fine-tuned (the data's own tokens alone; without a teacher it gets as many more steps). All
four then answer items that neither calibration nor training held: simple families left out (the simple suite
is dealt to two folds; what one fold is calibrated and trained on is asked in the other), public suites
(arc_easy, piqa, SNIPS; skipped where missing), our complex tasks in other draws, and GSM8K. The kinds of
practice that are most like an asked family are left out too (NEAR); the frame "Question: ... Answer:", in
which arc_easy and piqa are asked, is not.

Every cut, checkpoint and answer is kept in --out: the same command goes on there after a kill. key=value
arguments change the recipe (distill.loss=jsd); choose between them on the items of --dev, which are never
reported. The last line is JSON.
"""

import argparse
import json
import logging
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import torch

import distill.run
import prune.run
from benchmarks.families import ENGLISH
from benchmarks.gain_tables import report
from benchmarks.held_out import OUTSIDE_COMPLEX, OUTSIDE_SIMPLE, answer_all, outside_items, own_items
from benchmarks.label_bias import label_tables, labelled
from fastpath.cli import guarded
from fastpath.config import Recipe
from fastpath.config_distill import KINDS
from fastpath.env import describe_environment
from fastpath.errors import UserError
from fastpath.items.item import Item, digest
from fastpath.models import load_model, load_tokenizer
from fastpath.plan import Plan, read_plan
from fastpath.recipe_file import load_recipe
from fastpath.runs import locked, read_json, step, write_json
from fastpath.sources import locate

MODEL = "embedded:smollm2-135m-instruct"
DEPTH = 30
RECIPE = Path(__file__).with_suffix(".yaml")
PLANS = Path(__file__).with_name("distill_gain_plans.json")
"""fold -> number -> dropped blocks: what benchmarks/plans.py found by `ablation`, `evolution`."""
SIDES = ("distilled", "fine_tuned")
FINE_TUNED = {"kd_weight": 0.0, "refit_tokens": 0, "local_steps": 0, "learning_rate": 5e-4}
"""What the other side changes: a plain cut bears a higher rate."""
LEAST = 8
"""Items of a family: one template has no interval, and GSM8K has half as many."""
NEAR = {
    "one_hop": ("possession", "location"),
    "date_pick": ("time",),
    "field_lookup": ("number", "cell", "note"),
    "routing": ("topic",),
    "piqa": ("purpose",),
}
"""Family -> the kinds of practice that are most like it: where it is asked, they are not practised."""


def recipe_of(options: argparse.Namespace, drop: int, fold: str) -> Recipe:
    """The recipe of one cut and of its distillation."""
    tasks = list(ENGLISH.folds[fold])
    learnt = [*tasks, *ENGLISH.complex]
    plans = json.loads(PLANS.read_text())[fold]
    cut = [f"prune.drop={drop}"]
    if not options.search:
        if str(drop) not in plans:
            raise UserError(f"distill_gain: --drops {drop}: {PLANS} has {', '.join(plans)}; or --search")
        file = options.out / f"plan-{fold}-{drop}.json"
        keep = tuple(block for block in range(DEPTH) if block not in plans[str(drop)])
        plan = Plan(depth=DEPTH, keep=keep, criterion="ablation", chooser="evolution", cost=None, unit="")
        with locked(options.out / ".lock", wait=True):  # arms and folds in processes of their own
            write_json(file, plan.model_dump(mode="json"))
        cut = ["prune.drop=null", f"prune.plan={file}"]
    return load_recipe(
        RECIPE,
        [
            f"out={options.out / f'{fold}-{drop}'}", f"distill.steps={options.steps}",
            f"prune.simple_tasks={json.dumps(tasks)}", f"prune.complex_tasks={json.dumps(ENGLISH.complex)}",
            f"prune.depth_tasks={json.dumps(ENGLISH.dials)}",
            f"distill.tasks={json.dumps(learnt)}", f"distill.dev_tasks={json.dumps(learnt)}",
            f"distill.practice_kinds={json.dumps(practised(fold))}",
            *cut, *options.changes,
        ],
    )  # fmt: skip


def begin(options: argparse.Namespace) -> None:
    """Check the changes of the recipe and the sizes (UserError), say what is skipped, make --out."""
    for size in ("items", "simple_items"):
        if getattr(options, size) < LEAST:
            raise UserError(f"--{size.replace('_', '-')}: at least {LEAST}, for an interval by template")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fastpath").setLevel(logging.INFO)  # how many own answers were right, among others
    for name in ("lm_eval", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for change in options.changes:
        if "=" not in change:
            raise UserError(f"{change!r} is not key=value")
    if not options.suites.is_dir():
        print(f"public suites: skipped, no folder {options.suites} (--suites or FASTPATH_SUITES)")
    options.out.mkdir(parents=True, exist_ok=True)


def practised(fold: str) -> list[str]:
    """Kinds of practice that are not most like a family which this fold is asked."""
    near = {kind for name in (*ENGLISH.asked(fold), *OUTSIDE_SIMPLE) for kind in NEAR.get(name, ())}
    return [kind for kind in KINDS if kind not in near]


def heal(recipe: Recipe, side: str, name: str = "") -> Path:
    """The folder of the model that one side makes of the cut one, in a folder of that name, or its own."""
    assert recipe.distill is not None
    cut = recipe.out / "prune" / "model"
    changes: dict[str, Any] = {"student": str(cut)}
    if side == "fine_tuned":
        plan = read_plan(recipe.out / "prune" / "plan.json")
        config = recipe.distill
        refits = math.ceil(config.refit_tokens / (config.batch_rows * config.max_tokens))
        taught = refits + config.local_steps + config.steps
        steps = fine_tuning_steps(taught, depth=plan.depth, kept=len(plan.keep))
        changes |= {**FINE_TUNED, "steps": steps}
    section = recipe.distill.model_copy(update=changes)
    return (
        distill.run.run(recipe.model_copy(update={"out": recipe.out / (name or side), "distill": section}))
        / "model"
    )


def fine_tuning_steps(steps: int, *, depth: int, kept: int) -> int:
    """Steps without a teacher that cost what `steps` with one do: its forward is a third of a step of as many
    blocks (the head aside)."""
    return math.ceil(steps * (3 * kept + depth) / (3 * kept))


def asked(fold: str, options: argparse.Namespace) -> dict[str, tuple[str, list[Item]]]:
    """family -> (suite, items): none that this fold was calibrated or trained on."""
    num, many = options.items, options.simple_items
    own = partial(own_items, for_choices=options.dev)
    outside = partial(outside_items, folder=options.suites, for_choices=options.dev)
    found = {task: ("simple", own(task, many)) for task in ENGLISH.asked(fold)}
    found |= {name: ("simple", outside(name, num=many)) for name in OUTSIDE_SIMPLE}
    found |= {task: ("complex", own(task, num)) for task in ENGLISH.complex}
    found |= {name: ("complex", outside(name, num=num // 2)) for name in OUTSIDE_COMPLEX}
    return {name: (suite, items) for name, (suite, items) in found.items() if items}


def answers_of(folder: Path, families: dict[str, tuple[str, list[Item]]]) -> dict[str, Any]:
    """family -> {suite, correct, nats, tokens; of a family of labels also label -> its log-probabilities}."""
    with torch.no_grad():
        model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
        said = {name: answer_all(model, tokenizer, items, [()])[0] for name, (_, items) in families.items()}
    found: dict[str, dict[str, Any]] = {
        name: {"suite": families[name][0]}
        | {key: getattr(a, key).tolist() for key in ("correct", "nats", "tokens")}
        for name, a in said.items()
    }
    for name, items in labelled(families).items():
        by_label = zip(*said[name].logprobs, strict=True)
        found[name]["labels"] = dict(zip(items[0].choices, by_label, strict=True))
    return found


def templates(families: dict[str, tuple[str, list[Item]]]) -> dict[str, list[str]]:
    """family -> the template of each item."""
    return {name: [item.template for item in items] for name, (_, items) in families.items()}


def measure(options: argparse.Namespace, drop: int, fold: str) -> dict[str, Any]:
    """model -> family -> answers, of the base, the cut and both healed ones."""
    recipe, families = recipe_of(options, drop, fold), asked(fold, options)
    folders = {"base": locate(MODEL).folder, "cut": prune.run.run(recipe) / "model"}
    found: dict[str, Any] = {"templates": templates(families)}
    found["labels"] = {name: [item.answer for item in items] for name, items in labelled(families).items()}
    for name in ("base", "cut", *options.sides):
        if name in SIDES:
            folders[name] = heal(recipe, name)
        kept = options.out if name == "base" else recipe.out
        key = f"{name}-{fold}" if name == "base" else name
        answer = partial(answers_of, folders[name], families)
        asked_for = digest("labels", *sorted(families), *["dev"] * options.dev, length=8)
        found[name] = step(
            kept, f"answers-{key}-{options.simple_items}-{options.items}-{asked_for}.json", answer
        )
        print(f"{drop} blocks dropped, fold {fold}: {name} answered", flush=True)
    found["trained"] = {
        side: read_json(recipe.out / side / "distill" / "phases.json") for side in options.sides
    }
    return found


def main() -> int:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--drops", type=int, nargs="+", default=[6, 9])
    parser.add_argument("--folds", nargs="+", default=list(ENGLISH.folds), choices=list(ENGLISH.folds))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--steps", type=int, default=400, help="updates of the distilled side")
    parser.add_argument("--simple-items", type=int, default=300, help="items of a simple family")
    parser.add_argument("--items", type=int, default=100, help="items of a complex family (GSM8K: half)")
    parser.add_argument("--search", action="store_true", help="search the plans again")
    parser.add_argument("--dev", action="store_true", help="ask other items: settings are chosen on these")
    parser.add_argument("--suites", type=Path, default=Path(os.environ.get("FASTPATH_SUITES", "suites")))
    parser.add_argument("--out", type=Path, default=Path("runs/distill-gain"))
    parser.add_argument("changes", nargs="*", metavar="key=value", help="of the recipe")
    options = parser.parse_args()

    def work() -> None:
        begin(options)
        found = {
            drop: {fold: measure(options, drop, fold) for fold in options.folds} for drop in options.drops
        }
        print(json.dumps({**report(found), "labels": label_tables(found), "env": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
