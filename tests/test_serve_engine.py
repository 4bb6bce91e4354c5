"""The batched model of a worker: its answers are the model's own, whatever else runs beside them."""

import asyncio
from itertools import accumulate

import pytest
import torch
from tiny import tiny_llama, write_tiny

from fastpath.errors import ConfigError, ModelError
from serve import chunks
from serve.model_worker import BatchedModel
from serve.scheduler import request_name

PROMPTS = [list(range(n, n + 40 + 7 * n)) for n in range(1, 9)]
SHARED = list(range(100, 228))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("model"))


def spec(folder, **changes):
    tiers = {"standard": {"running": 8, "context_tokens": 2048}}
    return {
        "name": str(folder), "model": {"name": str(folder)}, "threads": 1, "tiers": tiers, "cache_gib": 0.25,
        "prefix_cache": True, "step_seconds": 10.0, "promote_seconds": 60.0, "warm": [], "scheduler": "tiers",
    } | changes  # fmt: skip


async def answer(model, name, tokens, *, count=8, temperature=0.0, top_p=1.0):
    """The tokens that follow, and the times of the first and last."""
    done = asyncio.get_running_loop().create_future()
    model.manager.register_result_handler(
        name, lambda output: done.set_result(output) if output.is_finished() else None
    )
    model.manager.add_request(
        tokens, request_id=name, max_new_tokens=count, eos_token_id=-1, record_timestamps=True,
        temperature=temperature, top_p=top_p,
    )  # fmt: skip
    output = await done
    assert not output.error
    return output


def played(model, play):
    """Run the coroutine `play(model)` with the engine started."""

    async def whole():
        await model.start()
        try:
            return await play(model)
        finally:
            model.manager.stop(hard_stop=True)

    return asyncio.run(whole())


def greedy(prompt, count=8):
    tokens = torch.tensor([prompt])
    out = tiny_llama().generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_answers_at_temperature_0_are_those_of_generate_alone_and_batched(folder, prefix_cache):
    async def play(model):
        alone = [
            (await answer(model, request_name(1, f"a{n}"), p)).generated_tokens for n, p in enumerate(PROMPTS)
        ]
        together = await asyncio.gather(
            *(answer(model, request_name(n % 3, f"b{n}"), p) for n, p in enumerate(PROMPTS))
        )
        return alone, [output.generated_tokens for output in together]

    alone, together = played(BatchedModel(spec(folder, prefix_cache=prefix_cache)), play)
    assert alone == together == [greedy(prompt) for prompt in PROMPTS]


def test_a_long_prompt_in_chunks_is_answered_as_whole_and_shares_its_beginning(folder):
    prompt = [n % 250 for n in range(700)]

    async def play(model):
        model.policy.step_seconds = 1e-9  # the smallest chunks
        name = request_name(2, "long")
        first = await answer(model, name, prompt)
        again = request_name(1, "again")
        second = await answer(model, again, [*prompt[:640], 1, 2, 3])
        cached = model.policy.cached_tokens
        return first.generated_tokens, second.generated_tokens, cached[name], cached[again]

    first, second, cold, warm = played(BatchedModel(spec(folder)), play)
    assert first == greedy(prompt) and second == greedy([*prompt[:640], 1, 2, 3])
    assert (cold, warm) == (0, 640)


def test_concurrent_prompts_that_begin_alike_are_computed_once(folder):
    async def play(model):
        names = [request_name(1, f"shared{n}") for n in range(4)]
        await asyncio.gather(*(answer(model, name, [*SHARED, n]) for n, name in enumerate(names)))
        return sorted(model.policy.cached_tokens[name] for name in names)

    assert played(BatchedModel(spec(folder)), play) == [0, 128, 128, 128]


def test_a_warm_prompt_is_in_the_cache_before_the_first_request(folder):
    rows = [{"messages": None, "prompt": SHARED, "tools": None}]

    async def play(model):
        await answer(model, request_name(1, "first"), [*SHARED, 9])
        return model.policy.cached_tokens[request_name(1, "first")]

    assert played(BatchedModel(spec(folder, warm=rows)), play) == 128
    with pytest.raises(ConfigError, match=r"serve\.warm: request 1 has 3000 tokens"):
        BatchedModel(spec(folder, warm=[{"messages": None, "prompt": [1] * 3000, "tools": None}]))


