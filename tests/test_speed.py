"""Speed facts: what is timed, in which order, from which clock; no test asserts that anything is fast."""

import json
from collections.abc import Callable

import pytest
import torch
from tiny import narrow_llama
from transformers import PreTrainedModel

from eval import speed
from eval.ceilings import Rates, Sizes
from eval.speed import measure_speed
from eval.speed_facts import TIMED

SHAPE = {"prompt_tokens": [8], "new_tokens": 4, "batch_size": [2], "repeats": 5}


@pytest.fixture
def models() -> dict[str, PreTrainedModel]:
    return {"base": narrow_llama(depth=8), "fast": narrow_llama(depth=2)}


@pytest.fixture(autouse=True)
def small_and_alone(monkeypatch):
    monkeypatch.setattr("eval.ceilings.SIZES", {"cpu": Sizes(2**16, 16, 1)})
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


class KnownCeilings:
    """A machine that moves 5000 bytes and computes 10,000 operations a second."""

    def __init__(self, device, dtype) -> None:
        self.samples = 0

    def sample(self) -> None:
        self.samples += 1

    def median(self) -> Rates:
        return Rates(5e3, 1e4)


@pytest.fixture
def clocked(models, monkeypatch):
    """Models on a clock of our own: base 4 s a prefill, 2 s a step, fast 1 s and 1 s, cold 1000 s."""
    seconds, prefills = [0.0], {"base": 0, "fast": 0}
    cost = {("base", True): 4.0, ("base", False): 2.0, ("fast", True): 1.0, ("fast", False): 1.0}

    def tick(label: str, tokens: int) -> None:
        prefills[label] += tokens > 1
        cold = prefills[label] <= 2  # the count of work, and the warm-up
        seconds[0] += 1000.0 if cold else cost[label, tokens > 1]

    on_call(models, tick)
    monkeypatch.setattr("eval.passes.time.perf_counter", lambda: seconds[0])
    monkeypatch.setattr(speed, "Ceilings", KnownCeilings)
    return models


def test_models_take_turns_and_the_first_rotates(models):
    calls = []
    on_call(models, lambda label, tokens: calls.append((label, tokens)))
    measure_speed(models, **SHAPE)
    prefills = [label for label, tokens in calls if tokens == 8]
    count, warmup, memory, timed = prefills[:2], prefills[2:4], prefills[4:6], prefills[6:]
    assert count == warmup == memory == ["base", "fast"]
    assert timed == ["base", "fast", "fast", "base", "base", "fast", "fast", "base", "base", "fast"]
    # counting takes a prefill and a step; every pass a prefill, then one token a step
    assert [tokens for _, tokens in calls] == [8, 1] * 2 + [8, 1, 1, 1] * 14


def test_numbers_follow_from_the_clock_without_the_warmup(clocked):
    facts = measure_speed(clocked, **SHAPE)
    (point,) = facts["points"]
    base, fast = point["models"]["base"], point["models"]["fast"]
    assert base["ttft_seconds"] == {"median": 4.0, "low": 4.0, "high": 4.0, "repeats": [4.0] * 5}
    assert base["inter_token_seconds"] == {"median": 2.0, "low": 2.0, "high": 2.0, "repeats": [2.0] * 5}
    assert base["prefill_tokens_per_second"]["median"] == 2 * 8 / 4.0
    assert base["decode_tokens_per_second"]["median"] == 2 / 2.0  # the first token came with the prefill
    assert fast["decode_tokens_per_second"]["median"] == 2 / 1.0
    ratios = point["ratios"]["fast"]
    timed = {"ttft_seconds": 0.25, "prefill_tokens_per_second": 4, "decode_tokens_per_second": 2}
    assert ratios.items() >= timed.items()
    assert point["paired_ratios"]["fast"] == timed
    weights = {label: model["weight_bytes"] for label, model in facts["models"].items()}
    assert ratios["weight_bytes"] == weights["fast"] / weights["base"] < 1
    assert ratios["peak_bytes"] == fast["peak_bytes"] / base["peak_bytes"]


def test_shares_are_the_least_time_over_the_time_taken(clocked):
    """By hand: 8 blocks of width 16, inner width 32, one of two heads for keys, 50 words; 2 x 8 tokens."""
    facts = measure_speed(clocked, **SHAPE)
    base = facts["points"][0]["models"]["base"]
    block = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 32
    seen = 2 * 2 * 2 * 2 * 8 * 8 * 9 // 2  # 2 products, 2 flops, 2 sequences, 2 heads of 8; 8 * 9 / 2 pairs
    flops = 8 * (2 * 16 * block + seen) + 2 * 2 * 16 * 50
    assert base["prefill_share_of_ceiling"] == pytest.approx(flops / 1e4 / 4.0)
    weights = 4 * (8 * (block + 2 * 16) + 16 + 16 * 50)  # norms and head; the embeddings are looked up
    cache = 8 * 2 * 8 * 4 * 2 * (8 + 4 / 2)  # blocks, key and value, width, bytes, sequences, tokens
    assert base["decode_share_of_ceiling"] == pytest.approx((weights + cache) / 5e3 / 2.0)
    assert facts["models"]["base"]["kv_bytes_per_token"] == 8 * 2 * 8 * 4


