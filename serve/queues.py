"""A queue a tier: so many run, so many wait, one more is refused at once."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastpath.config_serve import TierConfig
from serve.errors import Draining, QueueFull

FIRST_GUESS_SECONDS = 1.0  # of a request, before one has been timed
WEIGHT = 0.2  # of the newest request in the running mean


@dataclass(eq=False)
class _Waiting:
    turn: asyncio.Future[None]
    tokens: int


class TierQueue:
    """Places in one tier, first come, first served. For one event loop."""

    def __init__(self, name: str, config: TierConfig) -> None:
        self.name = name
        self.config = config
        self.running = 0
        self.is_draining = False
        self._waiting: deque[_Waiting] = deque()
        self._mean_seconds = FIRST_GUESS_SECONDS

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def retry_seconds(self) -> float:
        """When a place should be free for one who comes again."""
        return self._mean_seconds * (self.depth + 1) / self.config.running

    @asynccontextmanager
    async def place(self, tokens: int, *, is_admitted: bool = False) -> AsyncIterator[None]:
        """Hold a running place inside the block, waiting for it first.

        `tokens`: prompt and answer, estimated. `is_admitted`: it belongs to a request that was taken before,
        and draining does not refuse it. Raises QueueFull or Draining at once; who is cancelled
        while waiting leaves the queue.
        """
        if self.is_draining and not is_admitted:
            raise Draining("the server is stopping", retry_seconds=5.0)
        await self._enter(tokens)
        start = time.monotonic()
        try:
            yield
        finally:
            self._mean_seconds += WEIGHT * (time.monotonic() - start - self._mean_seconds)
            self._leave()

    async def _enter(self, tokens: int) -> None:
        if self.running < self.config.running:  # then nobody waits
            self.running += 1
            return
        waiting_tokens = sum(waiter.tokens for waiter in self._waiting)
        if self.depth >= self.config.queue:
            raise self._full(f"{self.config.queue} requests wait")
        if self._waiting and waiting_tokens + tokens > self.config.queue_tokens:
            raise self._full(f"about {waiting_tokens} tokens wait, the limit is {self.config.queue_tokens}")
        waiter = _Waiting(asyncio.get_running_loop().create_future(), tokens)
        self._waiting.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.turn.cancelled():  # the place came in the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        """Hand the place on, or free it."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.turn.done():
                waiter.turn.set_result(None)
                return
        self.running -= 1

    def _full(self, why: str) -> QueueFull:
        return QueueFull(f"the queue of tier {self.name} is full: {why}", retry_seconds=self.retry_seconds)
