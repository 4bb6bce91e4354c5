"""How often the verdicts of `python -m eval` err: `python benchmarks/aa.py [--run runs/NAME] [--runs 200]`.

Its whole decision code (eval/run.py: compare) judges outcomes that are drawn from known probabilities. These
come from the base of a finished run (of each item the share that the right choice got, else the accuracy of
its template), or from a made-up suite of 5 tasks with 42 templates and 300 items each, whose items resemble
the others of their template.

Every draw takes new items of each template, and either new templates (what the bootstrap believes: a gap
shall hold for templates like these) or the same ones (a gap of these templates; where templates differ the
intervals are then wider than they need be). Pairs of models: "apart" err independently of each other,
"alike" mostly on the same items, "uneven" are alike but one is better on some templates and worse on others.

A/A: the true gap of the mean is 0. Then at most 5 % of the draws may give a 95 % interval of a suite without
0, a task with Holm p < 0.05, or a refuted claim. True gap = margin: at most 5 % shown, at most 5 % refuted.
True gap 3 points: at most 5 % shown at a margin of 2, and the 95 % interval lies above 0 as often as stated:
stats.power_of for as many independent items as these templates are worth, computed before any draw.
PASS: the 95 % Wilson interval of the measured rate reaches down to the stated error (an error), or up to
the stated power. Exit code 1 if anything fails.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import numpy as np

from benchmarks.populations import SHARED, Suite, draw, made_up, planted, stated_power, suites_of
from eval.run import compare
from fastpath.cli import guarded
from fastpath.config import EvalConfig
from fastpath.stats import wilson

MARGIN, DROP, ERROR = 0.02, 0.03, 0.05


def verdicts(
    suites: Mapping[str, Suite], *, kind: str, new: bool, runs: int, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """What `python -m eval` says of each of `runs` draws."""
    random = np.random.default_rng(seed)
    config = EvalConfig(margin=MARGIN)
    for number in range(runs):
        outcomes: dict[str, Any] = {"base": {}, "fast": {}}
        for name, suite in suites.items():
            drawn = {task: draw(suite[task], random, shared=SHARED[kind], new=new) for task in suite}
            outcomes["base"][name] = {task: base for task, (base, _) in drawn.items()}
            outcomes["fast"][name] = {task: fast for task, (_, fast) in drawn.items()}
        yield compare(outcomes, "fast", config, seed=number)


@dataclass(frozen=True)
class Check:
    """How often something was said, beside how often it may (an error) or should (power) be said."""

    models: str
    true_gap: float
    templates: str
    what: str
    rate: float
    low: float
    high: float
    stated: float
    passed: bool


def checks(suites: Mapping[str, Suite], *, gap: float, kind: str, new: bool, runs: int) -> list[Check]:
    """All that is claimed of one pair of models with this true gap of the simple suite."""
    made = {name: planted(suite, gap, kind) for name, suite in suites.items()}
    said = list(verdicts(made, kind=kind, new=new, runs=runs))
    counts: dict[str, tuple[int, float]] = {}
    if not gap:
        for name in made:
            counts[f"{name}: interval without 0"] = sum(map(_off_zero, (v[name] for v in said))), ERROR
            counts[f"{name}: some Holm p < 0.05"] = sum(map(_some_holm, (v[name] for v in said))), ERROR
    for verdict in ("shown", "refuted") if gap == MARGIN else ("shown",) if gap else ("refuted",):
        counts[f"claim {verdict}"] = sum(v["claim"]["verdict"] == verdict for v in said), ERROR
    if gap > MARGIN:
        found = sum(v["simple"]["means"]["likelihood"]["gap_low"] > 0 for v in said)
        counts["interval above 0"] = found, stated_power(made["simple"], kind)[0]
    results = []
    for what, (count, stated) in counts.items():
        ends = wilson(count, runs)
        passed = ends.high >= stated if what == "interval above 0" else ends.low <= stated
        which = "new" if new else "same"
        results.append(Check(kind, gap, which, what, count / runs, ends.low, ends.high, stated, passed))
    return results


def _off_zero(suite: Mapping[str, Any]) -> bool:
    mean = suite["means"].get("likelihood")  # None: at chance everywhere
    return mean is not None and (mean["gap_low"] > 0 or mean["gap_high"] < 0)


def _some_holm(suite: Mapping[str, Any]) -> bool:
    return any(task.get("holm_p", 1) < 0.05 for task in suite["tasks"].values())


def report(suites: dict[str, Suite], runs: int) -> list[Check]:
    """Every check, printed as it is done."""
    for kind in SHARED:
        power, discordance = stated_power(planted(suites["simple"], DROP, kind), kind)
        print(f"{kind}: {discordance:.1%} of simple items differ; power at {DROP:.0%}: {power:.1%}")
    print(f"\n{'models':8}{'gap':>5}  {'templates':11}{'what':34}{'rate':>7}  {'95 %':15}{'stated':>8}")
    all_checks = []
    simple = {"simple": suites["simple"]}
    cases = [(suites, 0.0, new) for new in (True, False)] + [(simple, MARGIN, True), (simple, DROP, True)]
    for used, gap, new in cases:
        for kind in SHARED:
            for c in checks(used, gap=gap, kind=kind, new=new, runs=runs):
                all_checks.append(c)
                print(
                    f"{c.models:8}{c.true_gap:5.0%}  {c.templates:11}{c.what:34}{c.rate:7.1%}  "
                    f"{f'{c.low:.1%} to {c.high:.1%}':15}{c.stated:8.1%}  {'' if c.passed else 'FAIL'}",
                    flush=True,
                )
    return all_checks


def main() -> int:
    """Print the table and one JSON line; 1 if a check fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, help="folder of a finished run; else a made-up suite")
    parser.add_argument("--runs", type=int, default=200, help="draws of each pair of models")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs: at least 1")
    done: list[Check] = []

    def work() -> None:
        suites = suites_of(options.run) if options.run else {"simple": made_up()}
        done.extend(report(suites, options.runs))
        failed = sum(not c.passed for c in done)
        facts = {"source": str(options.run or "made up"), "runs": options.runs, "num_checks": len(done)}
        print(json.dumps({**facts, "num_failed": failed, "checks": [asdict(c) for c in done]}))

    return guarded(work) or int(not all(c.passed for c in done))


if __name__ == "__main__":
    sys.exit(main())
