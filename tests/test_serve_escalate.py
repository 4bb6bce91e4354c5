"""A fast answer whose tokens were unlikely is redone by standard, and the answer says so."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from serving import CHAT, ServeProcess, error_of, running, scripted_gateway, wait_for
from tiny import write_tiny

from fastpath.errors import ConfigError
from serve.errors import EngineDown

PAY = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}
CALL = '<tool_call>{"name": "pay", "arguments": {}}</tool_call>'


def doubtful(tmp_path, *, logprob=-2.0, **changes):
    """A gateway whose fast tier says "guess" with this log-probability, and standard "sure"."""
    gateway = scripted_gateway(tmp_path, **{"escalate_below": -1.0, **changes})
    gateway.tiers["fast"].engine.logprob = logprob
    gateway.tiers["fast"].engine.words = ["guess"]
    gateway.tiers["standard"].engine.words = ["sure"]
    return gateway


def ask(client, path="chat/completions", headers=None, **changes):
    asked = CHAT if "chat" in path else {"model": "tiny", "prompt": "x"}
    body = {**asked, "max_tokens": 1, "service_tier": "fast", **changes}
    return client.post(f"/v1/{path}", json=body, headers=headers)


def text_of(answer):
    (choice,) = answer["choices"]
    return choice["message"]["content"] if "message" in choice else choice["text"]


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_an_unlikely_answer_is_standards_and_says_so(tmp_path, path):
    with running(doubtful(tmp_path)) as client:
        response = ask(client, path)
        metrics = client.get("/metrics").text
    answer = response.json()
    assert text_of(answer) == "sure"
    assert answer["service_tier"] == response.headers["x-service-tier-served"] == "standard"
    assert answer["fastpath"] == {"policy": "escalate", "mean_logprob": -2.0, "fast_tokens": 8}
    assert answer["choices"][0]["logprobs"] is None  # nobody asked
    assert 'fastpath_escalations_total{tier="fast"} 1.0' in metrics


@pytest.mark.parametrize("logprob", [-1.0, -0.1])
def test_a_likely_answer_goes_out_as_it_is(tmp_path, logprob):
    gateway = doubtful(tmp_path, logprob=logprob)
    with running(gateway) as client:
        answer = ask(client).json()
    assert text_of(answer) == "guess" and answer["service_tier"] == "fast" and "fastpath" not in answer
    assert not gateway.tiers["standard"].engine.asked


def test_the_mean_is_that_of_all_tokens(tmp_path):
    gateway = doubtful(tmp_path, escalate_below=-0.6)
    gateway.tiers["fast"].engine.words = None
    gateway.tiers["fast"].engine.logprob = -0.5
    with running(gateway) as client:
        assert ask(client, max_tokens=9).json()["service_tier"] == "fast"


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_streamed_nothing_goes_out_before_the_decision(tmp_path, path):
    with running(doubtful(tmp_path)) as client:
        response = ask(client, path, stream=True, stream_options={"include_usage": True})
    assert response.headers["x-service-tier-served"] == "standard" and "guess" not in response.text
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == "[DONE]" and {chunk["service_tier"] for chunk in chunks} == {"standard"}
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for c in choices) == "sure"
    (note,) = [chunk["fastpath"] for chunk in chunks if "fastpath" in chunk]
    assert note["mean_logprob"] == -2.0 and chunks[-1]["usage"]["completion_tokens"] == 1


def test_logprobs_that_were_asked_for_are_those_of_the_answer(tmp_path):
    gateway = doubtful(tmp_path)
    with running(gateway) as client:
        sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0)
        answer = sdk.chat.completions.create(**CHAT, max_tokens=1, service_tier="fast", logprobs=True)
    ((token,),) = [choice.logprobs.content for choice in answer.choices]
    assert (token.token, token.logprob) == ("sure", -0.5)
    assert answer.fastpath["policy"] == "escalate"


def test_other_tiers_are_not_asked_for_logprobs_and_stream_as_ever(tmp_path):
    gateway = doubtful(tmp_path)
    engine = gateway.tiers["standard"].engine
    with running(gateway) as client:
        assert '"content": "sure"' in ask(client, service_tier="standard", stream=True).text
    assert [job.logprobs for job in engine.asked] == [False]


def test_a_key_that_may_not_use_standard_gets_the_fast_answer_and_is_told(tmp_path):
    gateway = doubtful(tmp_path, keys=[{"key": "f" * 20, "name": "f", "tier": "fast"}])
    with running(gateway) as client:
        answer = ask(client, headers={"authorization": "Bearer " + "f" * 20}).json()
    assert text_of(answer) == "guess" and answer["service_tier"] == "fast"
    assert answer["fastpath"]["mean_logprob"] == -2.0 and "standard" in answer["fastpath"]["not_escalated"]
    assert not gateway.tiers["standard"].engine.asked


def test_where_standard_cannot_answer_the_fast_answer_says_why(tmp_path):
    gateway = doubtful(tmp_path)
    standard = gateway.tiers["standard"].engine
    with running(gateway) as client:
        standard.is_up = False
        assert ask(client).json()["fastpath"]["not_escalated"] == "down"
        standard.is_up, gateway.tiers["fast"].engine.words = True, ["guess"]
        standard.failure = EngineDown("died")
        answer = ask(client).json()
    assert text_of(answer) == "guess" and answer["fastpath"]["not_escalated"] == "died"
    assert gateway.is_idle


def test_an_answer_that_standard_may_not_write_so_long_stays_fast(tmp_path):
    gateway = doubtful(tmp_path, standard={"max_new_tokens": 4, "default_new_tokens": 4})
    gateway.tiers["fast"].engine.words = None
    with running(gateway) as client:
        answer = ask(client, max_tokens=9).json()
    assert answer["service_tier"] == "fast" and "at most 4" in answer["fastpath"]["not_escalated"]


def test_the_deadline_is_that_of_the_request(tmp_path):
    gateway = doubtful(tmp_path)
    gateway.tiers["standard"].engine.delay = 5.0
    with running(gateway) as client:
        start = time.monotonic()
        response = ask(client, headers={"x-request-deadline-ms": "500"})
        assert response.status_code == 504 and error_of(response)["code"] == "deadline_exceeded"
        assert time.monotonic() - start < 3
        wait_for(lambda: gateway.is_idle)
    assert len(gateway.tiers["standard"].engine.cancelled) == 1


def test_a_client_that_hangs_up_meanwhile_cancels_standards_work(tmp_path):
    gateway = doubtful(tmp_path)
    standard = gateway.tiers["standard"].engine
    standard.delay = 5.0
    body = json.dumps({**CHAT, "max_tokens": 1, "service_tier": "fast", "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with running(gateway) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
            line.sendall(head.encode() + body)
            wait_for(lambda: standard.jobs)
        wait_for(lambda: standard.cancelled and gateway.is_idle)


def test_draining_does_not_refuse_the_second_half_of_a_request(tmp_path):
    gateway = doubtful(tmp_path)
    gateway.tiers["fast"].engine.delay = 0.3
    with running(gateway) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, client)
        wait_for(lambda: gateway.tiers["fast"].queue.running)
        gateway.drain()
        assert answer.result().json()["service_tier"] == "standard"


def test_what_standard_answers_needs_no_confirmation(tmp_path):
    gateway = doubtful(tmp_path, policy="gate")
    gateway.tiers["fast"].engine.words = [CALL]
    gateway.tiers["standard"].engine.words = [CALL]
    with running(gateway) as client:
        answer = ask(client, tools=[PAY]).json()
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert "status" not in call and answer["fastpath"]["policy"] == "escalate"
    assert len(gateway.tiers["standard"].engine.asked) == 1


def test_a_likely_call_is_gated_as_ever_and_one_nobody_may_redo_or_confirm_tells_both(tmp_path):
    gateway = doubtful(tmp_path, logprob=-0.1, policy="gate")
    gateway.tiers["fast"].engine.words = [CALL]
    gateway.tiers["standard"].engine.words = [CALL]
    with running(gateway) as client:
        assert ask(client, tools=[PAY]).json()["fastpath"]["verdict"] == "confirmed"
    keys = [{"key": "f" * 20, "name": "f", "tier": "fast"}]
    gateway = doubtful(tmp_path, policy="gate", keys=keys)
    gateway.tiers["fast"].engine.words = [CALL]
    with running(gateway) as client:
        answer = ask(client, tools=[PAY], headers={"authorization": "Bearer " + "f" * 20}).json()
    note = answer["fastpath"]
    assert note["verdict"] == "unconfirmed" and note["not_escalated"] and note["mean_logprob"] == -2.0


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"escalate_below": 0.5}, "serve.escalate_below"),
        ({"escalate_below": float("-inf")}, "serve.escalate_below"),
        (
            {"escalate_below": -1, "tiers": ["fast", "deep"], "default_tier": "deep"},
            "needs the tiers fast and",
        ),
        ({"escalate_below": -1, "tiers": ["standard"]}, "needs the tiers fast and standard"),
    ],
)
def test_a_threshold_that_cannot_work_is_refused(tmp_path, serve, words):
    with pytest.raises(ConfigError, match=words):
        scripted_gateway(tmp_path, **serve)


def test_on_models_of_their_own_it_is_the_answer_of_standard(tmp_path):
    models = {"model": write_tiny(tmp_path / "tiny"), "fast": write_tiny(tmp_path / "small", depth=2)}
    given = {**CHAT, "max_tokens": 8, "temperature": 0}
    with ServeProcess(tmp_path, **models, tiers=["fast", "standard"], escalate_below=-0.001) as server:
        sdk = openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)
        answers = {tier: sdk.chat.completions.create(**given, service_tier=tier, logprobs=True)
                   for tier in ("fast", "standard")}  # fmt: skip
    fast, standard = answers["fast"], answers["standard"]
    assert fast.service_tier == "standard"
    assert fast.choices[0].message.content == standard.choices[0].message.content
    assert fast.choices[0].logprobs == standard.choices[0].logprobs
    assert len(fast.choices[0].logprobs.content) == 8 and fast.fastpath["mean_logprob"] < -0.001
