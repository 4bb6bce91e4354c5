"""Start the engines, open the endpoint, drain at SIGTERM."""

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from fastpath.config import Recipe
from fastpath.config_serve import ServeConfig
from fastpath.errors import ConfigError
from serve.auth import load_keys
from serve.connections import server_settings
from serve.engine import Engine
from serve.gateway import Gateway, build_app
from serve.listing import measured_gaps
from serve.metrics import Metrics
from serve.policy_file import with_policy
from serve.tiers import Tier, build_tiers, served_name

LOOK_SECONDS = 0.05  # between looks whether a draining server has become idle

log = logging.getLogger("fastpath")


class Server(uvicorn.Server):
    """uvicorn, but the first SIGTERM or SIGINT drains and a second one ends at once."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, drain_seconds: float) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then say where to ask."""
        await super().startup(sockets)
        assert sockets
        print(json.dumps({"stage": "serve", **facts(sockets[0], self._gateway)}), flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal: not uvicorn's way, which closes the door on requests that should hear 503."""
        if self._gateway.is_draining:
            self.force_exit = self.should_exit = True
        self._gateway.drain()

    async def end_when_idle(self) -> None:
        """Once draining: stop when no request is left, or after the time that they have."""
        while not self._gateway.is_draining:
            await asyncio.sleep(LOOK_SECONDS)
        log.info("draining, at most %g s", self._drain_seconds)
        last = time.monotonic() + self._drain_seconds
        while not self._gateway.is_idle and time.monotonic() < last:
            await asyncio.sleep(LOOK_SECONDS)
        self.should_exit = True


def run(recipe: Recipe) -> None:
    """Serve until told to stop. Raises UserError before anything is opened."""
    asyncio.run(serve(recipe, recipe.serve or ServeConfig()))


async def serve(recipe: Recipe, config: ServeConfig) -> None:
    """Load, listen, answer, drain."""
    config, because = with_policy(config)
    if config.policy_file:
        log.info("%s: %s", config.policy_file, config.policy_facts())
    keys = load_keys(config)
    tiers = build_tiers(recipe, config)
    gaps = measured_gaps(recipe, tiers)
    with listening(config) as door:
        async with started(tiers, warm=config.warm):
            gateway = Gateway(config, served_name(recipe), tiers, keys, gaps, Metrics(), because)
            settings = server_settings(build_app(gateway), config)
            server = Server(settings, gateway, config.drain_seconds)
            watch = asyncio.create_task(server.end_when_idle())
            await server.serve(sockets=[door])
            watch.cancel()


@contextlib.contextmanager
def listening(config: ServeConfig) -> Any:
    """The listening socket: a port that is taken is found before models are loaded. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    door = socket.socket(family)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((config.host, config.port))
            door.listen()  # two sockets may be bound with SO_REUSEADDR, but only one listens
        except OSError as error:
            raise ConfigError(
                f"serve.port: cannot listen on {config.host}:{config.port}: {error.strerror}"
            ) from None
        yield door
    finally:
        door.close()


@contextlib.asynccontextmanager
async def started(tiers: dict[str, Tier], *, warm: str | None = None) -> AsyncIterator[None]:
    """The engines, loaded at once and ended in the end, whatever happens; `warm`: as in ServeConfig."""
    engines: dict[int, Engine] = {id(tier.engine): tier.engine for tier in tiers.values()}
    log.info("loading %s", " and ".join(dict.fromkeys(tier.model for tier in tiers.values())))
    try:
        async with asyncio.TaskGroup() as group:
            for engine in engines.values():
                group.create_task(engine.start())
        for name, tier in tiers.items():
            if warm and tier.config.url:
                log.info("%s: serve.warm is for engines here; %s is not warmed", name, tier.config.url)
            log.info("%s: %s, %d tokens; %s", name, tier.model, tier.context_tokens, _prefill(tier))
            if tier.context_tokens < tier.config.context_tokens:
                log.info("%s: the model or serve.cache_gib holds no more of the %d asked for", name,
                         tier.config.context_tokens)  # fmt: skip
        yield
    except* Exception as errors:
        raise errors.exceptions[0] from None
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines.values()))


def _prefill(tier: Tier) -> str:
    """What was measured of the engine's reading of prompts."""
    tokens = tier.engine.stats().get("batch_tokens")
    return f"prompts share a step up to {tokens} tokens" if tokens else "prompts are batched at its url"


def facts(door: socket.socket, gateway: Gateway) -> dict[str, Any]:
    """What the line that says "ready" tells."""
    config = gateway.config
    host = f"[{config.host}]" if ":" in config.host else config.host
    return {
        "url": f"http://{host}:{door.getsockname()[1]}/v1",
        "model": gateway.model,
        "tiers": {name: Path(tier.model).name for name, tier in gateway.tiers.items()},
        "default_tier": config.default_tier,
    }
