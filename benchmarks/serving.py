"""What serving in tiers gains: `python benchmarks/serving.py`. One run, each pair of sides in alternation.

(a) time to first token (TTFT) of fast and of standard while a deep prompt is read, over idle; at most 1.5
times idle for fast, 3 times idle and one chunk for standard; beside it the same of standard with
transformers' own first-come scheduler. (b) TTFT of 12 requests at once that share 1,500 tokens: prefix cache
and order on, against off. (c) what the gateway adds to a call of the engine. (d) load: requests at twice the
rate that can be sustained; each is answered once, with 200, 429 or 504.
(a) and (b) on SmolLM2-135M-Instruct (fast: 20 of its 30 blocks), (a) also with a prompt of 20,000 tokens on a
small model made on the spot, (c) and (d) on a tiny one.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

from benchmarks.serving_models import made_up, pruned
from benchmarks.serving_parts import (
    Endpoint,
    answer_direct,
    burst,
    endpoint,
    engine_of,
    first_token,
    prompt,
    sustainable_rate,
)
from fastpath.cli import guarded
from fastpath.env import describe_environment

EMBEDDED = "embedded:smollm2-135m-instruct"
TRIALS = 10  # of each tier in a round; one where a trial waits for the whole deep prompt
SHARED_TOKENS, OWN_TOKENS, TOGETHER = 1500, 24, 12


def p95(values: Sequence[float]) -> float:
    """The 95th percentile; of few values nearly the largest."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


async def beside_deep(
    place: Endpoint, rounds: int, deep_tokens: int, *, trials: int = TRIALS
) -> dict[str, Any]:
    """(a): TTFT in seconds of short requests, idle and while a deep prompt is read, in turn."""
    seen: dict[str, dict[str, list[float]]] = {
        tier: {"idle": [], "beside": []} for tier in ("fast", "standard")
    }
    for number in range(rounds):
        for side in ("idle", "beside"):
            deep = None
            if side == "beside":
                asked = place.ask("deep", prompt(deep_tokens, seed=number), new_tokens=1)
                deep = asyncio.create_task(asked)
                await asyncio.sleep(1.0)
            for trial in range(trials):
                for tier in seen:
                    text = prompt(30, seed=(number, side, trial))
                    seen[tier][side].append(await first_token(place, tier, text))
            if deep:
                assert trials == 1 or not deep.done(), "the deep prompt should be longer"
                deep.cancel()
                await place.idle()
    facts: dict[str, Any] = {"deep_tokens": deep_tokens, "step_seconds": place.step_seconds}
    for tier, sides in seen.items():
        idle, beside = p95(sides["idle"]), p95(sides["beside"])
        limit = 1.5 * idle if tier == "fast" else 3 * idle + place.step_seconds
        facts[f"{tier}_ttft_p95_over_idle"] = round(beside / idle, 2)
        facts[f"{tier}_limit_seconds"] = round(limit, 3)
        facts[f"{tier}_within_limit"] = beside <= limit
        for side, values in sides.items():
            facts[f"{tier}_{side}_p50_seconds"] = round(statistics.median(values), 3)
            facts[f"{tier}_{side}_p95_seconds"] = round(p95(values), 3)
    return facts


async def shared_prefix(model: str, rounds: int) -> dict[str, Any]:
    """(b): median TTFT of requests at once with the same beginning; cache and order on, and off."""
    sides = {
        "on": await engine_of(model),
        "off": await engine_of(model, prefix_cache=False, scheduler="fifo"),
    }
    seen: dict[str, list[float]] = {side: [] for side in sides}
    try:
        for number in range(rounds):
            beginning = prompt(SHARED_TOKENS, seed=("shared", number))
            for side, engine in sides.items():
                prompts = [beginning + prompt(OWN_TOKENS, seed=n) for n in range(TOGETHER)]
                seen[side] += await asyncio.gather(*(answer_direct(engine, tokens) for tokens in prompts))
    finally:
        for engine in sides.values():
            await engine.stop()
    medians = {side: statistics.median(values) for side, values in seen.items()}
    return {
        "prefix_ttft_median_change": round(medians["on"] / medians["off"] - 1, 3),
        **{f"prefix_{side}_median_seconds": round(value, 3) for side, value in medians.items()},
    }


async def overhead(place: Endpoint, trials: int) -> float:
    """(c): milliseconds that a call through the gateway takes longer than one of its engine (medians)."""
    through, direct = [], []
    engine = place.gateway.tiers["standard"].engine
    for trial in range(trials):
        through.append(await first_token(place, "standard", prompt(30, seed=("through", trial))))
        direct.append(await answer_direct(engine, prompt(30, seed=("direct", trial))))
    return 1000 * (statistics.median(through) - statistics.median(direct))


async def load(place: Endpoint, num_requests: int) -> dict[str, Any]:
    """(d): requests at twice the sustainable rate."""
    rate = await sustainable_rate(place)
    return {"requests_per_second": round(2 * rate, 1), **await burst(place, num_requests, rate=2 * rate)}


async def said(name: str, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The facts of one part, told as soon as they are known."""
    facts = await work
    print(name, json.dumps(facts), file=sys.stderr, flush=True)
    return facts


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All four, one after the other."""
    fast = pruned(EMBEDDED, folder / "pruned")
    async with endpoint(folder, EMBEDDED, fast) as place:
        embedded = await said("embedded", beside_deep(place, arguments.rounds, arguments.deep_tokens))
    async with endpoint(folder, EMBEDDED, fast, scheduler="fifo") as place:
        fifo = await said("fifo", beside_deep(place, 1, arguments.deep_tokens, trials=1))
    long, short = made_up(folder / "long", depth=4), made_up(folder / "short", depth=2)
    async with endpoint(folder, str(long), str(short), context_tokens=32768) as place:
        lengthy = await said("lengthy", beside_deep(place, arguments.rounds, arguments.long_tokens))
    prefix = await said("prefix", shared_prefix(EMBEDDED, arguments.rounds))
    async with endpoint(folder, str(short), str(short), deadline_seconds=20.0) as place:
        gateway_ms = await overhead(place, 60)
        loaded = await load(place, arguments.requests)
    return {
        "fast_ttft_p95_over_idle": embedded["fast_ttft_p95_over_idle"],
        "standard_ttft_p95_over_idle": embedded["standard_ttft_p95_over_idle"],
        **prefix,
        "gateway_overhead_ms": round(gateway_ms, 2),
        "load": loaded,
        "embedded": embedded,
        "embedded_first_come": fifo,
        "made_up_long": lengthy,
    }


def main() -> int:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deep-tokens", type=int, default=7000)
    parser.add_argument("--long-tokens", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=1000)
    arguments = parser.parse_args()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            facts = asyncio.run(measure(arguments, Path(folder)))
        for name, value in facts.items():
            print(f"{name:32} {value}")
        print(json.dumps({**facts, "environment": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(code)
