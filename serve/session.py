"""One request on its way: a place in the queue, an answer, an end at the deadline or when nobody listens."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from serve.api import Request
from serve.engine import Job, Piece
from serve.errors import ApiError, DeadlinePassed, EngineDown, QueueFull
from serve.metrics import Metrics
from serve.tiers import Tier

log = logging.getLogger("fastpath")


@dataclass(frozen=True)
class Work:
    """What is asked of an engine, before a tier has taken it."""

    messages: list[dict[str, Any]] | None
    prompt: str | list[int] | None
    tools: list[dict[str, Any]] | None
    new_tokens: int | None
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    logprobs: bool
    prompt_bytes: int

    def job(self, tier: Tier) -> Job:
        """The job for one tier's engine."""
        return Job(
            id=uuid.uuid4().hex,
            tier=tier.name,
            rank=tier.rank,
            messages=self.messages,
            prompt=self.prompt,
            tools=self.tools,
            new_tokens=self.new_tokens,
            default_new_tokens=min(tier.config.default_new_tokens, tier.max_new_tokens),
            context_tokens=tier.context_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=self.stop,
            logprobs=self.logprobs,
        )

    def tokens(self, tier: Tier) -> int:
        """Tokens of prompt and answer, estimated before anything is tokenised."""
        return self.prompt_bytes // 4 + (self.new_tokens or tier.config.default_new_tokens)


def work_of(asked: Request) -> Work:
    """A request as engines take it."""
    return Work(
        messages=asked.plain_messages(),
        prompt=asked.plain_prompt(),
        tools=asked.plain_tools(),
        new_tokens=asked.new_tokens(),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        stop=asked.stops(),
        logprobs=asked.wants_logprobs(),
        prompt_bytes=asked.prompt_bytes(),
    )


class Session:
    """The work of one request in a task of its own, which ends when the session is closed."""

    def __init__(
        self,
        work: Work,
        tiers: Sequence[Tier],
        metrics: Metrics,
        *,
        deadline_seconds: float | None,
        is_admitted: bool = False,
    ) -> None:
        """`tiers`: the one asked for, then those that may stand in for it. `is_admitted`: as in queues.py."""
        self.id = uuid.uuid4().hex
        self.tier = tiers[0]
        """The tier that answers; settled once the first piece is there."""
        self._work = work
        self._tiers = tiers
        self._metrics = metrics
        self._arrival = time.monotonic()
        self._has_begun = False
        self._is_admitted = is_admitted
        limit = self.tier.config.deadline_seconds
        self._seconds = limit if deadline_seconds is None else min(limit, deadline_seconds)
        self._pieces: asyncio.Queue[Piece | ApiError] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    @property
    def remaining_seconds(self) -> float:
        """Time until the deadline."""
        return max(0.0, self._arrival + self._seconds - time.monotonic())

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The answer. Raises ApiError."""
        try:
            while True:
                piece = await self._pieces.get()
                if isinstance(piece, ApiError):
                    raise piece
                yield piece
                if piece.reason:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """Stop the work, if there is any left."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._try_tiers()
        except TimeoutError:
            self._pieces.put_nowait(DeadlinePassed(f"not done within {self._seconds:g} s"))
        except ApiError as error:
            self._pieces.put_nowait(error)
        except Exception:
            log.exception("a request failed in the gateway")
            self._pieces.put_nowait(ApiError("the server failed on this request"))

    async def _try_tiers(self) -> None:
        for tier in self._tiers[:-1]:
            try:
                return await self._answer(tier)
            except (QueueFull, EngineDown) as error:
                if self._has_begun:
                    raise
                self._metrics.rejections.labels(tier.name, error.code).inc()
        return await self._answer(self._tiers[-1])

    async def _answer(self, tier: Tier) -> None:
        self.tier = tier
        async with tier.queue.place(self._work.tokens(tier), is_admitted=self._is_admitted):
            self._metrics.queue_time.labels(tier.name).observe(time.monotonic() - self._arrival)
            job = self._work.job(tier)
            tier.engine.submit(job)
            try:
                async with aclosing(tier.engine.stream(job.id)) as pieces:
                    async for piece in pieces:
                        self._observe(tier, piece)
                        self._pieces.put_nowait(piece)
            finally:
                tier.engine.cancel(job.id)

    def _observe(self, tier: Tier, piece: Piece) -> None:
        since = time.monotonic() - self._arrival
        if not self._has_begun:
            self._has_begun = True
            self._metrics.first(tier.name, since)
        if piece.reason:
            self._metrics.last(tier.name, since, piece)
