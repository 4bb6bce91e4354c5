"""The endpoint over scripted engines: tiers, limits, errors, keys."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from serving import CHAT, error_of, running, scripted_gateway, wait_for

from serve.errors import EngineDown

KEYS = (
    {"key": "k" * 20, "name": "all"},
    {"key": "f" * 20, "name": "only fast", "tier": "fast"},
    {"key": "s" * 20, "name": "slowly", "requests_per_minute": 1},
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running(scripted_gateway(tmp_path_factory.mktemp("run"))) as client:
        yield client


def ask(client, **changes):
    return client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 3, **changes})


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ({}, "standard"),
        ({"service_tier": "fast"}, "fast"),
        ({"service_tier": "priority"}, "fast"),
        ({"service_tier": "auto"}, "standard"),
        ({"service_tier": "default"}, "standard"),
        ({"service_tier": "deep"}, "deep"),
        ({"mode": "fast"}, "fast"),
        ({"model": "tiny:fast"}, "fast"),
        ({"model": "tiny:deep", "service_tier": "auto"}, "deep"),
    ],
)
def test_one_parameter_chooses_the_tier_and_the_answer_says_which(client, asked, served):
    response = ask(client, **asked)
    assert response.status_code == 200
    assert response.json()["service_tier"] == response.headers["x-service-tier-served"] == served
    assert response.json()["choices"][0]["message"]["content"] == "0 1 2 "


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service_tier": "quick"}, "fast, standard, deep"),
        ({"service_tier": "fast", "mode": "deep"}, "name one tier"),
        ({"model": "other"}, "models: tiny, tiny:fast"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": 2049}, "writes at most 2047"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n: "),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages.0",
        ),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, "2048 tokens"),
        ({"temprature": 0}, "did you mean 'temperature'?"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_bad_requests_are_named_in_one_line(client, change, words):
    response = ask(client, **change)
    assert response.status_code in (400, 404)
    assert words in error_of(response)["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"model":"\\ud800"}', b"NaN"]
)
def test_malformed_bodies_are_refused(client, body):
    response = client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


def test_unknown_routes_and_methods_have_the_same_shape(client):
    assert error_of(client.get("/v1/nothing"))
    assert client.get("/v1/nothing").status_code == 404
    assert error_of(client.get("/v1/completions"))
    assert client.get("/v1/completions").status_code == 405


def test_bodies_too_large_or_too_slow_are_refused(tmp_path):
    with running(scripted_gateway(tmp_path, body_bytes=1000, body_seconds=0.3)) as client:
        assert ask(client, user="x" * 2000).status_code == 413

        def endless():
            for _ in range(40):
                yield b" " * 100

        assert client.post("/v1/completions", content=endless()).status_code == 413
        with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
            line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            assert b"408" in line.recv(1000)


def test_a_stream_is_the_answer_in_pieces(client):
    with client.stream("POST", "/v1/chat/completions", json={**CHAT, "max_tokens": 3, "stream": True,
                       "stream_options": {"include_usage": True}}) as response:  # fmt: skip
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == "0 1 2 "
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4},
    }  # fmt: skip
    assert {chunk["service_tier"] for chunk in chunks} == {"standard"}


def test_queue_limits_hold_and_the_rest_hears_429(tmp_path):
    gateway = scripted_gateway(tmp_path, fast={"model": "small", "running": 2, "queue": 3})
    engine = gateway.tiers["fast"].engine
    engine.delay = 0.5
    with running(gateway) as client, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(client, service_tier="fast"), range(12)))
        statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 5 and statuses.count(429) == 7
    assert engine.most_running == 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert error_of(refused)["code"] == "queue_full"
    assert int(refused.headers["retry-after"]) >= 1
    assert int(refused.headers["retry-after-ms"]) > 0


def test_openai_client_waits_and_retries_after_429(tmp_path):
    gateway = scripted_gateway(tmp_path, fast={"model": "small", "running": 1, "queue": 0})
    gateway.tiers["fast"].engine.delay = 0.5
    with running(gateway) as client:
        sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=5)
        thread = threading.Thread(target=ask, args=(client,), kwargs={"service_tier": "fast"})
        thread.start()
        wait_for(lambda: gateway.tiers["fast"].queue.running)
        answer = sdk.chat.completions.create(**CHAT, max_tokens=1, service_tier="fast")
        thread.join()
        assert answer.service_tier == "fast"
        assert 'rejections_total{reason="queue_full",tier="fast"}' in client.get("/metrics").text


def test_a_passed_deadline_is_504_and_cancels_the_work(tmp_path):
    gateway = scripted_gateway(tmp_path, fast={"model": "small", "deadline_seconds": 0.2})
    engine = gateway.tiers["fast"].engine
    engine.delay = 5.0
    with running(gateway) as client:
        response = ask(client, service_tier="fast")
        assert response.status_code == 504 and error_of(response)["code"] == "deadline_exceeded"
        assert len(engine.cancelled) == 1 and not engine.jobs
        sooner = client.post("/v1/chat/completions", json=CHAT, headers={"x-request-deadline-ms": "-3"})
        assert sooner.status_code == 400


def test_a_deadline_within_a_stream_ends_it_with_an_error(tmp_path):
    gateway = scripted_gateway(tmp_path)
    gateway.tiers["standard"].engine.delay = 0.1
    with running(gateway) as client:
        sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any")
        stream = sdk.chat.completions.create(
            **CHAT, stream=True, max_tokens=100, extra_headers={"x-request-deadline-ms": "350"}
        )
        with pytest.raises(openai.APIError, match="not done within"):
            list(stream)
    assert gateway.is_idle


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_cancels_its_work(tmp_path, stream):
    gateway = scripted_gateway(tmp_path)
    engine = gateway.tiers["standard"].engine
    engine.delay = 0.05
    body = json.dumps({**CHAT, "stream": stream, "max_tokens": 500}).encode()
    with running(gateway) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            line.sendall(head.encode() + body)
            wait_for(lambda: engine.jobs)
            time.sleep(0.1)
        wait_for(lambda: engine.cancelled)
        wait_for(lambda: gateway.is_idle)


def test_engine_down_is_503_and_the_other_tier_answers(tmp_path):
    gateway = scripted_gateway(tmp_path)
    gateway.tiers["fast"].engine.is_up = False
    with running(gateway) as client:
        response = ask(client, service_tier="fast")
        assert response.status_code == 503 and response.headers["retry-after"]
        assert ask(client).status_code == 200
        assert client.get("/ready").status_code == 503
        assert client.get("/ready").json()["tiers"] == {"fast": "down", "standard": "ok", "deep": "ok"}
        assert client.get("/health").status_code == 200


def test_no_fallback_unless_it_is_allowed_and_then_the_answer_says_so(tmp_path):
    gateway = scripted_gateway(tmp_path, allow_fallback=True)
    gateway.tiers["fast"].engine.is_up = False
    with running(gateway) as client:
        response = ask(client, service_tier="fast")
    assert response.status_code == 200
    assert response.json()["service_tier"] == response.headers["x-service-tier-served"] == "standard"


def test_an_engine_that_dies_amid_a_stream_ends_it_with_an_error(tmp_path):
    gateway = scripted_gateway(tmp_path)
    engine = gateway.tiers["standard"].engine
    engine.delay = 0.05
    with running(gateway) as client:
        sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any")
        stream = sdk.chat.completions.create(**CHAT, stream=True, max_tokens=100)
        next(stream)
        engine.failure = EngineDown("died")
        with pytest.raises(openai.APIError, match="died"):
            list(stream)


def test_draining_refuses_new_requests_and_finishes_the_others(tmp_path):
    gateway = scripted_gateway(tmp_path)
    gateway.tiers["standard"].engine.delay = 0.1
    with running(gateway) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, client, max_tokens=5)
        wait_for(lambda: gateway.tiers["standard"].queue.running)
        gateway.drain()
        late = ask(client)
        assert late.status_code == 503 and error_of(late)["code"] == "draining"
        assert answer.result().status_code == 200
        assert gateway.is_idle


def test_keys_have_a_ceiling_and_a_rate(tmp_path):
    with running(scripted_gateway(tmp_path, keys=KEYS)) as client:

        def status(key, **changes):
            client.headers["authorization"] = key
            return ask(client, **changes).status_code

        assert status("") == status("Bearer wrong") == status("Basic " + "k" * 20) == 401
        assert client.get("/v1/models").status_code == client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == 200
        assert status("Bearer " + "k" * 20, service_tier="deep") == 200
        assert status("Bearer " + "f" * 20, service_tier="fast") == 200
        assert status("Bearer " + "f" * 20) == 403
        assert status("Bearer " + "s" * 20) == 200
        assert status("Bearer " + "s" * 20) == 429


def test_models_lists_every_tier_with_its_measured_gap(tmp_path):
    gap = {"simple": {"generation": {"gap": 0.01}}}
    with running(scripted_gateway(tmp_path, gaps={"fast": gap})) as client:
        every = {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}
        assert list(every) == ["tiny", "tiny:fast", "tiny:standard", "tiny:deep"]
        assert every["tiny:fast"]["measured_gap"] == gap and every["tiny"]["measured_gap"] is None
        assert every["tiny:fast"]["answered_by"] == "small"
        assert client.get("/v1/models/tiny:deep").json() == every["tiny:deep"]
        assert client.get("/v1/models/none").status_code == 404


def test_metrics_count_by_tier(client):
    ask(client, service_tier="fast")
    text = client.get("/metrics").text
    for name in ("time_to_first_token_seconds_count", "prefix_cache_hits_total", "num_requests_waiting"):
        assert f'fastpath_{name}{{tier="fast"}}' in text


def test_many_who_ask_whether_it_is_ready_cost_one_probe(tmp_path):
    gateway = scripted_gateway(tmp_path)
    engine = gateway.tiers["fast"].engine
    engine.delay = 0.2
    with running(gateway) as client, ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: client.get("/ready").status_code, range(16)))
        assert states == [200] * 16 and len(engine.asked) == 1
        time.sleep(1.1)
        assert client.get("/ready").status_code == 200 and len(engine.asked) == 2
