"""How fast models are, side by side: latency, prefill and decode tokens per second, memory, share of ceiling.

The models take turns, and who goes first rotates: a busy machine hits all alike. The ceilings of the machine
are measured between the rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from transformers import PreTrainedModel

from eval.ceilings import Ceilings, kv_bytes, needs_of
from eval.passes import Pass, Static, greedy_pass, static_step
from eval.speed_facts import Point, dtype_of, model_facts, point_facts
from fastpath.env import device_name, peak_bytes, reset_peak_bytes, used_bytes

LEAST = {"prompt_tokens": 1, "new_tokens": 2, "batch_size": 1, "repeats": 5, "warmup": 1}
PEAK_HOW = "weights + largest rise of the memory in use during one pass"
PEAK_UNMEASURED = "not measured: this system cannot reset its peak"

Models = Mapping[str, PreTrainedModel]

# B sequences, T prompt tokens


def measure_speed(
    models: Models,
    *,
    prompt_tokens: Sequence[int],
    new_tokens: int,
    batch_size: Sequence[int] = (1,),
    repeats: int = 5,
    warmup: int = 1,
    seed: int = 0,
    compile: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Facts as JSON data, units in the key names. The first model is the base that ratios are taken over.

    Every prompt length is measured with every batch size; the first of both is the headline. At each such
    point each of `warmup` + `repeats` rounds runs every model once on the same random prompts, calling
    progress() after each; warm-up rounds, and two more passes to count work and memory, are not in the
    timings. "ratios" are fast / base of the medians, "paired_ratios" medians of each round's own ratio: there
    a drift of the machine cancels. `compile`: a static cache, and torch.compile of the decode step.
    Raises ValueError on sizes that cannot be measured, models on several devices, or one without a KV cache.
    """
    counts = {"new_tokens": new_tokens, "repeats": repeats, "warmup": warmup}
    sizes = {name: (count,) for name, count in counts.items()}
    device = _checked_device(models, {**sizes, "prompt_tokens": prompt_tokens, "batch_size": batch_size})
    base, *_ = models
    ceilings = Ceilings(device, models[base].dtype)
    points = []
    for length, num_sequences in product(prompt_tokens, batch_size):
        prompt_BT = _prompts(models, num_sequences, length, seed).to(device)
        points.append(
            _measure_point(models, prompt_BT, ceilings, **counts, compile=compile, progress=progress)
        )
    rates = ceilings.median()
    unmeasured = any(None in point.working_bytes.values() for point in points)
    return {
        "device": str(device),
        "device_name": device_name(device),
        "torch_threads": torch.get_num_threads(),
        **counts,
        "seed": seed,
        "compile": compile,
        "base": base,
        "peak_bytes_how": PEAK_UNMEASURED if unmeasured else PEAK_HOW,
        "ceilings": {"dtype": dtype_of(models[base]), **vars(rates)},
        "models": {label: model_facts(model, label, points[0], rates) for label, model in models.items()},
        "points": [point_facts(models, point, rates) for point in points],
    }


def _measure_point(
    models: Models,
    prompt_BT: torch.Tensor,
    ceilings: Ceilings,
    *,
    new_tokens: int,
    repeats: int,
    warmup: int,
    compile: bool,
    progress: Callable[[], None] | None,
) -> Point:
    needs = {label: needs_of(model, prompt_BT, new_tokens) for label, model in models.items()}
    static: dict[str, Static] = {}
    if compile:
        torch.compiler.reset()  # each shape compiles anew, and torch counts how often
        length = prompt_BT.shape[1] + new_tokens
        static = {label: static_step(model, length) for label, model in models.items()}

    def round_(number: int) -> dict[str, Pass]:
        passes = {}
        for label in _rotated(list(models), number):
            passes[label] = greedy_pass(models[label], prompt_BT, new_tokens, static.get(label))
            if progress is not None:
                progress()
        return passes

    for number in range(warmup):
        round_(number)
    # Apart from the timed passes: it makes the allocator start afresh.
    working = {
        label: _working_bytes(model, prompt_BT, new_tokens, static.get(label))
        for label, model in models.items()
    }
    rounds = []
    for number in range(repeats):
        rounds.append(round_(number))
        ceilings.sample()
    passes = {label: [one[label] for one in rounds] for label in models}
    return Point(prompt_BT.shape[1], prompt_BT.shape[0], passes, needs, working)


def _working_bytes(
    model: PreTrainedModel, prompt_BT: torch.Tensor, new_tokens: int, static: Static | None
) -> int | None:
    """Largest rise of the memory in use during one pass (cache, activations, logits); None if not measurable.

    The rise, not the level: on a CPU the level holds the interpreter and the other resident models too.
    """
    if not reset_peak_bytes(prompt_BT.device):
        return None
    before = used_bytes(prompt_BT.device)
    greedy_pass(model, prompt_BT, new_tokens, static)
    held = 0 if static is None else kv_bytes(static.cache)
    return held + max(0, peak_bytes(prompt_BT.device) - before)


def _rotated(labels: list[str], by: int) -> list[str]:
    by %= len(labels)
    return labels[by:] + labels[:by]


def _prompts(models: Models, batch_size: int, prompt_tokens: int, seed: int) -> torch.Tensor:
    """[B, T] uniformly random token ids that every model knows."""
    vocabulary = min(model.config.get_text_config().vocab_size for model in models.values())
    random = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (batch_size, prompt_tokens), generator=random)


def _checked_device(models: Models, sizes: Mapping[str, Sequence[int]]) -> torch.device:
    """The one device of all models, or ValueError for what cannot be measured."""
    for name, least in LEAST.items():
        if min(sizes[name], default=0) < least:
            raise ValueError(f"{name}: must be at least {least}, got {', '.join(map(str, sizes[name]))}")
    if not models:
        raise ValueError("models: nothing to measure")
    length = max(sizes["prompt_tokens"]) + max(sizes["new_tokens"])
    for label, model in models.items():
        if model.training:
            raise ValueError(
                f"{label}: is in training mode, whose dropout is neither fast nor greedy; call eval()"
            )
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)  # ALiBi has none
        if positions is not None and length > positions:
            raise ValueError(f"{label}: prompt and new tokens are {length}, but it has {positions} positions")
    devices = {label: model.device for label, model in models.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"models must share one device to be compared, got {devices}")
    return next(iter(devices.values()))
