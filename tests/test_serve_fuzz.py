"""Requests that nobody would write: never a 500, never a hang."""

import asyncio
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import error_of, scripted_gateway

from serve.api import ChatRequest, CompletionRequest
from serve.gateway import build_app

PATHS = {"/v1/chat/completions": ChatRequest, "/v1/completions": CompletionRequest}
SECONDS = 20.0

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"]), "content": scalars},
        optional={"name": scalars, "tool_calls": anything, "tool_call_id": scalars},
    ),
    max_size=3,
)
LIKELY = {
    "model": st.sampled_from(["tiny", "tiny:fast", "tiny:slow", ":", ""]),
    "messages": messages,
    "prompt": st.text(max_size=30) | st.lists(st.integers(-1, 300), max_size=5),
    "max_tokens": st.integers(-2, 40),
    "max_completion_tokens": st.integers(-2, 40),
    "stream": st.booleans(),
    "temperature": st.floats(-1, 3),
    "top_p": st.floats(-1, 2),
    "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3),
    "service_tier": st.sampled_from(["fast", "standard", "deep", "auto", "default", "priority", "flex", ""]),
    "tools": anything,
    "stream_options": anything,
    "logprobs": st.booleans() | st.integers(-1, 7),
    "top_logprobs": st.integers(-1, 2),
}


@st.composite
def requests(draw):
    """A path, headers and a body: mostly almost right."""
    path = draw(st.sampled_from(sorted(PATHS)))
    fields = sorted(PATHS[path].model_fields)
    body = {"model": "tiny"}
    body |= {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"prompt": "hi"}
    for name in draw(st.lists(st.sampled_from([*fields, "messages", "prompt", "unknown"]), max_size=5)):
        body[name] = draw(LIKELY.get(name, anything) if draw(st.integers(0, 3)) else anything)
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=1)):
        del body[name]
    text = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.binary(max_size=5)) + text[cut + draw(st.integers(0, 2)) :]
    deadline = draw(st.none() | st.text("0123456789.-einfa", max_size=6))
    return path, {} if deadline is None else {"x-request-deadline-ms": deadline}, text


def play(gateway, app, path, headers, body):
    async def ask():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            response = await asyncio.wait_for(client.post(path, content=body, headers=headers), SECONDS)
        for _ in range(100):  # what a stream left behind ends in the next rounds of the loop
            if gateway.is_idle:
                break
            await asyncio.sleep(0)
        return response

    return asyncio.run(ask())


def check(served, request):
    gateway, app = served
    response = play(gateway, app, *request)
    assert response.status_code in (200, 400, 404, 413, 429, 504), (request, response.text)
    if response.status_code != 200:
        assert error_of(response)["message"]
    assert gateway.is_idle, request


quiet = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    gateway = scripted_gateway(tmp_path_factory.mktemp("run"), policy="gate", escalate_below=-0.6)
    gateway.tiers["fast"].engine.logprob = -0.7
    return gateway, build_app(gateway)


@settings(quiet, max_examples=150, derandomize=True)
@given(request_=requests())
def test_odd_requests_get_an_answer(served, request_):
    check(served, request_)


@pytest.mark.slow
@settings(quiet, max_examples=10_000)
@given(request_=requests())
def test_ten_thousand_odd_requests_get_an_answer(served, request_):
    check(served, request_)


def test_the_schema_describes_both_bodies(served):
    schema = served[1].openapi()
    for path, kind in PATHS.items():
        body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        described = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        assert set(described["properties"]) == set(kind.model_fields)