def test_measured_over_ideal_ratio_is_the_ratio_of_the_shares(clocked):
    facts = measure_speed(clocked, **SHAPE)
    (point,) = facts["points"]
    for name in ("prefill", "decode"):
        rate, share = f"{name}_tokens_per_second", f"{name}_share_of_ceiling"
        shares = point["models"]["fast"][share] / point["models"]["base"][share]
        assert point["ratios"]["fast"][rate] / point["ideal_ratios"]["fast"][rate] == pytest.approx(shares)
        assert facts["models"]["fast"][f"ideal_{name}_ratio"] == point["ideal_ratios"]["fast"][rate]
        assert 1 < facts["models"]["fast"][f"ideal_{name}_ratio"] < 8 / 2  # the head stays
        assert facts["models"]["base"][f"ideal_{name}_ratio"] == 1


def test_a_slow_step_shows_in_the_95th_percentile_not_in_the_median(models, monkeypatch):
    seconds, steps = [0.0], [0]

    def tick(label: str, tokens: int) -> None:
        steps[0] += 1
        seconds[0] += 9.0 if steps[0] % 4 == 0 else 1.0

    on_call(models, tick)
    monkeypatch.setattr("eval.passes.time.perf_counter", lambda: seconds[0])
    monkeypatch.setattr(speed, "Ceilings", KnownCeilings)
    one = {"base": models["base"]}
    facts = measure_speed(one, **SHAPE | {"new_tokens": 8})["points"][0]["models"]["base"]
    assert (facts["inter_token_seconds"]["median"], facts["inter_token_p95_seconds"]) == (1.0, 9.0)
    assert facts["decode_tokens_per_second"]["median"] < 2 / 1.0


def test_every_prompt_length_meets_every_batch_size_and_the_first_leads(models):
    seen = []
    models["base"].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    facts = measure_speed(models, prompt_tokens=[8, 5], batch_size=[2, 1], new_tokens=3)
    shapes = [(2, 8), (1, 8), (2, 5), (1, 5)]
    assert [(p["batch_size"], p["prompt_tokens"]) for p in facts["points"]] == shapes
    assert list(dict.fromkeys(shape for shape in seen if shape[1] > 1)) == shapes
    assert (
        facts["models"]["fast"]["ideal_decode_ratio"]
        == (facts["points"][0]["ideal_ratios"]["fast"]["decode_tokens_per_second"])
    )


def test_paired_ratio_cancels_a_machine_that_slows_down(models, monkeypatch):
    seconds, pace = [0.0], [1.0]

    def tick(label: str, tokens: int) -> None:
        pace[0] *= 1.5 if tokens > 1 and label == "base" else 1.0
        seconds[0] += pace[0] * (2.0 if label == "base" else 1.0)

    on_call(models, tick)
    monkeypatch.setattr("eval.passes.time.perf_counter", lambda: seconds[0])
    monkeypatch.setattr(speed, "Ceilings", KnownCeilings)
    monkeypatch.setattr(
        speed, "_rotated", lambda labels, by: labels
    )  # base, fast in every round: the same pace
    facts = measure_speed(models, **SHAPE)["points"][0]
    assert facts["models"]["base"]["ttft_seconds"]["high"] > facts["models"]["base"]["ttft_seconds"]["low"]
    assert facts["paired_ratios"]["fast"]["ttft_seconds"] == pytest.approx(0.5)


def test_facts_are_json_and_name_every_model(models):
    facts = json.loads(json.dumps(measure_speed(models, **SHAPE, seed=3), allow_nan=False))
    assert facts["base"] == "base" and list(facts["models"]) == ["base", "fast"]
    assert facts["seed"] == 3 and facts["warmup"] == 1 and facts["compile"] is False
    assert facts["ceilings"]["copy_bytes_per_second"] > 0 < facts["ceilings"]["matmul_flops_per_second"]
    assert {label: model["depth"] for label, model in facts["models"].items()} == {"base": 8, "fast": 2}
    assert facts["models"]["base"]["dtype"] == facts["ceilings"]["dtype"] == "float32"
    (point,) = facts["points"]
    assert list(point["ratios"]) == list(point["ideal_ratios"]) == ["fast"]
    for model in point["models"].values():
        for name in (*TIMED, "inter_token_seconds"):
            assert 0 < model[name]["low"] <= model[name]["median"] <= model[name]["high"]
            assert len(model[name]["repeats"]) == 5
        assert model["inter_token_p95_seconds"] >= model["inter_token_seconds"]["median"]


def test_weight_bytes_count_each_weight_once_and_peak_is_not_below(models):
    facts = measure_speed(models, **SHAPE)
    for label, model in models.items():
        # buffers too: the rotary frequencies are kept on the device
        expected = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        assert facts["models"][label]["weight_bytes"] == expected
        assert expected <= facts["points"][0]["models"][label]["peak_bytes"]


def test_where_the_peak_cannot_be_reset_it_says_so(models, monkeypatch):
    monkeypatch.setattr(speed, "reset_peak_bytes", lambda device: False)
    facts = measure_speed(models, **SHAPE)
    assert facts["peak_bytes_how"].startswith("not measured")
    (point,) = facts["points"]
    assert point["models"]["fast"]["peak_bytes"] is None and point["ratios"]["fast"]["peak_bytes"] is None


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
        ({"prompt_tokens": [8, 0]}, "prompt_tokens"),
        ({"batch_size": [8, 0]}, "batch_size: must be at least 1, got 8, 0"),
        ({"batch_size": []}, "batch_size"),
        ({"warmup": 0}, "warmup"),
        ({"prompt_tokens": [8, 61]}, "64 positions"),
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


def test_models_on_two_devices_are_refused(models):
    with pytest.raises(ValueError, match="share one device"):
        measure_speed({**models, "elsewhere": narrow_llama(depth=2).to("meta")}, **SHAPE)
