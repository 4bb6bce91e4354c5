"""Any OpenAI-compatible URL as an engine: vLLM, SGLang, llama.cpp, or another gateway of ours."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from fastpath.config_serve import TierConfig
from fastpath.errors import ModelError
from serve.engine import Job, Piece, TokenLogprob
from serve.errors import ApiError, BadRequest, EngineDown, QueueFull
from serve.tools import written_calls

KEY_VARIABLE = "FASTPATH_ENGINE_KEY"
CONNECT_SECONDS = 5.0
RETRY_SECONDS = 1.0  # vLLM and SGLang say 503 for a full queue, and not when to come again
PRIORITY_SIGN = {"low_first": 1, "high_first": -1}
UNLIMITED = 2**31
LEAST_LOGPROB = -9999.0  # as vLLM writes minus infinity


class OpenAIEngine:
    """A server that speaks OpenAI's protocol behind the interface of serve/engine.py."""

    def __init__(self, name: str, config: TierConfig) -> None:
        assert config.url
        self.name = name
        self.context_tokens = UNLIMITED
        self._url = config.url.rstrip("/")
        self._model = config.model
        self._sign = PRIORITY_SIGN.get(config.priority)
        self._pieces: dict[str, asyncio.Queue[Piece | ApiError]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        key = os.environ.get(KEY_VARIABLE)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),  # the gateway has the deadlines
            limits=httpx.Limits(max_connections=None),
        )

    async def start(self) -> None:
        """Check that the URL answers and serves the model. Raises ModelError."""
        try:
            response = await self._client.get(f"{self._url}/models", timeout=CONNECT_SECONDS)
            listed = {entry["id"]: entry for entry in response.raise_for_status().json()["data"]}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{self._url}: no list of models there ({error or type(error).__name__})"
            ) from None
        if self._model not in listed:
            raise ModelError(f"{self._url}: serves {', '.join(listed)}, not {self._model!r}")
        self.context_tokens = listed[self._model].get("max_model_len") or UNLIMITED  # vLLM's word

    @property
    def is_up(self) -> bool:
        """Each request finds out for itself."""
        return True

    def submit(self, job: Job) -> None:
        """Send a job."""
        self._pieces[job.id] = asyncio.Queue()
        self._tasks[job.id] = asyncio.create_task(self._ask(job, self._pieces[job.id]))

    async def stream(self, job_id: str) -> AsyncGenerator[Piece, None]:
        """The answer in pieces. Raises EngineDown, QueueFull, BadRequest."""
        pieces = self._pieces[job_id]
        while True:
            piece = await pieces.get()
            if isinstance(piece, ApiError):
                raise piece
            yield piece
            if piece.reason:
                return

    def cancel(self, job_id: str) -> None:
        """Hang up: these servers stop working on a request whose client has gone."""
        self._pieces.pop(job_id, None)
        if task := self._tasks.pop(job_id, None):
            task.cancel()

    def stats(self) -> dict[str, Any]:
        """How many requests are under way."""
        return {"url": self._url, "running": len(self._tasks)}

    async def stop(self) -> None:
        """Hang up on everything."""
        for job_id in list(self._tasks):
            self.cancel(job_id)
        await self._client.aclose()

    def body(self, job: Job) -> dict[str, Any]:
        """The job in OpenAI's words."""
        asked: dict[str, Any] = (
            {"messages": job.messages} if job.messages is not None else {"prompt": job.prompt}
        )
        if job.tools:
            asked["tools"] = job.tools
        if self._sign:
            asked["priority"] = self._sign * job.rank
        if job.logprobs:
            asked["logprobs"] = True if job.messages is not None else 0
        return {
            **asked,
            "model": self._model,
            "max_tokens": job.new_tokens or job.default_new_tokens,
            "temperature": job.temperature,
            "top_p": job.top_p,
            **({"stop": list(job.stop)} if job.stop else {}),
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def _ask(self, job: Job, pieces: asyncio.Queue[Piece | ApiError]) -> None:
        path = "chat/completions" if job.messages is not None else "completions"
        try:
            async with self._client.stream("POST", f"{self._url}/{path}", json=self.body(job)) as response:
                if response.status_code != 200:
                    raise self._problem(response.status_code, await response.aread())
                await self._read(response, pieces, job)
        except ApiError as error:
            pieces.put_nowait(error)
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            reason = f"the engine of {self.name} did not answer ({type(error).__name__})"
            pieces.put_nowait(EngineDown(reason, retry_seconds=RETRY_SECONDS))

    async def _read(
        self, response: httpx.Response, pieces: asyncio.Queue[Piece | ApiError], job: Job
    ) -> None:
        reason = None
        num_tokens = 0
        usage: dict[str, Any] = {}
        calls: list[dict[str, Any]] = []
        async for line in response.aiter_lines():
            if not line.startswith("data:") or line.endswith("[DONE]"):
                continue
            chunk = json.loads(line.removeprefix("data:"))
            if "error" in chunk:
                raise EngineDown(str(chunk["error"].get("message", "the engine failed")))
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                text = choice["delta"].get("content") if "delta" in choice else choice["text"]
                calls += choice.get("delta", {}).get("tool_calls") or []
                reason = choice.get("finish_reason") or reason
                tokens = _logprobs(choice.get("logprobs") or {}) if job.logprobs else ()
                num_tokens += len(tokens)
                if text or tokens:
                    pieces.put_nowait(Piece(text or "", logprobs=tokens))
        if reason is None:
            raise EngineDown(f"the engine of {self.name} hung up")
        if job.logprobs and usage.get("completion_tokens") and not num_tokens:
            raise EngineDown(f"the engine of {self.name} gives no log-probabilities")
        if calls:
            pieces.put_nowait(Piece(written_calls(calls)))
            reason = "stop" if reason == "tool_calls" else reason  # that is said of calls that go out
        details = usage.get("prompt_tokens_details") or {}
        counts = {
            "prompt_tokens": usage.get("prompt_tokens", 0),
            "cached_tokens": details.get("cached_tokens") or 0,
            "new_tokens": usage.get("completion_tokens", 0),
        }
        pieces.put_nowait(Piece("", reason, **counts))

    def _problem(self, status: int, body: bytes) -> ApiError:
        try:
            data = json.loads(body)
            message = str((data.get("error") or data)["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"status {status}"
        if status in (429, 503):  # how these servers say that their queue is full
            return QueueFull(f"the engine of {self.name} is full: {message}", retry_seconds=RETRY_SECONDS)
        if status in (400, 413, 422):
            return BadRequest(message)
        return EngineDown(f"the engine of {self.name} failed (status {status})", retry_seconds=RETRY_SECONDS)


def _logprobs(given: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """Of one choice: as chats tell them, or as completions do."""
    chat = [(entry["token"], entry["logprob"]) for entry in given.get("content") or ()]
    text = zip(given.get("tokens") or (), given.get("token_logprobs") or (), strict=False)
    return tuple((token, max(LEAST_LOGPROB, float(logprob))) for token, logprob in (*chat, *text))
