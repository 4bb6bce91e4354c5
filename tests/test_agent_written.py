"""Written calls: behind an endpoint that is busy, broken or right, and by a model's own template."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from tiny import byte_tokenizer, tiny_llama

from eval.agent import written
from eval.agent.chat import messages
from eval.agent.policies import Tier, always, run_all
from eval.agent.records import lost_trials, task_records
from eval.agent.scores import tier_facts
from eval.agent.tasks import generate_tasks
from eval.agent.written import ask_endpoint, log_likelihoods, prompt_of, write_calls
from eval.lm import FastLM
from fastpath.config_costs import AgentConfig
from fastpath.errors import ConfigError, RunError

TASKS = generate_tasks(split="evaluation", seed=4, num_tasks=8)
TEMPLATE = (
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls }}\n{% endfor %}assistant:"
)


def right_call(body):
    """The right call to what a request asks, as a server answers it."""
    said = body["messages"]
    last = max(number for number, message in enumerate(said) if message["role"] == "user")
    task = next(t for t in TASKS if t.goal in said[last]["content"])
    call = task.gold[(len(said) - 1 - last) // 2]
    return {"function": {"name": call.tool, "arguments": json.dumps(dict(call.arguments))}}


class Server(BaseHTTPRequestHandler):
    """Standard is right; fast gives up; before, some requests are refused or fail as `faults` say."""

    def do_GET(self):
        self.reply(200, {"data": [{"id": "toy"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        if self.server.faults and (code := self.server.faults.pop(0)):
            return self.reply(code, {"error": "no"}, {"retry-after": "0"})
        if self.server.broken:
            return self.server.broken.pop(0)(self)
        good = body["service_tier"] == "standard"
        message = {"content": None, "tool_calls": [right_call(body)]} if good else {"content": "No idea."}
        usage = {"prompt_tokens": 50, "completion_tokens": 9}
        sure = {"content": [{"token": "x", "logprob": nats} for nats in (-0.5, -1.5)]}
        choice = {"message": message} | ({"logprobs": sure} if body.get("logprobs") else {})
        return self.reply(200, {"choices": [choice], "usage": usage} | self.server.told)

    def reply(self, code, data, headers=()):
        text = json.dumps(data).encode()
        self.send_response(code)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.bodies, server.faults, server.broken, server.told = [], [], [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def config(server, **changes):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return AgentConfig(form="tools", endpoint=url, trials=2, attempts=2, **changes)


def asked(server, label):
    return ask_endpoint(label, TASKS, config(server), seed=7, advance=lambda _: None)


def test_tiers_behind_an_endpoint_are_asked_and_judged(server):
    rows = {label: asked(server, label) for label in ("base", "fast")}
    tasks = task_records(rows, trials=2, temperature=1.0, seed=0)
    assert [task.id for task in tasks] == [task.id for task in TASKS]
    assert tier_facts(tasks, "base", seed=0)["profile"]["right"]["value"] == 1
    assert tier_facts(tasks, "fast", seed=0)["profile"]["gave_up"]["value"] == 1
    runs = run_all(tasks, always("base"), {"base": Tier(0, 1, 0, 0)}, attempts=2, detection=1.0)
    assert all(run.completed for run in runs)
    assert sum(run.waiting_seconds for run in runs) == 9 * 2 * sum(task.k for task in TASKS)
    body = server.bodies[0]
    assert (body["model"], body["service_tier"], body["seed"]) == ("toy", "standard", 7)
    assert {b["service_tier"] for b in server.bodies} == {"standard", "fast"}
    assert {a.mean_logprob for task in tasks for r in task.steps["fast"] for a in r.answers} == {-1.0}


def test_a_busy_server_is_waited_for_and_a_broken_one_is_no_mistake_of_the_model(server):
    server.faults = [429, 503, None, 500, 500, 500, 400]
    rows = {"base": asked(server, "base")}
    answers = [answer for row in rows["base"] for answer in row["answers"]]
    lost = [answer for answer in answers if "infrastructure" in answer]
    assert len(lost) == 2 and "500" in lost[0]["infrastructure"] and "400" in lost[1]["infrastructure"]
    assert sum(len(lost_trials(row)) for row in rows["base"]) == 2
    tasks = task_records(rows, trials=2, temperature=1.0, seed=0)
    kept = {task.id: task.trials for task in tasks}
    broken = {row["task"] for row in rows["base"] if lost_trials(row)}
    for task in TASKS:
        assert kept.get(task.id, 0) == 2 if task.id not in broken else kept.get(task.id, 0) < 2
    assert tier_facts(tasks, "base", seed=0)["profile"]["right"]["value"] == 1
    whole = task_records(
        rows, trials=2, temperature=1.0, seed=0, least=2
    )  # else a retry sees an answer twice
    assert {task.id for task in whole} == {task.id for task in TASKS} - broken


def cut_off(handler):
    """Half of what the length promised."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices":')
    handler.close_connection = True


