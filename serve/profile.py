"""python -m serve.profile --config RECIPE --prompts prompts.jsonl: which of your requests could go fast.

Each line is a request (messages, tools or prompt) with, if you like, `class` and `answer`. Every request is
answered by fast and by standard in turn, one at a time, at temperature 0. With `costs:` in the recipe the
table tells dollars too: by the tokens where both tiers have a price for them, else by the engine's time.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from fastpath.cli import console, guarded
from fastpath.config import Recipe
from fastpath.config_costs import CostsConfig
from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError, UserError
from fastpath.jsonl import read_jsonl
from fastpath.recipe_file import load_recipe
from fastpath.stats import tango, wilson
from serve import api
from serve.errors import ApiError, BadRequest
from serve.run import started
from serve.session import Work, work_of
from serve.tiers import Tier, build_tiers

SIDES = ("fast", "standard")
MARGIN = 0.02  # points of accuracy, or of disagreement, that still count as none


@dataclass(frozen=True)
class Asked:
    """One request of the file."""

    work: Work
    kind: str
    """Its class."""
    answer: str | None
    """What is right, if the file says so."""


@dataclass(frozen=True)
class Reply:
    """What one tier answered, and when."""

    text: str
    first_seconds: float
    seconds: float
    tokens: int
    """Of prompt and answer."""


def read_requests(path: Path, new_tokens: int) -> list[Asked]:
    """The requests of JSON lines. Raises UserError naming the line."""
    asked = []
    for where, row in read_jsonl(path, key="prompts"):
        kind, answer = row.pop("class", "all"), row.pop("answer", None)
        if not isinstance(kind, str) or not isinstance(answer, str | None):
            raise UserError(f"{where}: class and answer should be texts")
        try:
            request = api.request_of({"max_tokens": new_tokens, **row}, temperature=0)
        except BadRequest as error:
            raise UserError(f"{where}: {error}") from None
        asked.append(Asked(work_of(request), kind, answer))
    return asked


async def reply_of(tier: Tier, asked: Asked) -> Reply:
    """One answer, timed. Raises ApiError."""
    job = asked.work.job(tier)
    start = time.perf_counter()
    tier.engine.submit(job)
    parts, first, tokens = [], None, 0
    async with aclosing(tier.engine.stream(job.id)) as pieces:
        async for piece in pieces:
            first = first or time.perf_counter() - start
            parts.append(piece.text)
            tokens += piece.prompt_tokens + piece.new_tokens
    return Reply("".join(parts), first or 0.0, time.perf_counter() - start, tokens)


async def replies(tiers: dict[str, Tier], requests: Sequence[Asked]) -> list[dict[str, Reply]]:
    """Of each request the reply of both tiers; who goes first alternates."""
    both = []
    for number, asked in enumerate(requests):
        order = SIDES if number % 2 else SIDES[::-1]
        try:
            both.append({side: await reply_of(tiers[side], asked) for side in order})
        except ApiError as error:
            raise UserError(f"request {number + 1}: {error.message}") from None
    return both


def words(text: str) -> list[str]:
    """What two answers must have in common to be the same: their words."""
    return re.findall(r"\w+", text.casefold())


def is_right(reply: str, answer: str) -> bool:
    """Whether a reply begins with the words of the answer."""
    return words(reply)[: len(words(answer))] == words(answer)


def dollars(side: str, reply: Reply, costs: CostsConfig) -> float:
    """The price of a reply: of its tokens if both tiers have one, else of the machine while it computed."""
    prices = costs.dollars_per_million_tokens
    standard = prices.get("standard", prices.get("base"))
    if standard is not None and "fast" in prices:
        return (standard if side == "standard" else prices["fast"]) * reply.tokens / 1e6
    return costs.dollars_per_machine_hour * reply.seconds / 3600


def class_facts(
    requests: Sequence[Asked], both: Sequence[dict[str, Reply]], costs: CostsConfig | None = None
) -> dict[str, Any]:
    """Latency, agreement and, where these are known, accuracy and dollars of one class."""
    n = len(requests)
    same = sum(words(pair["fast"].text) == words(pair["standard"].text) for pair in both)
    agreement = wilson(same, n)
    facts: dict[str, Any] = {"requests": n, "agreement": round(same / n, 4)}
    facts["agreement_low"], facts["agreement_high"] = round(agreement.low, 4), round(agreement.high, 4)
    for side in SIDES:
        facts[f"{side}_ttft_p50_seconds"] = round(statistics.median(p[side].first_seconds for p in both), 4)
        facts[f"{side}_p50_seconds"] = round(statistics.median(p[side].seconds for p in both), 4)
    saved = sum(pair["standard"].seconds - pair["fast"].seconds for pair in both)
    facts["engine_seconds_saved_per_1000"] = round(1000 * saved / n, 2)
    if costs:
        spent = {side: sum(dollars(side, pair[side], costs) for pair in both) for side in SIDES}
        facts["dollars_saved_per_1000"] = round(1000 * (spent["standard"] - spent["fast"]) / n, 4)
    loses_nothing = 1 - agreement.low <= MARGIN
    known = [
        (asked.answer, pair) for asked, pair in zip(requests, both, strict=True) if asked.answer is not None
    ]
    if known:
        right = {side: [is_right(pair[side].text, answer) for answer, pair in known] for side in SIDES}
        outcomes = list(zip(right["standard"], right["fast"], strict=True))
        gap = tango(outcomes.count((True, False)), outcomes.count((False, True)), len(known))
        facts |= {f"{side}_accuracy": round(sum(right[side]) / len(known), 4) for side in SIDES}
        facts |= {"gap_low": round(gap.low, 4), "gap_high": round(gap.high, 4)}
        loses_nothing = gap.high <= MARGIN
    return {**facts, "could_go_fast": loses_nothing and saved > 0}


def profile(recipe: Recipe, path: Path, new_tokens: int) -> dict[str, Any]:
    """Class -> its facts. Raises UserError."""
    requests = read_requests(path, new_tokens)
    config = (recipe.serve or ServeConfig()).model_copy(update={"tiers": SIDES})
    tiers = build_tiers(recipe, config)
    if tiers["fast"].model == tiers["standard"].model:
        raise ConfigError("serve.fast.model: fast and standard are the same model: nothing to compare")

    async def measured() -> list[dict[str, Reply]]:
        async with started(tiers):
            return await replies(tiers, requests)

    both = asyncio.run(measured())
    kinds = dict.fromkeys(asked.kind for asked in requests)
    chosen = {kind: [n for n, asked in enumerate(requests) if asked.kind == kind] for kind in kinds}
    return {
        kind: class_facts([requests[n] for n in numbers], [both[n] for n in numbers], recipe.costs)
        for kind, numbers in chosen.items()
    }


def table_of(facts: dict[str, Any]) -> Table:
    """A row a class."""
    columns = ["class", "requests", "agreement", "accuracy fast / standard", "time fast / standard"]
    columns += ["seconds saved per 1,000"]
    is_priced = any("dollars_saved_per_1000" in row for row in facts.values())
    table = Table(*columns, *(["dollars saved per 1,000"] if is_priced else []), "go fast?")
    for kind, row in facts.items():
        accuracy = (
            f"{row['fast_accuracy']:.0%} / {row['standard_accuracy']:.0%}" if "fast_accuracy" in row else ""
        )
        agreement = f"{row['agreement']:.0%} [{row['agreement_low']:.0%}, {row['agreement_high']:.0%}]"
        times = f"{row['fast_p50_seconds']:.2f} / {row['standard_p50_seconds']:.2f} s"
        table.add_row(
            kind,
            str(row["requests"]),
            agreement,
            accuracy,
            times,
            f"{row['engine_seconds_saved_per_1000']:,.0f}",
            *([f"{row['dollars_saved_per_1000']:,.2f}"] if is_priced else []),
            "yes" if row["could_go_fast"] else "not shown",
        )
    return table


def main() -> int:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m serve.profile", description="Which requests could go fast."
    )
    parser.add_argument("--config", required=True, help="recipe file")
    parser.add_argument("--prompts", required=True, type=Path, help="JSON lines of requests")
    parser.add_argument("--max-tokens", type=int, default=64, help="of requests that say nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    def work() -> None:
        recipe = load_recipe(arguments.config, arguments.overrides)
        facts = profile(recipe, arguments.prompts, arguments.max_tokens)
        console().print(table_of(facts))
        print(json.dumps({"stage": "serve.profile", "margin": MARGIN, "classes": facts}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
