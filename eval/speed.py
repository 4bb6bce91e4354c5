"""How fast models are, side by side: time to first token, prefill and decode tokens per second, memory.

The models are called with their key-value cache directly (one prefill, then one token a step, greedy), not
through generate and its overhead. They take turns, and who goes first rotates: a busy machine hits all alike.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from fastpath.env import peak_bytes, reset_peak_bytes, used_bytes

LEAST = {"prompt_tokens": 1, "new_tokens": 2, "batch_size": 1, "repeats": 5, "warmup": 1}
PEAK_HOW = "weights + largest rise of the memory in use during one pass"
PEAK_UNMEASURED = "not measured: this system cannot reset its peak"
TIMED = ("ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second")

# B sequences, T prompt tokens, N new tokens, V vocabulary


@dataclass(frozen=True)
class Pass:
    """One greedy generation: tokens_BN, seconds until the first and from the first to the last token."""

    tokens_BN: torch.Tensor
    ttft_seconds: float
    decode_seconds: float


def measure_speed(
    models: Mapping[str, PreTrainedModel],
    *,
    prompt_tokens: int,
    new_tokens: int,
    batch_size: int = 1,
    repeats: int = 5,
    warmup: int = 1,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Facts as JSON data, units in the key names. The first model is the base that ratios are taken over.

    Each of `warmup` + `repeats` rounds runs every model once on the same random prompts, calling progress()
    after each. Warm-up rounds, and one more pass for memory, are not in the timings. "ratios" are fast / base
    of the medians, "paired_ratios" medians of each round's own ratio: there a drift of the machine cancels.
    Raises ValueError on sizes that cannot be measured, models on several devices, or one without a KV cache.
    """
    shape = {
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "batch_size": batch_size,
        "repeats": repeats,
        "warmup": warmup,
    }
    device = _checked_device(models, shape)
    prompt_BT = _prompts(models, batch_size, prompt_tokens, seed).to(device)

    def round_(number: int) -> dict[str, Pass]:
        passes = {}
        for label in _rotated(list(models), number):
            passes[label] = greedy_pass(models[label], prompt_BT, new_tokens)
            if progress is not None:
                progress()
        return passes

    for number in range(warmup):
        round_(number)
    # Apart from the timed passes: it makes the allocator start afresh.
    working = {label: _working_bytes(model, prompt_BT, new_tokens) for label, model in models.items()}
    rounds = [round_(number) for number in range(repeats)]
    facts = {
        label: _facts(model, [passes[label] for passes in rounds], prompt_BT, working[label])
        for label, model in models.items()
    }
    base, *variants = models
    return {
        "device": str(device),
        "torch_threads": torch.get_num_threads(),
        **shape,
        "seed": seed,
        "peak_bytes_how": PEAK_UNMEASURED if None in working.values() else PEAK_HOW,
        "base": base,
        "models": facts,
        "ratios": {label: _ratios(facts[base], facts[label]) for label in variants},
        "paired_ratios": {label: _paired_ratios(facts[base], facts[label]) for label in variants},
    }


@torch.inference_mode()
def greedy_pass(model: PreTrainedModel, prompt_BT: torch.Tensor, new_tokens: int) -> Pass:
    """Generate exactly `new_tokens` tokens a sequence, greedily, end of text ignored.

    Times include the device's queued work. Raises ValueError if the model returns no KV cache.
    """
    # As servers do: the head is applied to the last position only, where the model can.
    last_only = (
        {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    )
    start = _now(prompt_BT.device)
    out = model(input_ids=prompt_BT, use_cache=True, **last_only)
    tokens_B1 = [out.logits[:, -1:].argmax(-1)]
    first = _now(prompt_BT.device)
    cache = out.get("past_key_values")
    if cache is None:
        raise ValueError(
            f"{type(model).__name__} returns no KV cache, so decoding step by step cannot be timed"
        )
    for _ in range(new_tokens - 1):
        out = model(input_ids=tokens_B1[-1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        tokens_B1.append(out.logits[:, -1:].argmax(-1))
    return Pass(torch.cat(tokens_B1, dim=1), first - start, _now(prompt_BT.device) - first)


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _working_bytes(model: PreTrainedModel, prompt_BT: torch.Tensor, new_tokens: int) -> int | None:
    """Largest rise of the memory in use during one pass (cache, activations, logits); None if not measurable.

    The rise, not the level: on a CPU the level holds the interpreter and the other resident models too.
    """
    if not reset_peak_bytes(prompt_BT.device):
        return None
    before = used_bytes(prompt_BT.device)
    greedy_pass(model, prompt_BT, new_tokens)
    return max(0, peak_bytes(prompt_BT.device) - before)


def _facts(
    model: PreTrainedModel, passes: Sequence[Pass], prompt_BT: torch.Tensor, working_bytes: int | None
) -> dict[str, Any]:
    ttft = np.array([p.ttft_seconds for p in passes])
    decode = np.array([p.decode_seconds for p in passes])
    decoded = prompt_BT.shape[0] * (
        passes[0].tokens_BN.shape[1] - 1
    )  # the first token belongs to the prefill
    weight_bytes = model.get_memory_footprint()
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "ttft_seconds": _spread(ttft),
        "prefill_tokens_per_second": _spread(prompt_BT.numel() / ttft),
        "decode_tokens_per_second": _spread(decoded / decode),
        "weight_bytes": weight_bytes,
        "peak_bytes": None if working_bytes is None else weight_bytes + working_bytes,
    }


def _spread(values: np.ndarray) -> dict[str, Any]:
    """Median and quartiles over the repeats, and each repeat's value in order."""
    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"median": median, "low": low, "high": high, "repeats": values.tolist()}


def _ratios(base: dict[str, Any], fast: dict[str, Any]) -> dict[str, float | None]:
    known = base["peak_bytes"] is not None and fast["peak_bytes"] is not None
    return {
        **{name: fast[name]["median"] / base[name]["median"] for name in TIMED},
        "weight_bytes": fast["weight_bytes"] / base["weight_bytes"],
        "peak_bytes": fast["peak_bytes"] / base["peak_bytes"] if known else None,
    }


def _paired_ratios(base: dict[str, Any], fast: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.median(np.divide(fast[name]["repeats"], base[name]["repeats"]))) for name in TIMED}


def _rotated(labels: list[str], by: int) -> list[str]:
    by %= len(labels)
    return labels[by:] + labels[:by]


def _prompts(
    models: Mapping[str, PreTrainedModel], batch_size: int, prompt_tokens: int, seed: int
) -> torch.Tensor:
    """[B, T] uniformly random token ids that every model knows."""
    vocabulary = min(model.config.get_text_config().vocab_size for model in models.values())
    random = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (batch_size, prompt_tokens), generator=random)


def _checked_device(models: Mapping[str, PreTrainedModel], shape: Mapping[str, int]) -> torch.device:
    """The one device of all models, or ValueError for what cannot be measured."""
    for name, least in LEAST.items():
        if shape[name] < least:
            raise ValueError(f"{name}: must be at least {least}, got {shape[name]}")
    if not models:
        raise ValueError("models: nothing to measure")
    for label, model in models.items():
        if model.training:
            raise ValueError(
                f"{label}: is in training mode, whose dropout is neither fast nor greedy; call eval()"
            )
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)  # ALiBi has none
        length = shape["prompt_tokens"] + shape["new_tokens"]
        if positions is not None and length > positions:
            raise ValueError(f"{label}: prompt and new tokens are {length}, but it has {positions} positions")
    devices = {label: model.device for label, model in models.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"models must share one device to be compared, got {devices}")
    return next(iter(devices.values()))