def no_message(handler):
    handler.reply(200, {"choices": [{"message": None}]})


def odd_logprobs(handler):
    message = {"message": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}
    handler.reply(200, {"choices": [message]})


@pytest.mark.parametrize("fault", [cut_off, no_message, odd_logprobs])
def test_a_reply_that_cannot_be_read_is_counted_and_no_traceback(server, monkeypatch, fault):
    monkeypatch.setattr(written, "TRIES", 1)
    server.broken = [fault]
    answers = [answer for row in asked(server, "base") for answer in row["answers"]]
    assert sum("infrastructure" in answer for answer in answers) == 1


@pytest.mark.parametrize("told", [{"service_tier": "fast"}, {"fastpath": {"escalated": True}}])
def test_an_answer_of_another_tier_ends_the_run(server, told):
    server.told = told
    with pytest.raises(RunError, match=r"eval\.agent\.endpoint: standard was asked"):
        asked(server, "base")


def test_no_server_is_one_line(monkeypatch):
    monkeypatch.setattr(written, "TRIES", 1)
    nowhere = AgentConfig(form="tools", endpoint="http://127.0.0.1:9/v1")
    with pytest.raises(RunError, match=r"eval\.agent\.endpoint: .* does not answer"):
        ask_endpoint("base", TASKS, nowhere, seed=0, advance=lambda _: None)


def test_an_endpoint_takes_written_calls_alone():
    with pytest.raises(ValueError, match="endpoint: is asked for written calls"):
        AgentConfig(endpoint="http://127.0.0.1:9/v1")


def test_a_model_writes_calls_by_its_own_template():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    short = min(TASKS, key=lambda task: task.k)
    prompt = prompt_of(tokenizer, short, 0)
    assert short.goal in prompt and all(tool in prompt for tool in short.domain.tools)
    settings = AgentConfig(form="tools", trials=2, attempts=1, max_new_tokens=4)
    lm = FastLM(tiny_llama(max_position_embeddings=8192), tokenizer, batch_size=2)
    rows = write_calls(lm, tokenizer, [short], settings, seed=0)
    assert len(rows) == short.k and all(len(row["answers"]) == 2 for row in rows)
    assert {a["error"] for row in rows for a in row["answers"]} <= {"gave_up", "malformed_call"}
    assert all(a["mean_logprob"] < 0 for row in rows for a in row["answers"] if a["tokens_written"])
    assert rows == write_calls(lm, tokenizer, [short], settings, seed=0)


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no system message') }}"])
def test_a_model_that_takes_no_chat_is_one_line(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=r"eval\.agent\.form: .*use choice"):
        prompt_of(tokenizer, TASKS[0], 0)


def test_solved_examples_of_other_templates_come_first():
    task = next(task for task in TASKS if task.k > 2)
    plain, shown = messages(task, 2), messages(task, 2, 2)
    assert shown[0] == plain[0] and shown[-len(plain) + 1 :] == plain[1:]
    assert [m["role"] for m in shown].count("user") == 3
    assert not {t.goal for t in TASKS} & {m["content"] for m in shown[: -len(plain)]}


def test_an_answer_s_mean_logprob_is_that_of_its_tokens_by_one_plain_pass():
    tokenizer = byte_tokenizer()
    model = tiny_llama()
    lm = FastLM(model, tokenizer, batch_size=2)
    prompts, texts = ["once upon", "a", "b"], [" a time", "", "xyz"]
    nats = log_likelihoods(lm, prompts, texts)
    assert nats[1] == 0
    for prompt, text, value in zip(prompts, texts, nats, strict=True):
        ids = tokenizer(prompt + text, return_tensors="pt").input_ids
        size = len(tokenizer(text).input_ids)
        logs = model(ids).logits.detach()[0, :-1].log_softmax(-1)
        want = logs.gather(1, ids[0, 1:, None])[len(ids[0]) - 1 - size :].sum()
        assert value == pytest.approx(float(want), abs=1e-3)


def test_more_than_one_variant_has_no_place_behind_an_endpoint():
    from eval.agent.run import check_agent

    agent = AgentConfig(form="tools", endpoint="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="one fast tier"):
        check_agent(SimpleNamespace(agent=agent, variants={"a": "x", "b": "y"}), None)
