"""A server of OpenAI's protocol that does agent tasks with known error rates, and knows how sure it is."""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from eval.agent.choices import choice_steps
from eval.agent.tools import parse_call

PROMPT_TOKENS, NEW_TOKENS = 100, 20  # as in agents.py


class ScriptedTier(BaseHTTPRequestHandler):
    """Streams the right call, or a wrong one of the class `errs` with the chance that it has."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply("application/json", json.dumps({"data": [{"id": self.server.name}]}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        call, nats = self.server.answer(body["messages"])
        function = {"name": call.tool, "arguments": json.dumps(dict(call.arguments))}
        choice = {"index": 0, "finish_reason": "tool_calls"}
        choice["delta"] = {"tool_calls": [{"index": 0, "id": "x", "function": function}]}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "x", "logprob": nats}] * NEW_TOKENS}
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": NEW_TOKENS}
        chunks = [{"choices": [choice]}, {"choices": [], "usage": usage}]
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self.reply("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))

    def reply(self, kind, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """`nats`: mean token log-probability of a right call and of a wrong one."""

    def __init__(self, name, tasks, *, errs, nats):
        super().__init__(("127.0.0.1", 0), ScriptedTier)
        self.name, self.errs, self.nats = name, errs, nats
        self.steps = {task.goal: choice_steps(task) for task in tasks}
        self.asked = Counter()
        self.lock = threading.Lock()

    def answer(self, messages):
        """(call, nats a token): a function of the prompt and how often it was asked before."""
        users = [n for n, m in enumerate(messages) if m["role"] == "user" and "Task:" in m["content"]]
        goal = messages[users[-1]]["content"].removeprefix("Task: ").partition("\nDone before")[0]
        number = sum(m["role"] == "tool" for m in messages[users[-1] :])
        with self.lock:
            self.asked[goal, number] += 1
            random = Random(f"{self.name}/{goal}/{number}/{self.asked[goal, number]}")
        ((error, chance),) = self.errs.items()
        is_wrong = random.random() < chance
        choices = {choice.error: choice.text for choice in self.steps[goal][number].choices}
        return parse_call(choices[error if is_wrong else ""]), self.nats[is_wrong] * random.uniform(0.5, 1.0)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def scripted_tier(name, tasks, *, errs, nats=(-0.1, -1.0)):
    """The server, in a thread."""
    server = Server(name, tasks, errs=errs, nats=nats)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
