"""Speed facts: what is timed, in which order, from which clock; no test asserts that anything is fast."""

import json
from collections.abc import Callable

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from eval import speed
from eval.speed import greedy_pass, measure_speed

SHAPE = {"prompt_tokens": 8, "new_tokens": 4, "batch_size": 2, "repeats": 5}


def tiny_llama(*, depth: int = 2) -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            num_hidden_layers=depth,
            hidden_size=16,
            intermediate_size=32,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=50,
            max_position_embeddings=64,
        )
    ).eval()


def tiny_gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=64)).eval()


@pytest.fixture
def models() -> dict[str, PreTrainedModel]:
    return {"base": tiny_llama(depth=8), "fast": tiny_llama(depth=2)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny models only lose by sharing
    yield
    torch.set_num_threads(before)


def on_call(models: dict[str, PreTrainedModel], note: Callable[[str, int], None]) -> None:
    """Have note(label, tokens) called before every forward pass."""
    for label, model in models.items():
        model.register_forward_pre_hook(
            lambda _, args, kwargs, label=label: note(label, kwargs["input_ids"].shape[1]), with_kwargs=True
        )


@pytest.fixture
def clocked(models, monkeypatch):
    """Models on a clock of our own: base 4 s a prefill and 2 s a step, fast 1 s and 1 s, warm-up 1000 s."""
    seconds, prefills = [0.0], {"base": 0, "fast": 0}
    cost = {("base", True): 4.0, ("base", False): 2.0, ("fast", True): 1.0, ("fast", False): 1.0}

    def tick(label: str, tokens: int) -> None:
        prefills[label] += tokens > 1
        cold = prefills[label] == 1
        seconds[0] += 1000.0 if cold else cost[label, tokens > 1]

    on_call(models, tick)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: seconds[0])
    return models


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_cached_tokens_equal_uncached_greedy_tokens(make):
    model = make()
    prompt = torch.randint(50, (2, 7), generator=torch.Generator().manual_seed(1))
    sequence = prompt
    with torch.no_grad():
        for _ in range(6):
            sequence = torch.cat([sequence, model(sequence).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(greedy_pass(model, prompt, 6).tokens_BN, sequence[:, 7:])


def test_models_take_turns_and_the_first_rotates(models):
    calls = []
    on_call(models, lambda label, tokens: calls.append((label, tokens)))
    measure_speed(models, **SHAPE)
    prefills = [label for label, tokens in calls if tokens == 8]
    warmup, memory, timed = prefills[:2], prefills[2:4], prefills[4:]
    assert warmup == memory == ["base", "fast"]
    assert timed == ["base", "fast", "fast", "base", "base", "fast", "fast", "base", "base", "fast"]
    assert [tokens for _, tokens in calls] == [8, 1, 1, 1] * 14  # one prefill, then one token a step


def test_numbers_follow_from_the_clock_without_the_warmup(clocked):
    facts = measure_speed(clocked, **SHAPE)
    base, fast = facts["models"]["base"], facts["models"]["fast"]
    assert base["ttft_seconds"] == {"median": 4.0, "low": 4.0, "high": 4.0, "repeats": [4.0] * 5}
    assert base["prefill_tokens_per_second"]["median"] == 2 * 8 / 4.0
    assert base["decode_tokens_per_second"]["median"] == 2 * 3 / (
        3 * 2.0
    )  # the first token came with the prefill
    assert fast["decode_tokens_per_second"]["median"] == 2 * 3 / (3 * 1.0)
    ratios = facts["ratios"]["fast"]
    assert (
        ratios.items()
        >= {"ttft_seconds": 0.25, "prefill_tokens_per_second": 4, "decode_tokens_per_second": 2}.items()
    )
    assert facts["paired_ratios"]["fast"] == {name: ratios[name] for name in speed.TIMED}
    assert ratios["weight_bytes"] == fast["weight_bytes"] / base["weight_bytes"] < 1
    assert ratios["peak_bytes"] == fast["peak_bytes"] / base["peak_bytes"]


def test_paired_ratio_cancels_a_machine_that_slows_down(models, monkeypatch):
    seconds, pace = [0.0], [1.0]

    def tick(label: str, tokens: int) -> None:
        pace[0] *= 1.5 if tokens > 1 and label == "base" else 1.0
        seconds[0] += pace[0] * (2.0 if label == "base" else 1.0)

    on_call(models, tick)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: seconds[0])
    monkeypatch.setattr(
        speed, "_rotated", lambda labels, by: labels
    )  # base, fast in every round: the same pace
    facts = measure_speed(models, **SHAPE)
    assert facts["models"]["base"]["ttft_seconds"]["high"] > facts["models"]["base"]["ttft_seconds"]["low"]
    assert facts["paired_ratios"]["fast"]["ttft_seconds"] == pytest.approx(0.5)


def test_facts_are_json_and_name_every_model(models):
    facts = json.loads(json.dumps(measure_speed(models, **SHAPE, seed=3), allow_nan=False))
    assert (
        facts["base"] == "base"
        and list(facts["models"]) == ["base", "fast"]
        and list(facts["ratios"]) == ["fast"]
    )
    assert {name: facts[name] for name in SHAPE} == SHAPE and facts["seed"] == 3 and facts["warmup"] == 1
    for model in facts["models"].values():
        assert model["dtype"] == "float32"
        assert (
            0
            < model["ttft_seconds"]["low"]
            <= model["ttft_seconds"]["median"]
            <= model["ttft_seconds"]["high"]
        )
        assert len(model["decode_tokens_per_second"]["repeats"]) == 5


def test_weight_bytes_count_each_weight_once_and_peak_is_not_below(models):
    facts = measure_speed(models, **SHAPE)
    for label, model in models.items():
        # buffers too: the rotary frequencies are kept on the device
        expected = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        assert facts["models"][label]["weight_bytes"] == expected <= facts["models"][label]["peak_bytes"]


def test_where_the_peak_cannot_be_reset_it_says_so(models, monkeypatch):
    monkeypatch.setattr(speed, "reset_peak_bytes", lambda device: False)
    facts = measure_speed(models, **SHAPE)
    assert facts["peak_bytes_how"].startswith("not measured")
    assert facts["models"]["fast"]["peak_bytes"] is None and facts["ratios"]["fast"]["peak_bytes"] is None


def test_progress_is_told_of_every_round_of_every_model(models):
    told = []
    measure_speed(models, **SHAPE, progress=lambda: told.append(1))
    assert len(told) == (1 + 5) * 2


def test_same_seed_same_prompts_whatever_the_models(models):
    seen = []
    for model in models.values():
        model.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
        )
    measure_speed(models, **SHAPE, seed=7)
    prompts = [ids for ids in seen if ids.shape[1] == 8]
    assert all(torch.equal(ids, prompts[0]) for ids in prompts)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"repeats": 4}, "repeats: must be at least 5"),
        ({"new_tokens": 1}, "new_tokens"),
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"batch_size": 0}, "batch_size"),
        ({"warmup": 0}, "warmup"),
        ({"prompt_tokens": 61}, "64 positions"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(models, wrong, named):
    with pytest.raises(ValueError, match=named):
        measure_speed(models, **{**SHAPE, **wrong})


def test_no_models_and_training_mode_are_refused(models):
    with pytest.raises(ValueError, match="nothing to measure"):
        measure_speed({}, **SHAPE)
    models["fast"].train()
    with pytest.raises(ValueError, match="fast: is in training mode"):
        measure_speed(models, **SHAPE)


def test_a_model_without_kv_cache_is_refused_by_class():
    config = MambaConfig(num_hidden_layers=1, hidden_size=16, state_size=4, vocab_size=50)
    with pytest.raises(ValueError, match="MambaForCausalLM returns no KV cache"):
        measure_speed({"base": MambaForCausalLM(config).eval()}, **SHAPE)


def test_models_on_two_devices_are_refused(models):
    with pytest.raises(ValueError, match="share one device"):
        measure_speed({**models, "elsewhere": tiny_llama().to("meta")}, **SHAPE)
