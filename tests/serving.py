"""A gateway over scripted engines in a thread, and `python -m serve` on tiny models in a process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
import yaml

from fastpath.recipe_file import build_recipe
from serve.auth import KeyEntry, Keyring
from serve.connections import server_settings
from serve.engine import Piece
from serve.errors import EngineDown
from serve.gateway import Gateway, build_app
from serve.metrics import Metrics
from serve.tiers import build_tiers

ROOT = Path(__file__).parents[1]
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


class ScriptedEngine:
    """Answers "one two three ..." as many words as tokens are asked for, each after `delay` seconds."""

    def __init__(self, name, spec):
        self.name = name
        self.spec = spec
        self.context_tokens = 2048
        self.delay = 0.0
        self.is_up = True
        self.jobs = {}
        self.asked = []
        self.cancelled = []
        self.most_running = 0
        self.failure = None
        self.words = None
        self.logprob = -0.5

    async def start(self):
        pass

    async def stop(self):
        pass

    def submit(self, job):
        if not self.is_up:
            raise EngineDown("down", retry_seconds=1.0)
        self.jobs[job.id] = job
        self.asked.append(job)
        self.most_running = max(self.most_running, len(self.jobs))

    async def stream(self, job_id):
        job = self.jobs[job_id]
        count = job.new_tokens or job.default_new_tokens
        for number in range(count):
            await asyncio.sleep(self.delay)
            if self.failure:
                raise self.failure
            word = f"{number} " if self.words is None else self.words.pop(0)
            yield Piece(word, logprobs=((word, self.logprob),) if job.logprobs else ())
        del self.jobs[job_id]
        yield Piece("", "length", prompt_tokens=7, cached_tokens=4, new_tokens=count)

    def cancel(self, job_id):
        if self.jobs.pop(job_id, None):
            self.cancelled.append(job_id)

    def stats(self):
        return {"restarts": 0}


def scripted_gateway(tmp_path, *, keys=(), gaps=None, **serve) -> Gateway:
    """A gateway whose engines are scripted; `serve` is its section of the recipe."""
    section = {"fast": {"model": "small"}} | serve
    recipe = build_recipe({"out": str(tmp_path), "model": {"name": "folder/tiny"}, "serve": section})
    tiers = build_tiers(recipe, recipe.serve, ScriptedEngine)
    keyring = Keyring([KeyEntry(**key) for key in keys])
    return Gateway(recipe.serve, "tiny", tiers, keyring, gaps or {}, Metrics())


@contextmanager
def running(gateway: Gateway):
    """The gateway behind a real socket; a client of it."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    server = uvicorn.Server(server_settings(build_app(gateway), gateway.config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    wait_for(lambda: server.started)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{door.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        door.close()


def wait_for(holds, seconds: float = 20.0) -> None:
    """Wait until it holds."""
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, "it never held"
        time.sleep(0.01)


class ServeProcess:
    """`python -m serve` with a recipe; use as a context manager."""

    def __init__(self, folder: Path, *, model: Path, fast: Path, **serve):
        section = {"port": 0, "fast": {"model": str(fast)}, "cache_gib": 0.25} | serve
        recipe = {"out": str(folder / "run"), "model": {"name": str(model)}, "serve": section}
        self.path = folder / "serve.yaml"
        self.path.write_text(yaml.safe_dump(recipe))
        self.errors = folder / "stderr.txt"
        self.facts = {}

    def __enter__(self):
        command = [sys.executable, "-m", "serve", "--config", str(self.path)]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": "."},
            )
        if line := self.process.stdout.readline():
            self.facts = json.loads(line)
            self.url = self.facts["url"]
            self.client = httpx.Client(base_url=self.url.removesuffix("/v1"), timeout=60)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            finally:
                self.process.kill()
        self.process.stdout.close()

    def workers(self) -> set[int]:
        """Process ids of its engines."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid) for pid in listed}


def error_of(response: httpx.Response) -> dict:
    """The error of an answer; it is one line and no traceback."""
    error = response.json()["error"]
    assert "\n" not in error["message"] and "Traceback" not in response.text
    return error
