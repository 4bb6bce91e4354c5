"""Which prompt goes into the engine's next step: a scheduler for the continuous batching of transformers.

Its own schedulers are first come, first served, and give one long prompt the whole step: a short request
behind a prefill of 2,500 tokens waited 3.6 s in the place of 0.06 s. Here decoding requests go first, then
prompts by tier, shortest first within one; a long prompt is cut to what the device computes in `step_seconds`
and yields whenever one of a higher tier waits. Age promotes, so nobody starves.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers.generation.continuous_batching import scheduler as stock
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus

from serve.chunks import StepTimes


@dataclass
class Policy:
    """How prompts are ordered and cut. Shared with the worker, which measures `batch_tokens` at start."""

    promote_seconds: float
    step_seconds: float = math.inf
    """Prompts are cut so that a step takes about so long; infinite while the worker measures."""
    batch_tokens: int = 1
    """Prompts that fit into so many tokens together share a step; 1: a step takes one prompt."""
    page_tokens: int = 32
    """Tokens of a block of the KV cache, the unit in which prompts share one."""
    cached_tokens: dict[str, int] = field(default_factory=dict)
    """Request -> prompt tokens found in the KV cache, once it was scheduled; the worker takes them out."""


def request_name(rank: int, name: str) -> str:
    """The name of a request inside the engine; rank 0 is the highest tier."""
    return f"{rank}:{name}"


class TierScheduler(stock.FIFOScheduler):
    """Decoding first, then prompts by tier and length, cut to the length of a step."""

    def __init__(self, *, policy: Policy, **settings: Any) -> None:
        self.policy = policy
        self.times = StepTimes()
        self._step: tuple[float, int, int] | None = None
        self._decoding: list[RequestState] = []
        self._allowance: dict[str, int] = {}
        self._complete: dict[str, dict[str, int]] = {}
        super().__init__(**settings)

    def has_pending_requests(self) -> bool:
        """As the stock one; the engine asks between steps, which is where a step's time is known."""
        self._measure_step()
        return super().has_pending_requests()

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Any:
        """As FIFOScheduler.schedule_batch, but for the order of the prompts and how many there are."""
        active = list(self.active_requests.values())
        prompts = [state for state in active if state.status == RequestStatus.PREFILLING]
        if not self.block_new_requests:
            prompts += self._get_waiting_candidates()
        decoding = [state for state in active if state.status == RequestStatus.DECODING]
        self._decoding = decoding
        self._allowance = self._choose(prompts, token_budget)
        chosen = [state for state in prompts if state.request_id in self._allowance]
        chosen.sort(key=lambda state: list(self._allowance).index(state.request_id))
        left_waiting: set[str] = set()
        scheduled, one_failed, fast_path, num_queries, num_read = self._process_candidates(
            decoding + chosen, token_budget, cache_budget, left_waiting
        )
        self._cleanup_waiting_queue(left_waiting)
        self._step = (time.perf_counter(), num_queries, num_queries + num_read) if scheduled else None
        self._complete = {future.state.request_id: future.complete_blocks for future in scheduled}
        if not scheduled and one_failed:
            return None, fast_path, 0, 0
        return scheduled, fast_path, num_queries, num_read

    def finish_request(self, request_id: str) -> None:
        """As the stock one, but the cache learns the blocks of the last step too.

        transformers registers those of requests that go on only: a prompt with an answer of one token, or one
        that warms the cache, would leave nothing behind.
        """
        state = self.active_requests.get(request_id)
        if state is not None and self.cache.use_prefix_sharing:
            tokens = state.initial_tokens + state.generated_tokens
            for name, num_blocks in self._complete.get(request_id, {}).items():
                self.cache.cache_allocators[name].mark_complete_blocks(request_id, tokens, num_blocks)
        super().finish_request(request_id)

    def _choose(self, prompts: Iterable[RequestState], token_budget: int) -> dict[str, int]:
        """{request: tokens of its prompt that the next step takes}, in order."""
        now = time.perf_counter()
        order = sorted(prompts, key=lambda state: self._urgency(state, now))
        allowance: dict[str, int] = {}
        beginnings = set()
        taken = 0
        for state in order:
            length = len(state.remaining_prefill_tokens)
            beginning = tuple(state.initial_tokens[: self.policy.page_tokens])
            if not allowance:
                first_rank = self._urgency(state, now)[0]
                allowance[state.request_id] = taken = min(length, self._chunk_tokens(state, token_budget))
            # One that begins like another waits a step and finds its tokens in the cache.
            elif beginning not in beginnings and taken + length <= self.policy.batch_tokens:
                if self._urgency(state, now)[0] > first_rank:
                    break
                allowance[state.request_id] = length
                taken += length
            beginnings.add(beginning)
        return allowance

    def _chunk_tokens(self, state: RequestState, most: int) -> int:
        """Tokens of a prompt that a step takes, beside those that decode."""
        if self.policy.step_seconds == math.inf:
            return most
        attended = sum(other.current_len() for other in (state, *self._decoding))
        chunk = self.times.chunk(self.policy.step_seconds, others=len(self._decoding), attended=attended)
        return int(min(chunk, most))

    def _urgency(self, state: RequestState, now: float) -> tuple[int, int, float]:
        promotions = math.floor((now - state.created_time) / self.policy.promote_seconds)
        rank = int(state.request_id.partition(":")[0]) - promotions
        return rank, len(state.remaining_prefill_tokens), state.created_time

    def _schedule_request(
        self, state: RequestState, request_tokens: list[int], token_budget: int, left_waiting: set[str]
    ) -> None:
        if state.request_id in self._allowance:
            self.policy.cached_tokens.setdefault(state.request_id, state.position_offset)
            # By now it is known how much of it the cache has: the rest is slower to read.
            most = min(token_budget, self._allowance[state.request_id])
            token_budget = self._chunk_tokens(state, most)
        super()._schedule_request(state, request_tokens, token_budget, left_waiting)

    def _measure_step(self) -> None:
        """Remember how long the step took that has just ended."""
        if self._step is not None:
            start, num_tokens, num_attended = self._step
            self.times.add(num_tokens, num_attended, time.perf_counter() - start)
            self._step = None
