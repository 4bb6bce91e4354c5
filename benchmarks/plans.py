"""Which chooser and which criterion to trust: `python benchmarks/plans.py --suites FOLDER`.

Every chooser and criterion cuts 3, 6 and 9 blocks, and what is left answers task families that it was not
calibrated on. The families of the simple suite are dealt to two folds; what is calibrated on one half is
asked the other half, every other item of the public suites (arc_easy, piqa, SNIPS; GSM8K's worked steps;
missing ones are skipped), and our complex tasks. Accuracy is the mean over families. The interval of a
difference is a bootstrap over families and, within each, over items.

A model in the words of embedded:depthdial is asked the tiny tasks, each family left out in turn; it is small
enough to try every plan, so that each plan's place among all of them is told as well.

Every plan and every answer is kept in --out: the same command goes on there after a kill, and --fold lets
two processes share the work. The last line is JSON.
"""

import argparse
import json
import logging
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import numpy as np

from benchmarks.exact import cheapest, depth_blocks, every_plan, is_small, places
from benchmarks.families import ENGLISH, TINY, families_of
from benchmarks.held_out import OUTSIDE_COMPLEX, OUTSIDE_SIMPLE, answer_all, outside_items, own_items
from benchmarks.plan_tables import ANGULAR, BLOCK_INFLUENCE, Plans, Result, name_of, report
from fastpath.blocks import find_blocks
from fastpath.cli import guarded
from fastpath.config import ModelConfig, PruneConfig
from fastpath.data import item_batches
from fastpath.env import describe_environment
from fastpath.errors import UserError
from fastpath.items.catalog import generate
from fastpath.items.item import Item
from fastpath.models import load_model, load_tokenizer, pick_device, pick_dtype, weights_sha256
from fastpath.plan import Scores
from fastpath.runs import read_json, step, write_json
from fastpath.sources import locate
from fastpath.team import Team
from prune.choose import CHOOSERS
from prune.columns import Measured, depth_columns, halvings_of
from prune.criteria import CRITERIA, spans
from prune.frontier import SEARCHES, search
from prune.scoring import score_blocks

SHIPPED = PruneConfig(drop=1)
DEFAULT = f"{SHIPPED.criterion}_{SHIPPED.chooser}"
METHODS = (
    *(f"{criterion}_lowest" for criterion in CRITERIA if criterion != "angular"),
    ANGULAR,
    "ablation_span",
    *(f"ablation_{chooser}" for chooser in SEARCHES),
)
EXACT = "ablation_exact"


