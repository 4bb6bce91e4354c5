"""A model in a worker process (serve/worker.py), spoken to in JSON lines; started again when it dies."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from fastpath.errors import ModelError
from serve.engine import Job, Piece, TokenLogprob
from serve.errors import BadRequest, EngineDown, TooLong

LINE_BYTES = 2**22
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0  # before a worker that died is started again
STEADY_SECONDS = 60.0  # a worker that lived so long did not die of its start

log = logging.getLogger("fastpath")

Event = dict[str, Any]


class TransformersEngine:
    """The continuous batching of transformers behind the interface of serve/engine.py."""

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        self.name = name
        """For people: the tiers it serves."""
        self.context_tokens = 0
        self.restarts = 0
        self._spec = spec
        self._facts: Event = {}
        self._streams: dict[str, asyncio.Queue[Event]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_up = False

    async def start(self) -> None:
        """Start the worker and wait until it has answered a first request. Raises ModelError."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serve.worker",
            self.name,  # all that ps shows: the spec holds prompts, and may be long
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            env={**os.environ, "OMP_NUM_THREADS": str(self._spec["threads"])},
            start_new_session=True,  # Ctrl-C is for the gateway, which drains
        )
        self._write(self._spec)
        first = await _read(self._process)
        if first is None:
            code = await self._process.wait()
            raise ModelError(f"{self._spec['name']}: its engine ended at start with exit code {code}")
        if first["event"] == "refused":
            await self._process.wait()
            raise ModelError(first["message"])
        self._facts = {key: value for key, value in first.items() if key != "event"}
        self.context_tokens = first["context_tokens"]
        self._is_up = True
        self._reader = asyncio.create_task(self._read_and_restart(self._process))

    @property
    def is_up(self) -> bool:
        """Whether the worker takes jobs."""
        return self._is_up

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return self._process.pid if self._process else None

    def submit(self, job: Job) -> None:
        """Hand a job to the worker. Raises EngineDown."""
        if not self._is_up:
            raise self._down("is starting again")
        self._streams[job.id] = asyncio.Queue()
        self._write({"op": "submit", **asdict(job)})

    async def stream(self, job_id: str) -> AsyncGenerator[Piece, None]:
        """The answer in pieces. Raises EngineDown, TooLong, BadRequest."""
        queue = self._streams[job_id]
        while (event := await queue.get())["event"] == "text":
            yield Piece(event["text"], logprobs=_logprobs(event))
        self._streams.pop(job_id, None)
        if event["event"] != "done":
            raise self._error(event)
        counts = {key: event[key] for key in ("prompt_tokens", "cached_tokens", "new_tokens")}
        yield Piece("", event["reason"], **counts, logprobs=_logprobs(event))

    def cancel(self, job_id: str) -> None:
        """Have the worker stop, unless the job has ended."""
        if self._streams.pop(job_id, None) and self._is_up:
            self._write({"op": "cancel", "id": job_id})

    def stats(self) -> dict[str, Any]:
        """What the worker holds, and how often it had to be started again."""
        state = {"up": self._is_up, "running": len(self._streams), "restarts": self.restarts, "pid": self.pid}
        return {**self._facts, **state}

    async def stop(self) -> None:
        """End the worker."""
        self._is_up = False
        if self._reader:
            self._reader.cancel()
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _write(self, message: Event) -> None:
        assert self._process and self._process.stdin
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read_and_restart(self, process: asyncio.subprocess.Process) -> None:
        started = time.monotonic()
        while event := await _read(process):
            if queue := self._streams.get(event["id"]):
                queue.put_nowait(event)
        self._is_up = False
        code = await process.wait()
        log.warning("engine %s: its worker ended with exit code %d; starting another", self.name, code)
        for queue in self._streams.values():
            queue.put_nowait({"event": "error", "code": "engine_down", "message": ""})
        self._reader = asyncio.create_task(self._restart(time.monotonic() - started))

    async def _restart(self, lived_seconds: float) -> None:
        wait = 0.0 if lived_seconds > STEADY_SECONDS else FIRST_WAIT_SECONDS
        while True:
            await asyncio.sleep(wait)
            self.restarts += 1
            try:
                await self.start()
            except ModelError as error:
                wait = min(LONGEST_WAIT_SECONDS, max(FIRST_WAIT_SECONDS, 2 * wait))
                log.warning("engine %s: %s; next try in %.0f s", self.name, error, wait)
            else:
                return

    def _error(self, event: Event) -> Exception:
        if event["code"] == "prompt_too_long":
            return TooLong(event["message"])
        if event["code"] == "invalid_prompt":
            return BadRequest(event["message"])
        if event["code"] == "engine_failed":
            log.warning("engine %s: %s", self.name, event["message"])
        return self._down("failed while it worked on this request")

    def _down(self, what: str) -> EngineDown:
        return EngineDown(f"the engine of {self.name} {what}; try again", retry_seconds=2.0)


def _logprobs(event: Event) -> tuple[TokenLogprob, ...]:
    return tuple((text, logprob) for text, logprob in event.get("logprobs", ()))


async def _read(process: asyncio.subprocess.Process) -> Event | None:
    assert process.stdout
    line = await process.stdout.readline()
    return json.loads(line) if line.endswith(b"\n") else None