@pytest.mark.parametrize("count", [1, 2])
def test_a_prompt_is_remembered_however_short_its_answer(folder, count):
    async def play(model):
        await answer(model, request_name(1, "first"), SHARED, count=count)
        again = request_name(1, "again")
        output = await answer(model, again, [*SHARED, 1, 2])
        return model.policy.cached_tokens[again], output.generated_tokens

    assert played(BatchedModel(spec(folder)), play) == (128, greedy([*SHARED, 1, 2]))


def order_of(folder, **changes):
    """Who has the first token first: a long prompt of rank 2, or a short one of rank 1 that comes later."""

    async def play(model):
        model.policy.step_seconds = 1e-9
        deep = asyncio.create_task(answer(model, request_name(2, "deep"), [n % 250 for n in range(1500)]))
        await asyncio.sleep(0.05)
        short = [
            await answer(model, request_name(1, f"s{n}"), [n, 1, 2, *range(50)], count=1) for n in range(3)
        ]
        return (await deep).timestamps[0], [output.timestamps[0] for output in short]

    return played(BatchedModel(spec(folder, **changes)), play)


def test_a_long_prompt_yields_to_higher_tiers(folder):
    deep, short = order_of(folder)
    assert max(short) < deep


def test_age_promotes_the_lower_tier(folder):
    """Promoted past rank 1 at once, the long prompt is first although the others keep coming."""
    deep, short = order_of(folder, promote_seconds=0.001)
    assert deep < min(short)


def test_sampling_follows_each_requests_own_temperature_and_top_p(folder):
    async def play(model):
        async def several(name, **settings):
            outputs = await asyncio.gather(
                *(answer(model, request_name(1, f"{name}{n}"), SHARED, count=4, **settings) for n in range(6))
            )
            return {tuple(output.generated_tokens) for output in outputs}

        return await asyncio.gather(
            several("cold"), several("hot", temperature=2.0), several("narrow", temperature=2.0, top_p=1e-6)
        )

    cold, hot, narrow = played(BatchedModel(spec(folder)), play)
    assert cold == narrow == {tuple(greedy(SHARED, 4))}
    assert len(hot) > 1


@pytest.mark.parametrize(("seconds", "most", "worth"), [(10.0, 512, 3), (1e-9, chunks.LEAST, 0)])
def test_the_time_of_steps_sets_the_chunk_within_bounds(folder, monkeypatch, seconds, most, worth):
    monkeypatch.setattr(chunks, "WORTH", worth)  # 0: no length but the one that is set
    steps = []

    async def play(model):
        model.policy.step_seconds = seconds
        times = model.manager.batch_processor.scheduler.times
        await asyncio.sleep(0.5)  # the last step of the start is told of a moment after its answer
        add = times.add
        times.add = lambda *step: (steps.append(step[:2]), add(*step))
        await answer(model, request_name(1, "x"), [n % 250 for n in range(600)], count=1)

    played(BatchedModel(spec(folder)), play)
    lengths = [num_tokens for num_tokens, _ in steps]
    # Up to twice what was tried at start, where 64 always are; the last step's time may not be asked for.
    assert max(lengths) <= most and lengths[0] >= min(most, 128)
    assert 600 - most <= sum(lengths) <= 600
    assert [seen for _, seen in steps] == list(accumulate(lengths))


def test_a_small_cache_limits_the_context_and_a_tiny_one_is_refused(folder):
    tokens = 2**30 // (2 * 6 * 2 * 8 * 4)  # that a GiB holds of keys and values of this model in float32
    assert BatchedModel(spec(folder, cache_gib=1024 / tokens)).facts()["context_tokens"] == 1024 - 32
    with pytest.raises(ConfigError, match=r"serve\.cache_gib: 0\.0001 GiB hold 139 tokens .* is the least"):
        BatchedModel(spec(folder, cache_gib=0.0001))


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError):
        BatchedModel(spec(tmp_path))
