"""What an engine is to the gateway: submit, stream, cancel, stats."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

TokenLogprob = tuple[str, float]
"""The text that a token adds, and its log-probability in nats under the model itself: at temperature 1."""


@dataclass(frozen=True)
class Job:
    """One request as an engine takes it; JSON all the way down."""

    id: str
    tier: str
    rank: int
    """Priority: 0 goes first."""
    messages: list[dict[str, Any]] | None
    """A chat; else `prompt` is given."""
    prompt: str | list[int] | None
    tools: list[dict[str, Any]] | None
    new_tokens: int | None
    """Longest answer that the request asks for; None: it says nothing."""
    default_new_tokens: int
    context_tokens: int
    """Most tokens of prompt and answer together."""
    temperature: float
    """0: the likeliest token each time."""
    top_p: float
    stop: tuple[str, ...]
    logprobs: bool
    """Whether the pieces should tell the tokens' log-probabilities."""


@dataclass(frozen=True)
class Piece:
    """A part of an answer; the last one has a reason and counts."""

    text: str
    reason: str | None = None
    """stop or length."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were found in the KV cache."""
    new_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens written since the last piece, the end token included; empty unless asked for."""


class Engine(Protocol):
    """One model that answers jobs."""

    context_tokens: int
    """Most tokens that it holds of one request; known once it is started."""

    async def start(self) -> None:
        """Load the model. Raises UserError if that cannot work."""

    @property
    def is_up(self) -> bool:
        """Whether a job could be submitted now."""

    def submit(self, job: Job) -> None:
        """Begin to answer. Raises EngineDown."""

    def stream(self, job_id: str) -> AsyncGenerator[Piece, None]:
        """The answer in pieces. Raises ApiError subclasses: EngineDown, TooLong, BadRequest."""

    def cancel(self, job_id: str) -> None:
        """Stop working on a job; unknown and finished ones are ignored."""

    def stats(self) -> dict[str, Any]:
        """Facts for people: what it holds and does now."""

    async def stop(self) -> None:
        """End the engine; jobs still running are lost."""
