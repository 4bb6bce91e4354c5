"""Log-probabilities: those of the model itself, as OpenAI tells them."""

import asyncio
from contextlib import contextmanager

import openai
import pytest
import torch
from serving import CHAT, error_of, running, scripted_gateway
from test_serve_engine import PROMPTS, answer, played, spec
from tiny import byte_tokenizer, tiny_llama, write_tiny

from serve.engine import Piece
from serve.model_worker import BatchedModel
from serve.scheduler import request_name
from serve.text_stream import token_text
from serve.worker import Worker

SETTINGS = [
    {"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 2.0, "top_p": 0.3}, {"temperature": 0.3},
]  # fmt: skip


def plain_logprobs(prompt, tokens):
    """Of each token after the prompt, by one forward pass."""
    with torch.no_grad():
        logits = tiny_llama()(torch.tensor([[*prompt, *tokens]])).logits[0].float()
    rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return rows.gather(-1, torch.tensor(tokens)[:, None]).squeeze(-1).tolist()


def test_they_are_those_of_a_plain_forward_pass_however_a_token_was_drawn(tmp_path):
    async def play(model):
        model.policy.step_seconds = 1e-9  # prompts in chunks, others decode meanwhile
        return await asyncio.gather(
            *(
                answer(model, request_name(1, f"x{n}"), prompt, **SETTINGS[n % len(SETTINGS)])
                for n, prompt in enumerate(PROMPTS)
            )
        )

    outputs = played(BatchedModel(spec(write_tiny(tmp_path))), play)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        expected = plain_logprobs(prompt, output.generated_tokens)
        assert output.logprobs == pytest.approx(expected, abs=1e-4)
    assert min(min(output.logprobs) for output in outputs[::4]) < -1e-3  # at temperature 0 too


def worked(model, **job):
    """The events of one job of a worker."""

    async def play(model):
        events, ended = [], asyncio.Event()

        def send(event):
            events.append(event)
            if event["event"] != "text":
                ended.set()

        asked = {
            "op": "submit", "id": "x", "rank": 1, "tier": "standard", "messages": None, "tools": None,
            "prompt": list(range(1, 30)), "new_tokens": 6, "context_tokens": 2048, "temperature": 1.0,
            "default_new_tokens": 9, "top_p": 1.0, "stop": [], "logprobs": True,
        }  # fmt: skip
        Worker(model, send).handle(asked | job)
        await asyncio.wait_for(ended.wait(), 20)
        return events

    return played(model, play)


def test_a_worker_tells_of_every_token_it_wrote_and_of_none_unless_asked(tmp_path):
    model = BatchedModel(spec(write_tiny(tmp_path)))
    events = worked(model)
    told = [token for event in events for token in event["logprobs"]]
    assert len(told) == events[-1]["new_tokens"] == 6
    assert all(logprob < 0 for _, logprob in told)
    assert not any("logprobs" in event for event in worked(model, logprobs=False))


def test_an_end_token_counts_and_has_no_text(tmp_path):
    model = BatchedModel(spec(write_tiny(tmp_path)))
    model.eos = set(range(len(model.tokenizer)))  # whatever comes ends it
    events = worked(model)
    assert events[-1]["reason"] == "stop" and events[-1]["new_tokens"] == 1
    assert len([token for event in events for token in event["logprobs"]]) == 1


def test_texts_of_tokens_join_to_the_whole():
    tokenizer = byte_tokenizer()
    tokens = tokenizer("two words").input_ids
    texts = [token_text(tokenizer, tokens[n - 1] if n else None, token) for n, token in enumerate(tokens)]
    assert "".join(texts) == "two words"


@contextmanager
def sdk_of(gateway):
    with running(gateway) as client:
        yield openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0), client


def test_openai_client_reads_those_of_a_chat_whole_and_streamed(tmp_path):
    with sdk_of(scripted_gateway(tmp_path)) as (sdk, _):
        whole = sdk.chat.completions.create(**CHAT, max_tokens=3, logprobs=True, top_logprobs=0)
        told = whole.choices[0].logprobs.content
        assert [(token.token, token.logprob, token.top_logprobs) for token in told] == [
            ("0 ", -0.5, []), ("1 ", -0.5, []), ("2 ", -0.5, []),
        ]  # fmt: skip
        assert bytes(told[0].bytes) == b"0 "
        chunks = list(sdk.chat.completions.create(**CHAT, max_tokens=3, logprobs=True, stream=True))
        streamed = [chunk.choices[0].logprobs for chunk in chunks]
        assert [token.token for one in streamed if one for token in one.content] == ["0 ", "1 ", "2 "]
        assert sdk.chat.completions.create(**CHAT, max_tokens=3).choices[0].logprobs is None


@pytest.mark.parametrize("asked", [0, 1, True])
def test_openai_client_reads_those_of_a_completion_whole_and_streamed(tmp_path, asked):
    given = {"model": "tiny", "prompt": "x", "max_tokens": 3, "logprobs": asked}
    with sdk_of(scripted_gateway(tmp_path)) as (sdk, _):
        whole = sdk.completions.create(**given).choices[0].logprobs
        assert (whole.tokens, whole.token_logprobs) == (["0 ", "1 ", "2 "], [-0.5] * 3)
        assert whole.text_offset == [0, 2, 4] and whole.top_logprobs is None
        streamed = [chunk.choices[0].logprobs for chunk in sdk.completions.create(**given, stream=True)]
        assert [offset for one in streamed if one for offset in one.text_offset] == [0, 2, 4]


def test_alternatives_are_refused_in_one_line(tmp_path):
    with sdk_of(scripted_gateway(tmp_path)) as (_, client):
        for change in ({"logprobs": True, "top_logprobs": 2}, {"logprobs": 3}):
            response = client.post("/v1/chat/completions", json={**CHAT, **change})
            assert response.status_code == 400 and "logprobs" in error_of(response)["message"]


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_url_is_asked_for_them_and_says_so_if_it_has_none(tmp_path, path):
    upstream = scripted_gateway(tmp_path)
    engine = upstream.tiers["standard"].engine
    body = {**CHAT, "logprobs": True} if "chat" in path else {"model": "tiny", "prompt": "x", "logprobs": 0}
    with running(upstream) as there:
        here = scripted_gateway(tmp_path, standard={"url": f"{there.base_url}/v1", "model": "tiny"})
        with running(here) as client:
            answer = client.post(f"/v1/{path}", json={**body, "max_tokens": 2})
            told = answer.json()["choices"][0]["logprobs"]
            values = [token["logprob"] for token in told.get("content", [])] or told["token_logprobs"]
            assert values == [-0.5, -0.5] and engine.asked[-1].logprobs
            client.post(f"/v1/{path}", json={**body, "logprobs": None, "max_tokens": 2})
            assert not engine.asked[-1].logprobs

            async def silent(job_id):
                yield Piece("words", "stop", new_tokens=1)

            engine.stream = silent
            refused = client.post(f"/v1/{path}", json={**body, "max_tokens": 2})
    assert refused.status_code in (200, 503)
    assert "gives no log-probabilities" in refused.text
