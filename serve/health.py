"""Whether every engine really answers."""

import asyncio
import time
from collections.abc import Sequence

from serve.api import CompletionRequest
from serve.engine import Engine
from serve.errors import ApiError
from serve.session import work_of
from serve.tiers import Tier

PROBE_SECONDS = 10.0
FRESH_SECONDS = 1.0  # so long a result is told again: without a key nobody can keep the engines busy
PROBE = work_of(CompletionRequest(model="any", prompt="ready?", max_tokens=1, temperature=0))


class Readiness:
    """One probe at a time, whoever asks however often."""

    def __init__(self) -> None:
        self._probe: asyncio.Task[dict[str, str]] | None = None
        self._ended = 0.0

    async def states(self, tiers: Sequence[Tier]) -> dict[str, str]:
        """What `ready` says, or said within the last FRESH_SECONDS."""
        if self._probe is None or (self._probe.done() and time.monotonic() > self._ended + FRESH_SECONDS):
            self._probe = asyncio.create_task(self._run(tiers))
        return await asyncio.shield(self._probe)

    async def _run(self, tiers: Sequence[Tier]) -> dict[str, str]:
        try:
            return await ready(tiers)
        finally:
            self._ended = time.monotonic()


async def ready(tiers: Sequence[Tier]) -> dict[str, str]:
    """{tier: "ok", or why it is not}: one token from each engine, past the queues."""
    engines: dict[int, tuple[Engine, Tier]] = {}
    for tier in tiers:
        engines.setdefault(id(tier.engine), (tier.engine, tier))
    states = await asyncio.gather(*(_probe(tier) for _, tier in engines.values()))
    state_of = dict(zip(engines, states, strict=True))
    return {tier.name: state_of[id(tier.engine)] for tier in tiers}


async def _probe(tier: Tier) -> str:
    job = PROBE.job(tier)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            tier.engine.submit(job)
            async for _ in tier.engine.stream(job.id):
                pass
    except ApiError as error:
        return error.message
    except TimeoutError:
        return f"no token within {PROBE_SECONDS:g} s"
    finally:
        tier.engine.cancel(job.id)
    return "ok"
