"""Calls of tools: told from text, and confirmed by standard where they cannot be taken back."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from serving import CHAT, running, scripted_gateway, wait_for

from serve.api import Tool
from serve.tools import reversible_names, same_calls, split_calls

READ = {"type": "function", "function": {"name": "read", "annotations": {"readOnlyHint": True}}}
PAY = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_calls_are_told_from_the_text_around_them():
    text, calls = split_calls(f"I will. {call('pay', to='x', sum=3)}{call('read')}", {"pay", "read"})
    assert text == "I will."
    assert [c["function"]["name"] for c in calls] == ["pay", "read"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"to": "x", "sum": 3}
    assert len({c["id"] for c in calls}) == 2


@pytest.mark.parametrize(
    "text",
    ["no call", call("unknown"), "<tool_call>{}</tool_call>", "<tool_call>{'a'}</tool_call>",
     call("pay")[:-3],
     '<tool_call>{"name": "pay", "arguments": [1]}</tool_call>', '<tool_call>{"name": ["pay"]}</tool_call>'],
)  # fmt: skip
def test_what_is_no_whole_call_of_a_known_tool_stays_text(text):
    assert split_calls(text, {"pay"}) == (text, [])


def test_order_of_keys_is_no_difference_but_any_argument_is():
    one, two, other = (split_calls(text, {"pay"})[1] for text in (
        call("pay", a=1, b=2), call("pay", b=2, a=1), call("pay", a=1, b=3)))  # fmt: skip
    assert same_calls(one, two) and not same_calls(one, other) and not same_calls(one, [])


@pytest.mark.parametrize(
    ("hints", "allowed", "is_reversible"),
    [
        (None, (), False),
        ({"readOnlyHint": True}, (), True),
        ({"readOnlyHint": True, "destructiveHint": True}, (), False),
        ({"readOnlyHint": "yes"}, (), False),
        ({"destructiveHint": False}, (), False),
        (None, ("act",), True),
        ("x", (), False),
    ],
)
def test_a_tool_is_reversible_only_if_somebody_says_so(hints, allowed, is_reversible):
    for place in ("tool", "function"):
        tool = {"function": {"name": "act"}}
        (tool if place == "tool" else tool["function"])["annotations"] = hints
        assert ("act" in reversible_names([Tool(**tool)], allowed)) == is_reversible


def asked(tmp_path, policy, fast, standard, *, tier="fast", **changes):
    gateway = scripted_gateway(tmp_path, policy=policy)
    gateway.tiers["fast"].engine.words = [fast]
    gateway.tiers["standard"].engine.words = [standard]
    with running(gateway) as client:
        sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0)
        tools = {"tools": [READ, PAY], "max_tokens": 1, "extra_body": {"mode": tier}}
        answer = sdk.chat.completions.create(**CHAT, **tools, **changes)
        return answer, gateway.tiers["standard"].engine.words == []


def test_gate_lets_through_what_standard_calls_too(tmp_path):
    answer, was_asked = asked(tmp_path, "gate", call("pay", sum=3), call("pay", sum=3))
    (choice,) = answer.choices
    assert was_asked and choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "pay"
    assert choice.message.tool_calls[0].status == "confirmed"
    assert answer.fastpath["verdict"] == "confirmed" and answer.service_tier == "fast"


@pytest.mark.parametrize("other", [call("pay", sum=30), call("read"), "I would rather not."])
def test_gate_stops_and_says_so_where_standard_does_something_else(tmp_path, other):
    answer, _ = asked(tmp_path, "gate", call("pay", sum=3), other)
    (choice,) = answer.choices
    assert choice.message.tool_calls is None and choice.finish_reason == "length"
    assert "do not agree" in choice.message.content
    assert answer.fastpath["verdict"] == "disagreed"
    assert answer.fastpath["proposed"][0]["function"]["name"] == "pay"


@pytest.mark.parametrize(
    ("policy", "fast", "tier"),
    [("gate", call("read"), "fast"), ("gate", "words", "fast"), ("gate", call("pay"), "standard"),
     ("off", call("pay"), "fast")],
)  # fmt: skip
def test_nothing_is_asked_again_where_nothing_is_at_stake(tmp_path, policy, fast, tier):
    answer, was_asked = asked(tmp_path, policy, fast, fast, tier=tier)
    assert was_asked == (tier == "standard")
    assert not hasattr(answer, "fastpath")
    assert bool(answer.choices[0].message.tool_calls) == fast.startswith("<")


def test_annotate_marks_the_calls_that_cannot_be_taken_back(tmp_path):
    answer, was_asked = asked(tmp_path, "annotate", call("read") + call("pay"), "")
    read, pay = answer.choices[0].message.tool_calls
    assert not was_asked and pay.status == "proposed" and not hasattr(read, "status")


def test_streamed_calls_are_those_of_the_whole_answer(tmp_path):
    gateway = scripted_gateway(tmp_path)
    gateway.tiers["standard"].engine.words = [f"Now. {call('pay', a=1)}"]
    with running(gateway) as client:
        sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any")
        chunks = list(sdk.chat.completions.create(**CHAT, tools=[PAY], max_tokens=1, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == "Now."
    ((one,),) = [delta.tool_calls for delta in deltas if delta.tool_calls]
    assert (one.index, one.function.name, one.function.arguments) == (0, "pay", '{"a": 1}')
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_annotations_are_for_the_gateway_not_for_the_model(tmp_path):
    gateway = scripted_gateway(tmp_path)
    engine = gateway.tiers["standard"].engine
    engine.delay = 0.2
    with running(gateway) as client:
        client.post("/v1/chat/completions", json={**CHAT, "tools": [READ], "max_tokens": 1})
    assert "annotations" not in json.dumps(engine.asked[0].tools)


def gated(tmp_path, **changes):
    gateway = scripted_gateway(tmp_path, policy="gate", **changes)
    gateway.tiers["fast"].engine.words = [call("pay")]
    gateway.tiers["standard"].engine.words = [call("pay")]
    return gateway


def pay(client, **headers):
    asked = {**CHAT, "tools": [PAY], "max_tokens": 1, "mode": "fast"}
    return client.post("/v1/chat/completions", json=asked, headers=headers)


def test_a_confirmation_has_the_time_that_the_request_has_left(tmp_path):
    gateway = gated(tmp_path)
    gateway.tiers["standard"].engine.delay = 5.0
    with running(gateway) as client:
        start = time.monotonic()
        assert pay(client, **{"x-request-deadline-ms": "500"}).status_code == 504
        assert time.monotonic() - start < 3


def test_draining_does_not_refuse_the_confirmation_of_a_request_that_runs(tmp_path):
    gateway = gated(tmp_path)
    gateway.tiers["fast"].engine.delay = 0.3
    with running(gateway) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(pay, client)
        wait_for(lambda: gateway.tiers["fast"].queue.running)
        gateway.drain()
        assert answer.result().json()["fastpath"]["verdict"] == "confirmed"
        assert gateway.is_idle


def test_a_key_that_may_not_use_standard_cannot_have_it_confirm(tmp_path):
    gateway = gated(tmp_path, keys=[{"key": "f" * 20, "name": "f", "tier": "fast"}])
    with running(gateway) as client:
        answer = pay(client, authorization="Bearer " + "f" * 20).json()
    assert answer["fastpath"]["verdict"] == "unconfirmed" and answer["fastpath"]["proposed"]
    assert not answer["choices"][0]["message"].get("tool_calls")
    assert gateway.tiers["standard"].engine.words
