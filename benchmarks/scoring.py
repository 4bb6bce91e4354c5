"""How much faster blocks are scored than the naive way: `python benchmarks/scoring.py`.

On SmolLM2-135M-Instruct and on a 16-block model made on the spot, both sides in alternation on the same
batches without a cache: a table of ratios of medians, and one JSON line with the worse model of each.

naive: a whole forward for every drop set, its blocks skipped by a hook, logits at every position.
naive, our head: the same with the head at the answer positions only, as fastpath/nll.py does it.
limit: the ratio of the floating point operations of both sides, counted by torch as they run. The claim is
about the suffixes, so about both sides with our head; the naive head is told beside it.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import numpy as np
import torch

from benchmarks.scoring_sides import (
    alternate,
    flops,
    items_of,
    lean_nats,
    made_up,
    naive_gains,
    naive_nats,
    num_answer_tokens,
)  # fmt: skip
from fastpath.ablations import Ablations
from fastpath.cli import guarded
from fastpath.data import Batch, item_batches
from fastpath.env import describe_environment, peak_bytes, reset_peak_bytes, used_bytes
from fastpath.models import load_model, load_tokenizer
from fastpath.sources import locate
from prune.criteria import CRITERIA
from prune.race import Objective
from prune.search import Drop, greedy

EMBEDDED = "embedded:smollm2-135m-instruct"
ONE_PASS = ("cosine", "norm_ratio", "angular")
BATCH_TOKENS = 256
BUDGET = 2**28
"""Bytes of streams that may be held."""


def ablation(model: Any, batches: list[Batch], *, repeats: int) -> dict[str, float]:
    """All single blocks: naive, naive with our head, ours. Side by side, one batch at a time."""
    depth, held = len(model.model.layers), []
    drops = [Drop({i}) for i in range(depth)]
    alone = [replace(batch, index=tuple(range(len(batch.index)))) for batch in batches]

    def ours(batches: list[Batch]) -> np.ndarray:
        ablations = Ablations(model, batches, device_bytes=BUDGET)
        gains = ablations.gains(drops)
        held.append(ablations.peak_stream_bytes)
        return gains

    sides: dict[str, Callable[[list[Batch]], np.ndarray]] = {
        "naive": lambda batches: naive_gains(model, batches, drops, naive_nats),
        "lean": lambda batches: naive_gains(model, batches, drops, lean_nats),
        "ours": ours,
    }
    ours(batches)  # warm-up, and its memory
    reset_peak_bytes(model.device)
    before = used_bytes(model.device)
    ours(batches)
    grown = peak_bytes(model.device) - before
    timed = [alternate({k: partial(f, [batch]) for k, f in sides.items()}, repeats) for batch in alone]
    seconds = {side: sum(statistics.median(turns[side]) for turns, _ in timed) for side in sides}
    results = {side: np.concatenate([gains[side] for _, gains in timed], 1) for side in sides}
    cost = {side: gains.sum(1) / num_answer_tokens(batches) for side, gains in results.items()}
    counted = flops(lambda: ours(batches))

    def limit(nats_of: Any) -> float:  # a naive pass is like any other
        return (depth + 1) * flops(lambda: [nats_of(model, batch) for batch in batches]) / counted

    limit_same_head = limit(lean_nats)
    speedup, same_head = seconds["naive"] / seconds["ours"], seconds["lean"] / seconds["ours"]
    return {
        "naive_seconds": seconds["naive"],
        "seconds": seconds["ours"],
        "ablation_speedup": speedup,
        "ablation_over_limit_any_head": speedup / limit(naive_nats),
        "ablation_speedup_same_head": same_head,
        "ablation_flop_limit": limit_same_head,
        "ablation_over_limit": same_head / limit_same_head,
        "ablation_max_abs_diff_nats": float(np.abs(cost["naive"] - cost["ours"]).max()),
        "ablation_max_abs_diff_nats_item": float(np.abs(results["naive"] - results["ours"]).max()),
        "ablation_max_abs_diff_nats_same_head": float(np.abs(results["lean"] - results["ours"]).max()),
        "stream_bytes": max(held),
        "stream_budget_bytes": BUDGET,
        "peak_growth_bytes": grown,
    }


def one_pass(model: Any, batches: list[Batch], *, repeats: int) -> dict[str, float]:
    """The criteria that take one pass beside a bare forward of the blocks."""

    @torch.no_grad()
    def bare() -> None:
        for batch in batches:
            model.base_model(**batch.inputs, use_cache=False)

    def score(name: str) -> None:
        for batch in batches:
            CRITERIA[name].function(model, batch)

    sides = {"bare": bare} | {name: partial(score, name) for name in ONE_PASS}
    alternate(sides, 1)  # warm-up
    seconds, _ = alternate(sides, 8 * repeats + 1)
    # Turn by turn: a machine that slows down meanwhile slows both sides of a turn.
    ratios = {
        f"{name}_over_forward": statistics.median(np.divide(seconds[name], seconds["bare"]))
        for name in ONE_PASS
    }
    return {"onepass_over_forward": max(ratios.values()), **ratios}


def greedy_removal(model: Any, batches: list[Batch]) -> dict[str, Any]:
    """A third of the blocks, one after the other, all others scored again each time.

    Every round on one side, then on the other, and who goes first changes: a machine that slows down for
    minutes slows both. They go on from one drop set as long as both choose the same block.
    """
    depth = len(model.model.layers)
    ablations = Ablations(model, batches, device_bytes=BUDGET, rounds=True)

    def naive(drops: list[Drop], _: int) -> list[float]:
        gains = naive_gains(model, batches, drops, naive_nats)
        return (gains.sum(1) / num_answer_tokens(batches)).tolist()

    sides: dict[str, Any] = {"naive": naive, "ours": Objective([(ablations, 1.0)]).costs}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    chosen: dict[str, list[Drop]] = {side: [] for side in sides}

    def both(drops: list[Drop], num: int) -> list[float]:
        turn = len(seconds["ours"]) % 2
        for side in sorted(sides, reverse=bool(turn)):
            start = time.perf_counter()
            costs = sides[side](drops, num)
            seconds[side].append(time.perf_counter() - start)
            chosen[side].append(min(zip(costs, drops, strict=True), key=lambda pair: pair[0])[1])
        return costs if chosen["ours"][-1] == chosen["naive"][-1] else sides["ours"](drops, num)

    found = greedy(both, range(depth), depth // 3)
    totals = {side: sum(of) for side, of in seconds.items()}
    return {
        "greedy_naive_seconds": totals["naive"],
        "greedy_seconds": totals["ours"],
        "greedy_speedup": totals["naive"] / totals["ours"],
        "greedy_same_plan": chosen["naive"] == chosen["ours"],
        "greedy_drop": list(found[-1].drop),
        "greedy_stream_bytes": ablations.peak_stream_bytes,
    }


def measure(name: str, model: Any, batches: list[Batch], *, repeats: int) -> dict[str, Any]:
    """Every measurement of one model, printed."""
    facts = ablation(model, batches, repeats=repeats)
    facts |= one_pass(model, batches, repeats=repeats) | greedy_removal(model, batches)
    print(f"\n{name}: {len(model.model.layers)} blocks, {sum(b.ids.numel() for b in batches)} tokens")
    rows = [
        ("ablation of all blocks, naive over ours", facts["ablation_speedup"], ">= 1.9"),
        ("  over the limit by counted operations", facts["ablation_over_limit_any_head"], ""),
        ("  naive with our head over ours", facts["ablation_speedup_same_head"], ""),
        ("  limit by counted operations", facts["ablation_flop_limit"], ""),
        ("  over that limit", facts["ablation_over_limit"], ">= 0.85"),
        ("  largest difference of a cost (nats a token)", facts["ablation_max_abs_diff_nats"], "<= 1e-5"),
        ("  of an item (nats)", facts["ablation_max_abs_diff_nats_item"], ""),
        ("  of an item, naive with our head (nats)", facts["ablation_max_abs_diff_nats_same_head"], ""),
        *((f"{name} over a bare forward", facts[f"{name}_over_forward"], "<= 1.10") for name in ONE_PASS),
        ("greedy removal of a third, naive over ours", facts["greedy_speedup"], ">= 3"),
        ("  same plan", facts["greedy_same_plan"], "True"),
        ("streams held by the ablation (MiB)", facts["stream_bytes"] / 2**20, f"<= {BUDGET / 2**20:.0f}"),
        ("streams held by greedy (MiB)", facts["greedy_stream_bytes"] / 2**20, f"<= {BUDGET / 2**20:.0f}"),
        ("peak memory of the ablation beside the model (MiB)", facts["peak_growth_bytes"] / 2**20, ""),
    ]
    for label, value, target in rows:
        print(
            f"  {label:48}{str(value) if isinstance(value, bool) else f'{value:.3g}':>10}  {target}",
            flush=True,
        )
    return facts


def main() -> int:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=2, help="of each of 5 tasks; the small model: 3 times")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    def work() -> None:
        folder = locate(EMBEDDED).folder
        tokenizer = load_tokenizer(folder)
        models = {
            EMBEDDED: (lambda: load_model(folder, dtype=torch.float32), options.items),
            "made up": (lambda: made_up(len(tokenizer)), 3 * options.items),
        }
        facts = {}
        for name, (make, num_items) in models.items():
            batches = item_batches(items_of(num_items), tokenizer, batch_tokens=BATCH_TOKENS)
            facts[name] = measure(name, make(), batches, repeats=options.repeats)
        print(json.dumps({**worst(list(facts.values())), "models": facts, "env": describe_environment()}))

    return guarded(work)


def worst(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The claims, each as it is on the model where it holds least."""
    low = ("ablation_speedup", "ablation_over_limit", "greedy_speedup", "greedy_same_plan")
    high = ("ablation_max_abs_diff_nats", "onepass_over_forward")
    return {key: min(m[key] for m in models) for key in low} | {
        key: max(m[key] for m in models) for key in high
    }


if __name__ == "__main__":
    sys.exit(main())
