"""Answers in OpenAI's shape, whole and in pieces."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from serve import logprobs
from serve.engine import Piece, TokenLogprob
from serve.errors import ApiError
from serve.policy import Reply

Data = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What the answers to one request have in common."""

    id: str
    model: str
    tier: str
    """The tier that really answers."""
    is_chat: bool
    include_usage: bool
    logprobs: bool
    """Whether the answers tell the tokens' log-probabilities."""

    def whole(self, reply: Reply) -> Data:
        """The answer that is not streamed."""
        calls = {"tool_calls": reply.calls} if reply.calls else {}
        content = {"role": "assistant", "content": reply.text, "refusal": None, **calls}
        choice = {"message": content} if self.is_chat else {"text": reply.text}
        kind = "chat.completion" if self.is_chat else "text_completion"
        told = self._logprobs(reply.logprobs, 0)
        choices = [{"index": 0, **choice, "logprobs": told, "finish_reason": reply.reason}]
        return {**self._head(kind), "choices": choices, "usage": usage(reply.last), **_noted(reply.note)}

    def chunk(
        self,
        text: str,
        reason: str | None,
        *,
        role: bool = False,
        calls: Sequence[Data] = (),
        note: Data | None = None,
        tokens: Sequence[TokenLogprob] = (),
        start: int = 0,
    ) -> Data:
        """A piece of the answer; its `tokens` begin at character `start`."""
        delta: Data = {"role": "assistant"} if role else {}
        if calls:
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
        if text or role:
            delta["content"] = text
        choice = {"delta": delta} if self.is_chat else {"text": text}
        told = self._logprobs(tokens, start) if tokens else None
        choices = [{"index": 0, **choice, "logprobs": told, "finish_reason": reason}]
        usage_none = {"usage": None} if self.include_usage else {}
        return {**self._head(self._chunk_kind), "choices": choices, **usage_none, **_noted(note)}

    def usage_chunk(self, last: Piece) -> Data:
        """The chunk after the last, where the request asks for it."""
        return {**self._head(self._chunk_kind), "choices": [], "usage": usage(last)}

    def _logprobs(self, tokens: Sequence[TokenLogprob], start: int) -> Data | None:
        if not self.logprobs:
            return None
        return logprobs.of_chat(tokens) if self.is_chat else logprobs.of_text(tokens, start)

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _head(self, kind: str) -> Data:
        created = int(time.time())
        named = {"model": self.model, "service_tier": self.tier, "system_fingerprint": None}
        return {"id": self.id, "object": kind, "created": created, **named}


def _noted(note: Data | None) -> Data:
    return {"fastpath": note} if note else {}


def usage(last: Piece) -> Data:
    """Tokens of prompt and answer."""
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.new_tokens,
        "total_tokens": last.prompt_tokens + last.new_tokens,
        "prompt_tokens_details": {"cached_tokens": last.cached_tokens},
    }


def sse(data: Data | str) -> bytes:
    """One server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


async def events(shape: Shape, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """The answer as server-sent events; an error after the first is an event too: the status is out."""
    if shape.is_chat:
        yield sse(shape.chunk("", None, role=True))
    start = 0
    try:
        async for piece in pieces:
            if piece.text or piece.reason or piece.logprobs:
                yield sse(shape.chunk(piece.text, piece.reason, tokens=piece.logprobs, start=start))
            start += sum(len(text) for text, _ in piece.logprobs)
            if piece.reason and shape.include_usage:
                yield sse(shape.usage_chunk(piece))
    except ApiError as error:
        yield sse(error.body())
        return
    yield sse("[DONE]")
