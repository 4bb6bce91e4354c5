"""One greedy generation, timed: a prefill, then one token a step from the key-value cache.

The model is called directly, not through generate and its overhead.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from transformers import PreTrainedModel, StaticCache

# As transformers' generate compiles, but a graph that breaks is an error here, not a silent half measure.
COMPILE: dict[str, Any] = {"mode": "reduce-overhead", "fullgraph": True, "dynamic": False}

# B sequences, T prompt tokens, N new tokens, V vocabulary


class Clock:
    """Marks in the work of a device, and the seconds between them.

    On CUDA a mark is an event in the queue, read after the last: no mark makes the device wait. Elsewhere it
    is the wall clock once the queued work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._marks = device, list[Any]()

    def mark(self) -> None:
        """Now, or on CUDA when the work queued so far is done."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
            return
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """From each mark to the next."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return [start.elapsed_time(end) / 1e3 for start, end in pairwise(self._marks)]
        return [end - start for start, end in pairwise(self._marks)]


@dataclass(frozen=True)
class Pass:
    """tokens_BN, seconds until the first of them, and seconds of each of the N - 1 steps to the others."""

    tokens_BN: torch.Tensor
    ttft_seconds: float
    step_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Static:
    """A cache of fixed size and the compiled step that decodes with it."""

    cache: StaticCache
    step: Callable[..., Any]


def static_step(model: PreTrainedModel, length: int) -> Static:
    """A compiled step for sequences of `length` tokens. It compiles when first called.

    Raises ValueError for a class that transformers does not compile; the step does if compiling fails.
    """
    check_compiles(type(model))
    step = _compiled(model, type(model).__name__)
    return Static(StaticCache(config=model.config, max_cache_len=length), step)


def check_compiles(model_class: type[PreTrainedModel], device: torch.device | None = None) -> None:
    """Raise ValueError if transformers does not compile this class, or torch.compile fails on the device."""
    if not model_class._can_compile_fullgraph:
        raise ValueError(f"transformers does not compile {model_class.__name__}; set compile to false")
    if device is not None:
        _compiled(lambda x: x + 1, str(device))(torch.ones(8, device=device))


def _compiled(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    compiled = torch.compile(function, **COMPILE)

    def call(*args: Any, **inputs: Any) -> Any:
        try:
            return compiled(*args, **inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            reason = " ".join(str(error).split("\n")[:2]).strip()  # who raised, then what
            raise ValueError(f"torch.compile fails for {name} ({reason}); set compile to false") from error

    return call


@torch.inference_mode()
def greedy_pass(
    model: PreTrainedModel, prompt_BT: torch.Tensor, new_tokens: int, static: Static | None = None
) -> Pass:
    """Generate exactly `new_tokens` tokens a sequence, greedily, end of text ignored.

    With `static` the prefill fills its cache and its compiled step decodes, as transformers' generate does.
    Raises ValueError if the model returns no KV cache.
    """
    step = model if static is None else static.step
    clock = Clock(prompt_BT.device)
    given = {} if static is None else {"past_key_values": _emptied(static.cache)}
    clock.mark()
    out = model(input_ids=prompt_BT, use_cache=True, **given, **last_only(model))
    tokens_B1 = [out.logits[:, -1:].argmax(-1)]
    clock.mark()
    cache = cache_of(model, out)
    for _ in range(new_tokens - 1):
        out = step(input_ids=tokens_B1[-1], past_key_values=cache, use_cache=True)
        tokens_B1.append(out.logits[:, -1:].argmax(-1))
        clock.mark()
    first, *steps = clock.seconds()
    return Pass(torch.cat(tokens_B1, dim=1), first, tuple(steps))


def last_only(model: PreTrainedModel) -> dict[str, int]:
    """Arguments by which the head is applied to the last position only, where the model can: servers do."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def cache_of(model: PreTrainedModel, out: Any) -> Any:
    """The KV cache that a forward pass returned. Raises ValueError if there is none."""
    cache = out.get("past_key_values")
    if cache is None:
        raise ValueError(
            f"{type(model).__name__} returns no KV cache, so decoding step by step cannot be timed"
        )
    return cache


def _emptied(cache: StaticCache) -> StaticCache:
    if cache.is_initialized:
        cache.reset()
    return cache
