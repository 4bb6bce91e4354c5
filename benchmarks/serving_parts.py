"""A gateway in this process with its engines in theirs, and clients that time it."""

import asyncio
import json
import os
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from fastpath.config_serve import ServeConfig
from fastpath.recipe_file import build_recipe
from serve.api import CompletionRequest
from serve.auth import Keyring
from serve.connections import server_settings
from serve.engine import Engine
from serve.gateway import Gateway, build_app
from serve.metrics import Metrics
from serve.run import started
from serve.session import work_of
from serve.tiers import Tier, build_tiers, spec_of
from serve.transformers_engine import TransformersEngine

NEW_TOKENS = 8  # of a request of the load


def prompt(num_tokens: int, *, seed: Any) -> list[int]:
    """Token ids that are bytes in every vocabulary here; no two seeds begin alike."""
    pick = random.Random(str(seed))
    return [pick.randrange(10, 250) for _ in range(num_tokens)]


class Endpoint:
    """A running gateway and a client of it."""

    def __init__(self, gateway: Gateway, client: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.client = client
        self.step_seconds = gateway.config.step_seconds

    async def ask(self, tier: str, tokens: list[int], *, new_tokens: int) -> httpx.Response:
        """A whole answer."""
        return await self.client.post("/v1/completions", json=self._body(tier, tokens, new_tokens))

    async def idle(self) -> None:
        """Wait until nothing runs."""
        while not self.gateway.is_idle:
            await asyncio.sleep(0.01)

    def _body(self, tier: str, tokens: list[int], new_tokens: int, *, stream: bool = False) -> dict[str, Any]:
        asked = {"max_tokens": new_tokens, "temperature": 0, "stream": stream}
        return {"model": self.gateway.model, "prompt": tokens, "service_tier": tier, **asked}


async def first_token(place: Endpoint, tier: str, tokens: list[int]) -> float:
    """Seconds until a streamed answer begins.

    Of one token: the text of a first token may be half a character, and then waits for the second one's step.
    """
    start = time.perf_counter()
    body = place._body(tier, tokens, 1, stream=True)
    async with place.client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                return time.perf_counter() - start
    raise AssertionError("an answer without a token")


async def answer_direct(engine: Engine, tokens: list[int]) -> float:
    """Seconds to the first piece of an answer, asked of the engine itself."""
    start = time.perf_counter()
    asked = CompletionRequest(model="any", prompt=tokens, max_tokens=1, temperature=0)
    config = ServeConfig().standard
    job = work_of(asked).job(Tier("standard", 1, config, "", None, engine))  # type: ignore[arg-type]
    engine.submit(job)
    seconds = 0.0
    async for _ in engine.stream(job.id):
        seconds = seconds or time.perf_counter() - start
    return seconds


async def engine_of(model: str, **changes: Any) -> TransformersEngine:
    """A started engine of the tier standard."""
    recipe = build_recipe({"out": "unused", "model": {"name": model}, "serve": {"tiers": ["standard"]}})
    assert recipe.serve
    spec = {**spec_of(recipe, recipe.serve, model, ["standard"], threads=1), "warm": [], **changes}
    engine = TransformersEngine("standard", spec)
    await engine.start()
    return engine


@asynccontextmanager
async def endpoint(
    folder: Path,
    model: str,
    fast: str,
    *,
    scheduler: str = "tiers",
    context_tokens: int = 8192,
    deadline_seconds: float = 600.0,
) -> AsyncIterator[Endpoint]:
    """Three tiers on their engines behind a real socket."""
    limits = {"running": 8, "queue": 32, "context_tokens": context_tokens}
    section = {
        "fast": {"model": fast, **limits},
        "standard": {**limits, "deadline_seconds": deadline_seconds},
        "deep": {**limits, "running": 1, "default_new_tokens": 16, "max_new_tokens": 64},
    }
    recipe = build_recipe({"out": str(folder), "model": {"name": model}, "serve": section})
    assert recipe.serve

    def make(name: str, spec: dict[str, Any]) -> Engine:
        return TransformersEngine(name, {**spec, "scheduler": scheduler})

    tiers = build_tiers(recipe, recipe.serve, make)
    async with started(tiers):
        gateway = Gateway(recipe.serve, "bench", tiers, Keyring([]), {}, Metrics())
        door = socket.socket()
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(server_settings(build_app(gateway), gateway.config))
        serving = asyncio.create_task(server.serve(sockets=[door]))
        while not server.started:
            await asyncio.sleep(0.01)
        limits_of = httpx.Limits(max_connections=None)
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits_of) as client:
            yield Endpoint(gateway, client)
        server.should_exit = True
        await serving


async def sustainable_rate(place: Endpoint, num_requests: int = 200) -> float:
    """Requests a second when the engine always has as many as may run, and the next ones wait."""
    config = place.gateway.tiers["standard"].config
    gate = asyncio.Semaphore(config.running + config.queue // 2)

    async def one(number: int) -> None:
        async with gate:
            await place.ask("standard", prompt(30, seed=("rate", number)), new_tokens=NEW_TOKENS)

    start = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(num_requests)))
    return num_requests / (time.perf_counter() - start)


async def burst(place: Endpoint, num_requests: int, *, rate: float) -> dict[str, Any]:
    """Requests at a steady rate, whether or not the earlier ones are answered; what became of them."""
    queue = place.gateway.tiers["standard"].queue
    most = {"running": 0, "waiting": 0}
    statuses: Counter[int] = Counter()
    answers: Counter[str] = Counter()
    before = memory_mib(place.gateway)

    async def one(number: int) -> None:
        response = await place.ask("standard", prompt(30, seed=("load", number)), new_tokens=NEW_TOKENS)
        statuses[response.status_code] += 1
        if response.status_code == 200:
            answers[json.loads(response.text)["id"]] += 1

    tasks = []
    start = time.perf_counter()
    for number in range(num_requests):
        early = start + number / rate - time.perf_counter()
        if early > 0:  # those that are due come at once, however busy this process is
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(one(number)))
        most = {"running": max(most["running"], queue.running), "waiting": max(most["waiting"], queue.depth)}
    await asyncio.gather(*tasks, return_exceptions=True)
    known = {200: "ok", 429: "queue_full", 504: "deadline"}
    return {
        "sent": num_requests,
        **{word: statuses[status] for status, word in known.items()},
        "lost": num_requests - sum(statuses[status] for status in known),
        "answered_twice": sum(times > 1 for times in answers.values()),
        "most_running": most["running"],
        "most_waiting": most["waiting"],
        "limits": [queue.config.running, queue.config.queue],
        "memory_growth_mib": round(memory_mib(place.gateway) - before, 1),
    }


def memory_mib(gateway: Gateway) -> float:
    """Resident memory of this process and its engines."""
    pids = {os.getpid(), *(tier.engine.stats()["pid"] for tier in gateway.tiers.values())}
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
