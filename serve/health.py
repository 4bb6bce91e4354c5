"""Whether every engine really answers."""

import asyncio
from collections.abc import Sequence

from serve.api import CompletionRequest
from serve.engine import Engine
from serve.errors import ApiError
from serve.session import work_of
from serve.tiers import Tier

PROBE_SECONDS = 10.0
PROBE = work_of(CompletionRequest(model="any", prompt="ready?", max_tokens=1, temperature=0))


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
