"""python -m serve.worker NAME: one model in a process of its own; JSON lines in (stdin) and out (stdout).

In: first what to load (tiers.spec_of), then {"op": "submit", "id", ...job} and {"op": "cancel", "id"}.
Out: {"event": "ready", ...facts} once, or {"event": "refused", "message"}; then of each request
{"event": "text"}s and one "done" or "error".
The end of stdin ends the process.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastpath.errors import UserError
from serve.model_worker import BatchedModel
from serve.prompts import PromptError, PromptTooLong, prompt_tokens
from serve.scheduler import request_name
from serve.text_stream import TextStream, token_text

LINE_BYTES = 2**27
LEAST_LOGPROB = -9999.0  # JSON has no infinity

Event = dict[str, Any]


@dataclass
class Answer:
    """A request that is being answered."""

    name: str
    """Its name inside the engine."""
    text: TextStream
    logprobs: list[tuple[str, float]] | None
    """Of the tokens that were not told of yet; None: nobody asks."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_tokens: int = 0


class Worker:
    """Requests of one process, from tokens to text."""

    def __init__(self, model: BatchedModel, send: Callable[[Event], None]) -> None:
        self.model = model
        self._send = send
        self._answers: dict[str, Answer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, message: Event) -> None:
        """Take one message of the gateway."""
        if message["op"] == "cancel":
            self._drop(message["id"])
            return
        name = request_name(message["rank"], message["id"])
        text = TextStream(self.model.tokenizer, message["stop"])
        self._answers[message["id"]] = Answer(name, text, [] if message["logprobs"] else None)
        task = asyncio.create_task(self._begin(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, job: Event) -> None:
        try:
            # A long text takes a while, and tokenizers let other threads run.
            tokens = await asyncio.to_thread(prompt_tokens, self.model.tokenizer, job)
            new_tokens = room_for(len(tokens), job)
        except Exception as error:  # templates are programs of strangers, and text is whatever clients send
            reason = f"the model cannot read this prompt ({type(error).__name__})"
            known = error if isinstance(error, PromptError) else PromptError(reason)
            self._drop(job["id"])
            self._send({"id": job["id"], "event": "error", "code": known.code, "message": str(known)})
            return
        answer = self._answers.get(job["id"])
        if answer is None:  # cancelled meanwhile
            return
        answer.prompt_tokens = len(tokens)
        manager = self.model.manager
        manager.register_result_handler(answer.name, lambda output: self._take(job["id"], output))
        accepted = manager.add_request(
            tokens,
            request_id=answer.name,
            max_new_tokens=new_tokens,
            streaming=True,
            eos_token_id=sorted(self.model.eos) or -1,
            temperature=float(job["temperature"]),
            top_p=float(job["top_p"]),
        )
        if accepted is None:
            _die("the engine takes no requests")

    def _take(self, job_id: str, output: Any) -> None:
        """Pass on what the engine has added to an answer."""
        answer = self._answers.get(job_id)
        if answer is None:
            return
        if output.error:
            self._drop(job_id)
            self._send({"id": job_id, "event": "error", "code": "engine_failed", "message": output.error})
            if self.model.is_broken:
                _die(output.error)
            return
        if not answer.new_tokens:
            answer.cached_tokens = self.model.policy.cached_tokens.pop(answer.name, 0)
        self._keep_logprobs(answer, output)
        fresh = output.generated_tokens[answer.new_tokens :]
        answer.new_tokens += len(fresh)
        text = answer.text.push(fresh)
        is_last = output.is_finished()
        if is_last and not answer.text.stopped:
            text += answer.text.finish()
        if text:
            self._send({"id": job_id, "event": "text", "text": text, **_told_logprobs(answer)})
        if answer.text.stopped or is_last:
            ended = answer.text.stopped or output.generated_tokens[-1] in self.model.eos
            self._finish(job_id, answer, "stop" if ended else "length", cancel=not is_last)

    def _keep_logprobs(self, answer: Answer, output: Any) -> None:
        if answer.logprobs is None:
            return
        tokens = output.generated_tokens
        for place in range(answer.new_tokens, len(tokens)):
            text = token_text(self.model.tokenizer, tokens[place - 1] if place else None, tokens[place])
            answer.logprobs.append((text, max(LEAST_LOGPROB, output.logprobs[place])))

    def _finish(self, job_id: str, answer: Answer, reason: str, *, cancel: bool) -> None:
        del self._answers[job_id]
        if cancel:
            self.model.cancel(answer.name)
        counts = {key: getattr(answer, key) for key in ("prompt_tokens", "cached_tokens", "new_tokens")}
        self._send({"id": job_id, "event": "done", "reason": reason, **counts, **_told_logprobs(answer)})

    def _drop(self, job_id: str) -> None:
        if answer := self._answers.pop(job_id, None):
            self.model.cancel(answer.name)


def _told_logprobs(answer: Answer) -> Event:
    """What a message tells of tokens; once told they are forgotten."""
    if answer.logprobs is None:
        return {}
    told, answer.logprobs = answer.logprobs, []
    return {"logprobs": told}


def room_for(num_prompt_tokens: int, job: Event) -> int:
    """Tokens that the answer may have. Raises PromptTooLong if the prompt leaves too little."""
    room = job["context_tokens"] - num_prompt_tokens
    asked = job["new_tokens"]
    if room < 1 or (asked is not None and asked > room):
        answer = "" if asked is None else f" and {asked} for the answer"
        raise PromptTooLong(
            f"the prompt has {num_prompt_tokens} tokens{answer}; tier {job['tier']} takes "
            f"{job['context_tokens']} in all"
        )
    return min(job["default_new_tokens"], room) if asked is None else asked


def _die(reason: str) -> None:
    # The engine's thread would keep the process; the gateway starts another one.
    print(f"engine worker: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    os._exit(1)


async def serve(send: Callable[[Event], None]) -> None:
    """Load the model that the first line names, then answer until stdin ends."""
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    first = await reader.readline()
    if not first:  # the gateway is gone
        os._exit(0)
    spec = json.loads(first)
    os.nice(spec["nice"])
    try:
        model = BatchedModel(spec)
        await model.start()
    except UserError as error:
        send({"event": "refused", "message": " ".join(str(error).split())})
        os._exit(2)
    worker = Worker(model, send)
    send({"event": "ready", **model.facts()})
    while line := await reader.readline():
        worker.handle(json.loads(line))
    os._exit(0)


def main() -> None:
    """Keep stdout for messages: what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.getLogger("transformers").setLevel(logging.ERROR)

    def send(event: Event) -> None:
        try:
            out.write(json.dumps(event) + "\n")
            out.flush()
        except BrokenPipeError:  # nobody is there to read
            os._exit(0)

    asyncio.run(serve(send))


if __name__ == "__main__":
    main()
