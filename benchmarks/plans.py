"""Which chooser and which criterion to trust: `python benchmarks/plans.py --suites FOLDER`.

Every chooser and criterion cuts 3, 6 and 9 blocks, and what is left answers task families that it was not
calibrated on. The families of the simple suite are dealt to two folds; what is calibrated on one half is
asked the other half, every other item of the public suites (arc_easy, piqa, SNIPS; GSM8K's worked steps;
missing ones are skipped), and our complex tasks. Accuracy is the mean over families. The interval of a
difference is a bootstrap over families and, within each, over items.

Every plan and every answer is kept in --out: the same command goes on there after a kill, and --fold lets
two processes share the work. The last line is JSON.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import numpy as np

from benchmarks.held_out import OUTSIDE_COMPLEX, OUTSIDE_SIMPLE, answer_all, outside_items, own_items
from fastpath.blocks import find_blocks
from fastpath.cli import guarded
from fastpath.config import ModelConfig, PruneConfig
from fastpath.data import item_batches
from fastpath.env import describe_environment
from fastpath.items.catalog import generate
from fastpath.items.item import Item
from fastpath.models import load_model, load_tokenizer, pick_device, pick_dtype
from fastpath.runs import read_json, step, write_json
from fastpath.sources import locate
from fastpath.team import Team
from prune.calibration import dial_items
from prune.choose import CHOOSERS
from prune.columns import Measured, depth_columns, halvings_of
from prune.criteria import CRITERIA, spans
from prune.frontier import SEARCHES, search

FOLDS = {"a": ("routing", "field_lookup"), "b": ("doc_type", "date_pick", "one_hop")}
"""Families that each fold is calibrated on; it is asked those of the other fold."""
COMPLEX = ("worked", "arithmetic", "chain")
DIALS = ("counter", "boolean", "brackets", "hops")
"""What `depth` scores on: no chain, which is held out."""
SHIPPED = PruneConfig(drop=1)
DEFAULT = f"{SHIPPED.criterion}_{SHIPPED.chooser}"
BLOCK_INFLUENCE, ANGULAR = "cosine_lowest", "angular_span"
METHODS = (
    *(f"{criterion}_lowest" for criterion in CRITERIA if criterion != "angular"),
    ANGULAR,
    "ablation_span",
    *(f"ablation_{chooser}" for chooser in SEARCHES),
)
DRAWS = 4000
Plans = dict[str, dict[str, Any]]
"""method -> {"seconds", "drops": {number of blocks: drop set}}."""


class Bench:
    """The model and what the command line asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        wanted = ModelConfig(name=options.model)
        device, folder = pick_device(wanted), locate(wanted.name).folder
        self.options = options
        self.tokenizer = load_tokenizer(folder)
        self.model = load_model(folder, dtype=pick_dtype(wanted, device)[0], device=device)
        self.depth = len(find_blocks(self.model)[1])
        self.config = PruneConfig(drop=1, depth_tasks=DIALS, items_per_level=3)

    def make_plans(self, fold: str, folder: Path) -> Plans:
        """What every method drops when it is calibrated on the families of the fold."""
        items = [
            item
            for task in FOLDS[fold]
            for item in generate(task, split="calibration", seed=0, num_items=self.options.items)
        ]
        made: Plans = {}
        for method in self.options.methods:
            criterion, chooser = method.rsplit("_", 1)
            make = partial(self._plans_of, criterion, chooser, items, folder)
            made[method] = step(folder, f"{method}.json", make)
            drops = {size: " ".join(map(str, drop)) for size, drop in made[method]["drops"].items()}
            print(f"fold {fold}  {method:18}{made[method]['seconds']:6.0f} s  {drops}", flush=True)
        return made

    def _plans_of(self, criterion: str, chooser: str, items: list[Item], folder: Path) -> dict[str, Any]:
        start, sizes = time.perf_counter(), self.options.drops
        if chooser in CHOOSERS:
            scores = self._scores(criterion, items, folder / criterion)
            drops = {size: CHOOSERS[chooser](scores, size, ()).drop for size in sizes}
        else:
            config = self.config.model_copy(update={"chooser": chooser})
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
        scored = dial_items(self.config, seed=0) if criterion.ranked_by == "deepest" else items
        halvings = halvings_of(scored, seed=0)
        batches = item_batches(scored, self.tokenizer, batch_tokens=self.config.batch_tokens)
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

    def families(self, fold: str) -> dict[str, tuple[str, list[Item]]]:
        """family -> (suite, items) that the fold is asked."""
        half, suites, num = list(FOLDS).index(fold), self.options.suites, self.options.held_out
        asked = {
            task: ("simple", own_items(task, num))
            for other, tasks in FOLDS.items() if other != fold for task in tasks
        }  # fmt: skip
        shared = {name: ("simple", outside_items(name, suites, num)) for name in OUTSIDE_SIMPLE}
        shared |= {task: ("complex", own_items(task, num // 2)) for task in COMPLEX}
        shared |= {name: ("complex", outside_items(name, suites, num // 2)) for name in OUTSIDE_COMPLEX}
        return asked | {name: (suite, items[half::2]) for name, (suite, items) in shared.items() if items}

    def answer(self, fold: str, plans: Plans, folder: Path) -> dict[str, Any]:
        """family -> {"suite", "answers": {drop set as text: [correct, nats, tokens]}}; "" is the base."""
        wanted = {name_of(drop) for plan in plans.values() for drop in plan["drops"].values()} | {""}
        found = {}
        for family, (suite, items) in self.families(fold).items():
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


def name_of(drop: Sequence[int]) -> str:
    """A drop set as text."""
    return " ".join(map(str, drop))


class Result:
    """What the folds answered, by method and number of dropped blocks."""

    def __init__(self, folds: Mapping[str, tuple[Plans, dict[str, Any]]]) -> None:
        self.folds = folds

    def outcomes(self, method: str, size: int, suite: str) -> dict[str, np.ndarray]:
        """family -> (3, items) of correct, nats, tokens; a family that both folds are asked is joined."""
        parts: dict[str, list[np.ndarray]] = {}
        for plans, families in self.folds.values():
            drop = name_of(plans[method]["drops"][str(size)]) if method else ""
            for family, facts in families.items():
                if facts["suite"] == suite:
                    parts.setdefault(family, []).append(np.array(facts["answers"][drop]))
        return {family: np.concatenate(arrays, 1) for family, arrays in sorted(parts.items())}

    def summary(self, method: str, size: int) -> dict[str, Any]:
        """Accuracy and nats per answer token, means over families, beside the base and Block Influence."""
        facts: dict[str, Any] = {}
        for suite in ("simple", "complex"):
            mine, base = self.outcomes(method, size, suite), self.outcomes("", size, suite)
            facts[f"{suite}_accuracy"] = float(np.mean([m[0].mean() for m in mine.values()]))
            facts[f"{suite}_nats"] = float(np.mean([m[1].sum() / m[2].sum() for m in mine.values()]))
            lost = {family: float(base[family][0].mean() - m[0].mean()) for family, m in mine.items()}
            facts[f"{suite}_worst_family"] = max(lost, key=lambda family: lost[family])
            facts[f"{suite}_worst_loss"] = max(lost.values())
            for name, reference in (("block_influence", BLOCK_INFLUENCE), ("angular", ANGULAR)):
                if method and all(reference in plans for plans, _ in self.folds.values()):
                    other = self.outcomes(reference, size, suite)
                    facts[f"{suite}_over_{name}"] = difference(
                        [m[0] - other[family][0] for family, m in mine.items()]
                    )
        return facts


def difference(families: Sequence[np.ndarray]) -> list[float]:
    """[mean over families of the mean of each, 95 % low, high]: families resampled, then their items."""
    random, num = np.random.default_rng(0), len(families)
    means = np.stack([random.choice(f, (DRAWS, num, len(f))).mean(2) for f in families])  # (F, draws, slot)
    chosen = random.integers(num, size=(DRAWS, num))
    drawn = means[chosen, np.arange(DRAWS)[:, None], np.arange(num)].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [float(np.mean([f.mean() for f in families])), float(low), float(high)]


def report(result: Result, methods: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
    """Print a table for every number of dropped blocks, and return the facts."""
    base = result.summary("", sizes[0])
    families = result.outcomes("", sizes[0], "simple") | result.outcomes("", sizes[0], "complex")
    counts = ", ".join(f"{name} {outcome.shape[1]}" for name, outcome in families.items())
    print(f"\nheld-out items: {counts}")
    print(f"base: accuracy simple {base['simple_accuracy']:.3f}, complex {base['complex_accuracy']:.3f}; "
          f"nats {base['simple_nats']:.2f}, {base['complex_nats']:.2f}")  # fmt: skip
    facts: dict[str, Any] = {"base": base, "drops": {}}
    for size in sizes:
        print(f"\n{size} blocks dropped{'':8}simple   over Block Influence     over angular span      complex"
              "   nats s/c     worst family     search s")  # fmt: skip
        rows = facts["drops"][str(size)] = {}
        for method in methods:
            row = rows[method] = result.summary(method, size)
            row["seconds"] = sum(plans[method]["seconds"] for plans, _ in result.folds.values())
            over = "".join(
                f"{v:+.3f} [{low:+.3f},{high:+.3f}] ".rjust(24)
                for v, low, high in (row["simple_over_block_influence"], row["simple_over_angular"])
            )
            print(
                f"{method:22}{row['simple_accuracy']:8.3f} {over}{row['complex_accuracy']:8.3f}"
                f"{row['simple_nats']:8.2f}{row['complex_nats']:6.2f}  -{row['simple_worst_loss']:.2f} "
                f"{row['simple_worst_family']:13}{row['seconds']:6.0f}"
                f"{'  <- default' if method == DEFAULT else ''}",
                flush=True,
            )
        if DEFAULT in rows:
            rows["default"] = rows[DEFAULT]
    return facts


def main() -> int:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="embedded:smollm2-135m-instruct")
    parser.add_argument("--drops", type=int, nargs="+", default=[3, 6, 9])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--items", type=int, default=16, help="calibration items of a family")
    parser.add_argument("--held-out", type=int, default=80, help="items of a held-out family (complex: half)")
    parser.add_argument("--suites", type=Path, default=Path(os.environ.get("FASTPATH_SUITES", "suites")))
    parser.add_argument("--out", type=Path, default=Path("runs/plans"))
    parser.add_argument("--fold", choices=FOLDS, help="this fold alone; the last run assembles both")
    options = parser.parse_args()

    def work() -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        if not options.suites.is_dir():
            print(f"public suites: skipped, no folder {options.suites} (--suites or FASTPATH_SUITES)")
        bench, folds = Bench(options), {}
        for fold in [options.fold] if options.fold else FOLDS:
            folder = options.out / f"{fold}-{options.items}"
            folder.mkdir(parents=True, exist_ok=True)
            plans = bench.make_plans(fold, folder)
            folds[fold] = plans, bench.answer(fold, plans, folder)
        facts = report(Result(folds), options.methods, options.drops)
        print(json.dumps({**facts, "default": DEFAULT, "env": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
