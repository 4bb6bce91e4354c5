"""An OpenAI-compatible URL as an engine: here another gateway of ours."""

import asyncio
import json

import httpx
import pytest
from serving import CHAT, error_of, running, scripted_gateway, wait_for

from fastpath.config_serve import TierConfig
from fastpath.errors import ModelError
from serve.health import PROBE
from serve.openai_engine import OpenAIEngine
from serve.tiers import Tier
from serve.tools import split_calls, written_calls


@pytest.fixture
def upstream(tmp_path):
    gateway = scripted_gateway(tmp_path, standard={"running": 1, "queue": 0})
    with running(gateway) as client:
        yield gateway, str(client.base_url)


def behind(tmp_path, url):
    """A gateway whose standard tier is answered at `url`."""
    gateway = scripted_gateway(tmp_path, standard={"url": f"{url}/v1", "model": "tiny"})
    assert isinstance(gateway.tiers["standard"].engine, OpenAIEngine)
    return gateway


def ask(client, **changes):
    return client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 3, **changes})


def test_answers_pass_through_whole_and_streamed(tmp_path, upstream):
    with running(behind(tmp_path, upstream[1])) as client:
        answer = ask(client).json()
        assert answer["choices"][0]["message"]["content"] == "0 1 2 "
        assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
        text = client.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 2}).json()
        assert text["choices"][0] == {"index": 0, "text": "0 1 ", "logprobs": None, "finish_reason": "length"}
        assert '"content": "2 "' in ask(client, stream=True).text
        assert client.get("/ready").json()["tiers"]["standard"] == "ok"


def test_a_full_queue_there_is_429_here(tmp_path, upstream):
    upstream[0].tiers["standard"].engine.delay = 0.2
    asked = {"json": {**CHAT, "stream": True}}
    with (
        running(behind(tmp_path, upstream[1])) as client,
        httpx.stream("POST", f"{upstream[1]}/v1/chat/completions", **asked),
    ):
        response = ask(client)
    assert response.status_code == 429 and error_of(response)["code"] == "queue_full"


def test_what_it_refuses_is_refused_and_when_it_is_gone_that_is_503(tmp_path, upstream):
    gateway = behind(tmp_path, upstream[1])
    with running(gateway) as client:
        upstream[0].tiers["standard"].engine.context_tokens = 50
        assert ask(client, max_tokens=60).status_code == 400
        gateway.tiers["standard"].engine._url = "http://127.0.0.1:9/v1"
        response = ask(client)
        assert response.status_code == 503 and error_of(response)["code"] == "engine_down"


def test_a_deadline_here_ends_the_work_there(tmp_path, upstream):
    engine = upstream[0].tiers["standard"].engine
    engine.delay = 0.3
    with running(behind(tmp_path, upstream[1])) as client:
        response = client.post(
            "/v1/chat/completions", json={**CHAT, "max_tokens": 90}, headers={"x-request-deadline-ms": "500"}
        )
        assert response.status_code == 504
        wait_for(lambda: engine.cancelled and upstream[0].is_idle)


@pytest.mark.parametrize(("priority", "sent"), [("none", None), ("low_first", 2), ("high_first", -2)])
def test_the_tier_is_told_as_the_server_understands_it(priority, sent):
    config = TierConfig(url="http://x/v1", model="m", priority=priority)
    engine = OpenAIEngine("deep", config)
    job = PROBE.job(Tier("deep", 2, config, "m", None, engine))
    assert engine.body(job).get("priority") == sent
    assert engine.body(job)["model"] == "m"


def test_a_url_without_the_model_is_refused_at_start(upstream):
    for url, words in (("http://127.0.0.1:9/v1", "no list of models"), (f"{upstream[1]}/v1", "serves tiny")):
        engine = OpenAIEngine("fast", TierConfig(url=url, model="other"))
        with pytest.raises(ModelError, match=words):
            asyncio.run(engine.start())


PAY = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}


def test_calls_of_tools_pass_through_and_their_text_comes_first(tmp_path, upstream):
    arguments = {"to": "</tool_call>", "sum": 3}
    written = json.dumps({"name": "pay", "arguments": arguments}).replace("<", r"\u003c")
    for stream in (False, True):
        upstream[0].tiers["standard"].engine.words = [f"Now. <tool_call>{written}</tool_call>"]
        with running(behind(tmp_path, upstream[1])) as client:
            response = ask(client, tools=[PAY], max_tokens=1, stream=stream)
        if stream:
            assert '"finish_reason": "tool_calls"' in response.text and '"name": "pay"' in response.text
            continue
        (choice,) = response.json()["choices"]
        (call,) = choice["message"]["tool_calls"]
        assert choice["message"]["content"] == "Now." and choice["finish_reason"] == "tool_calls"
        assert json.loads(call["function"]["arguments"]) == arguments


def test_a_call_streamed_in_parts_is_put_together_and_a_broken_one_stays_text():
    parts = [
        {"index": 0, "function": {"name": "pay", "arguments": ""}},
        {"index": 1, "function": {"name": "pay"}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    text, calls = split_calls(written_calls(parts), {"pay"})
    assert text == "" and [call["function"]["arguments"] for call in calls] == ['{"a": 1}', "{}"]
    text, calls = split_calls(written_calls(parts[:1] + parts[2:3]), {"pay"})
    assert calls == [] and '{"a"' in text


def test_a_stopped_call_of_a_url_engine_does_not_end_with_tool_calls(tmp_path, upstream):
    gateway = scripted_gateway(tmp_path, policy="gate", fast={"url": f"{upstream[1]}/v1", "model": "tiny"})
    upstream[0].tiers["standard"].engine.words = ['<tool_call>{"name": "pay"}</tool_call>']
    with running(gateway) as client:
        answer = ask(client, tools=[PAY], max_tokens=1, mode="fast").json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["fastpath"]["verdict"] == "disagreed"
