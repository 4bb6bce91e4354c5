"""`python -m serve` on tiny models: OpenAI's client, and what happens when things die."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from serving import CHAT, ServeProcess, error_of, wait_for
from tiny import write_tiny

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"model": write_tiny(folder / "tiny"), "fast": write_tiny(folder / "small", depth=2)}


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    with ServeProcess(tmp_path_factory.mktemp("serve"), **models) as server:
        yield server


@pytest.fixture
def sdk(server):
    return openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)


def greedy(sdk, **changes):
    return sdk.chat.completions.create(**CHAT | {"max_tokens": 12, "temperature": 0} | changes)


def test_openai_client_chats_in_every_tier(sdk):
    answers = {tier: greedy(sdk, service_tier=tier) for tier in ("fast", "standard", "deep")}
    assert [answer.service_tier for answer in answers.values()] == ["fast", "standard", "deep"]
    texts = [answer.choices[0].message.content for answer in answers.values()]
    assert texts[0] != texts[1] == texts[2]  # standard and deep are the same weights
    assert answers["fast"].usage.completion_tokens == 12
    assert answers["fast"].choices[0].finish_reason == "length"


def test_openai_client_streams_the_same_answer(sdk):
    whole = greedy(sdk).choices[0].message.content
    chunks = list(greedy(sdk, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage.completion_tokens == 12
    assert {chunk.service_tier for chunk in chunks} == {"standard"}


def test_openai_client_completes_a_text_or_tokens_and_stops(sdk):
    text = sdk.completions.create(model="tiny", prompt="hello", max_tokens=12, temperature=0)
    tokens = sdk.completions.create(model="tiny", prompt=list(b"hello"), max_tokens=1, temperature=0)
    assert tokens.usage.prompt_tokens == 5
    whole = text.choices[0].text
    stopped = sdk.completions.create(
        model="tiny", prompt="hello", max_tokens=12, temperature=0, stop=whole[4:6]
    )
    assert stopped.choices[0].text == whole[: whole.index(whole[4:6])]
    assert stopped.choices[0].finish_reason == "stop"


def test_tools_need_a_chat_template(sdk):
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        greedy(sdk, tools=[TOOL])


def test_a_prompt_too_long_for_its_tier_is_400(sdk):
    with pytest.raises(openai.BadRequestError, match="2048 in all") as refused:
        sdk.completions.create(model="tiny", prompt="x" * 2048, max_tokens=1)
    assert refused.value.code == "context_length_exceeded"


def test_a_shared_beginning_is_computed_once_and_counted(server, sdk):
    prompt = "once upon a time " * 20
    first, second = (
        sdk.completions.create(model="tiny:fast", prompt=prompt + end, max_tokens=1) for end in ("a", "b")
    )
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == 320
    assert 'fastpath_prefix_cache_hits_total{tier="fast"} 3' in server.client.get("/metrics").text


def test_models_and_readiness(server, sdk):
    assert [model.id for model in sdk.models.list()] == ["tiny", "tiny:fast", "tiny:standard", "tiny:deep"]
    assert server.client.get("/ready").json() == {
        "ready": True, "tiers": {"fast": "ok", "standard": "ok", "deep": "ok"},
    }  # fmt: skip


def test_an_engine_killed_amid_a_request_is_503_restarted_and_harms_no_other_tier(server, sdk):
    pids = server.workers()
    body = {**CHAT, "model": "tiny:fast"}
    os.kill(fast_worker(pids), signal.SIGSTOP)  # it cannot be done before it is killed
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(server.client.post, "/v1/chat/completions", json=body)
        wait_for(lambda: 'requests_running{tier="fast"} 1' in server.client.get("/metrics").text)
        os.kill(fast_worker(pids), signal.SIGKILL)
        response = lost.result()
    assert response.status_code == 503 and error_of(response)["code"] == "engine_down"
    assert greedy(sdk).service_tier == "standard"
    wait_for(lambda: server.client.get("/ready").json()["tiers"]["fast"] != "ok")  # told for 1 s again
    wait_for(lambda: server.client.get("/ready").status_code == 200, seconds=60)
    assert greedy(sdk, service_tier="fast").service_tier == "fast"
    assert len(server.workers() & pids) == 1
    assert 'fastpath_engine_restarts{tier="fast"} 1' in server.client.get("/metrics").text


def fast_worker(pids):
    """The process whose command line names the tier."""
    return next(pid for pid in pids if b"\0fast\0" in Path(f"/proc/{pid}/cmdline").read_bytes())


def test_sigterm_finishes_what_runs_refuses_what_comes_and_exits_0(tmp_path, models):
    with ServeProcess(tmp_path, **models, tiers=["standard"]) as server, ThreadPoolExecutor(1) as pool:
        body = {**CHAT, "max_tokens": 500}
        running = pool.submit(server.client.post, "/v1/chat/completions", json=body)
        wait_for(lambda: 'requests_running{tier="standard"} 1' in server.client.get("/metrics").text)
        (worker,) = workers = server.workers()
        os.kill(worker, signal.SIGSTOP)  # the request cannot be done before a later one came
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.client.get("/health").json()["status"] == "draining")
        late = server.client.post("/v1/chat/completions", json=CHAT)
        os.kill(worker, signal.SIGCONT)
        assert late.status_code == 503 and error_of(late)["code"] == "draining"
        assert running.result().status_code == 200
        assert server.process.wait(20) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert "Traceback" not in server.errors.read_text()


@pytest.mark.slow
def test_engines_end_with_a_gateway_that_is_killed(tmp_path, models):
    with ServeProcess(tmp_path, **models, tiers=["standard"]) as server:
        workers = server.workers()
        assert workers
        server.process.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.slow
def test_a_corrupt_model_is_refused_by_name(tmp_path, models):
    broken = write_tiny(tmp_path / "broken", depth=2)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with ServeProcess(tmp_path, model=models["model"], fast=broken) as server:
        assert server.process.wait(30) == 2
    (line,) = [line for line in server.errors.read_text().splitlines() if line.startswith("error:")]
    assert str(weights) in line and "corrupt" in line


def test_a_port_that_is_taken_is_refused_before_models_are_loaded(tmp_path, models, server):
    port = int(server.url.split(":")[2].split("/")[0])
    with ServeProcess(tmp_path, **models, port=port) as second:
        assert second.process.wait(30) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in second.errors.read_text()


def test_a_warm_prompt_longer_than_a_command_line_reaches_the_engine(tmp_path, models):
    warm = tmp_path / "warm.jsonl"
    warm.write_text(json.dumps({"prompt": "x" * 200_000}) + "\n")
    with ServeProcess(tmp_path, **models, tiers=["standard"], warm=str(warm)) as server:
        assert server.process.wait(30) == 2
    assert "the model takes fewer" in server.errors.read_text()