class Bench:
    """The model and what the command line asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        wanted = ModelConfig(name=options.model)
        device, folder = pick_device(wanted), locate(wanted.name).folder
        self.options = options
        self.tokenizer = load_tokenizer(folder)
        self.model = load_model(folder, dtype=pick_dtype(wanted, device)[0], device=device)
        self.weights = weights_sha256(folder)
        self.depth = len(find_blocks(self.model)[1])
        self.families = families_of(self.tokenizer)
        self.sizes = tuple(options.drops or self.families.drops)
        self.methods = tuple(dict.fromkeys([*options.methods, BLOCK_INFLUENCE, ANGULAR]))
        if self.is_small:
            self.methods += (EXACT,)

    @property
    def is_small(self) -> bool:
        """Whether every plan can be tried."""
        return self.families is TINY and is_small(self.depth, self.sizes)

    def make_plans(self, fold: str, folder: Path) -> Plans:
        """What every method drops when it is calibrated on the families of the fold."""
        items = [
            item
            for task in self.families.folds[fold]
            for item in generate(task, split="calibration", seed=0, num_items=self.options.items)
        ]
        made: Plans = {}
        for method in self.methods:
            criterion, chooser = method.rsplit("_", 1)
            make = partial(self._plans_of, criterion, chooser, items, folder)
            made[method] = step(folder, f"{method}.json", make)
            drops = {size: " ".join(map(str, drop)) for size, drop in made[method]["drops"].items()}
            print(f"fold {fold}  {method:18}{made[method]['seconds']:6.0f} s  {drops}", flush=True)
        return made

    def _plans_of(self, criterion: str, chooser: str, items: list[Item], folder: Path) -> dict[str, Any]:
        start, sizes = time.perf_counter(), self.sizes
        if chooser == "exact":
            drops = cheapest(self.model, self.tokenizer, items, sizes)
        elif chooser in CHOOSERS:
            scores = self._scores(criterion, items, folder / criterion)
            drops = {size: CHOOSERS[chooser](scores, size, ()).drop for size in sizes}
        else:
            config = SHIPPED.model_copy(update={"chooser": chooser})
            (folder / chooser).mkdir(parents=True, exist_ok=True)
            found = search(
                self.model, self.tokenizer, config, max(sizes), suites=(items, []), seed=0,
                folder=folder / chooser, team=Team(),
            )  # fmt: skip
            drops = {size: found[size - 1].drop for size in sizes}
        return {"seconds": round(time.perf_counter() - start, 1), "drops": drops}

    def _scores(self, name: str, items: list[Item], folder: Path) -> Any:
        """What a chooser reads of Scores: the ranking alone, without intervals and other columns."""
        criterion = CRITERIA[name]
        scored = self.families.dial_items() if criterion.ranked_by == "deepest" else items
        halvings = halvings_of(scored, seed=0)
        batches = item_batches(scored, self.tokenizer, batch_tokens=SHIPPED.batch_tokens)
        function = criterion.ready(self.model, batches, halvings[0], folder, stream_bytes=2**31)
        rows: dict[int, tuple[list[float], float]] = {}
        for batch in batches:
            part = function(self.model, batch.to(self.model.device))
            rows |= {i: (sums, n) for i, sums, n in zip(part.index, part.sums, part.tokens, strict=True)}
        sums, tokens = zip(*(rows[i] for i in range(len(scored))), strict=True)
        measured = Measured(scored, np.array(sums), np.array(tokens, float), halvings)
        cost = measured.cost
        table: Any = ()
        if criterion.spans:
            of_span = dict(zip(spans(self.depth), cost, strict=True))
            table = tuple(
                tuple(of_span[i, j] for j in range(i + 1, self.depth + 1) if (i, j) in of_span)
                for i in range(self.depth)
            )
            cost = np.array([of_span[i, i + 1] for i in range(self.depth)])
        if criterion.ranked_by == "deepest":
            cost = np.array(depth_columns(measured, seed=0)["deepest"].cost)
        return SimpleNamespace(depth=self.depth, ranking=SimpleNamespace(cost=cost), simple_spans=table)

    def scores(self, folder: Path) -> Scores:
        """All columns, with intervals, by ablation on all families."""
        config = self.families.recipe(drop=1, items_per_task=self.options.items)
        folder = folder / f"scores-{self.options.items}"
        folder.mkdir(exist_ok=True)
        check_same(folder, {"weights_sha256": self.weights})
        return score_blocks(self.model, self.tokenizer, config, seed=0, weights=self.weights, folder=folder)

    def asked(self, fold: str) -> dict[str, tuple[str, list[Item]]]:
        """family -> (suite, items) that the fold is asked; what all folds are asked is dealt to them."""
        folds, suites, num = list(self.families.folds), self.options.suites, self.options.held_out
        own = {task: ("simple", own_items(task, num)) for task in self.families.asked(fold)}
        shared = {task: ("complex", own_items(task, num // 2)) for task in self.families.complex}
        if self.families is ENGLISH:
            shared |= {name: ("simple", outside_items(name, suites, num)) for name in OUTSIDE_SIMPLE}
            shared |= {name: ("complex", outside_items(name, suites, num // 2)) for name in OUTSIDE_COMPLEX}
        start = folds.index(fold)
        dealt = {name: (suite, items[start :: len(folds)]) for name, (suite, items) in shared.items()}
        return own | {name: (suite, items) for name, (suite, items) in dealt.items() if items}

    def answer(self, fold: str, plans: Plans, folder: Path) -> dict[str, Any]:
        """family -> {"suite", "answers": {drop set as text: [correct, nats, tokens]}}; "" is the base."""
        wanted = {name_of(drop) for plan in plans.values() for drop in plan["drops"].values()} | {""}
        if self.is_small:
            wanted |= {name_of(drop) for size in self.sizes for drop in every_plan(self.depth, size)}
        found = {}
        for family, (suite, items) in self.asked(fold).items():
            path = folder / f"answers-{family}-{len(items)}.json"
            known = read_json(path) if path.exists() else {}
            if missing := sorted(wanted - set(known)):
                start = time.perf_counter()
                drops = [tuple(map(int, name.split())) for name in missing]
                answers = answer_all(self.model, self.tokenizer, items, drops)
                known |= {
                    name: [a.correct.tolist(), a.nats.tolist(), a.tokens.tolist()]
                    for name, a in zip(missing, answers, strict=True)
                }
                write_json(path, known)
                seconds = time.perf_counter() - start
                print(f"fold {fold}  {family}: {len(items)} items, {len(missing)} models, {seconds:.0f} s",
                      flush=True)  # fmt: skip
            found[family] = {"suite": suite, "answers": known}
        return found


def check_same(folder: Path, asked: dict[str, Any]) -> None:
    """Raise UserError if what lies in the folder was made for other weights or other sizes."""
    if (made := step(folder, "asked.json", lambda: asked)) != asked:
        raise UserError(f"--out: {folder} was made for {made}, asked for now is {asked}; choose another")


def main() -> int:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="embedded:smollm2-135m-instruct")
    parser.add_argument(
        "--drops", type=int, nargs="+", help="numbers of dropped blocks; default: 3 6 9 (depthdial: 1 to 4)"
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--items", type=int, default=16, help="calibration items of a family")
    parser.add_argument("--held-out", type=int, default=80, help="items of a held-out family (complex: half)")
    parser.add_argument("--suites", type=Path, default=Path(os.environ.get("FASTPATH_SUITES", "suites")))
    parser.add_argument("--out", type=Path, default=Path("runs/plans"))
    parser.add_argument("--fold", help="this fold alone (a, b; depthdial: c too); the last run assembles all")
    options = parser.parse_args()

    def work() -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        bench, folds = Bench(options), {}
        if options.fold and options.fold not in bench.families.folds:
            raise UserError(f"--fold: no {options.fold!r}; there are {', '.join(bench.families.folds)}")
        if bench.families is ENGLISH and not options.suites.is_dir():
            print(f"public suites: skipped, no folder {options.suites} (--suites or FASTPATH_SUITES)")
        for fold in [options.fold] if options.fold else bench.families.folds:
            folder = options.out / f"{fold}-{options.items}"
            folder.mkdir(parents=True, exist_ok=True)
            check_same(folder, {"weights_sha256": bench.weights, "drops": list(bench.sizes)})
            plans = bench.make_plans(fold, folder)
            folds[fold] = plans, bench.answer(fold, plans, folder)
        facts = report(Result(folds), bench.methods, bench.sizes, default=DEFAULT)
        if bench.is_small:
            facts["exact"] = places(folds, depth_blocks(bench.scores(options.out)), bench.depth)
        print(json.dumps({**facts, "default": DEFAULT, "env": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
