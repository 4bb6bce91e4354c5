"""What answers lm-eval's requests: transformers in this process, or vLLM for those who have installed it."""

import importlib.util
from collections.abc import Callable
from typing import Any

from lm_eval.api.registry import get_model

from eval.lm import FastLM
from eval.zoo import Zoo
from fastpath.errors import ConfigError
from fastpath.team import num_processes

GPU_SHARE = 0.8
"""Of a GPU's memory, for all vLLM engines of a run together; the speed measurement uses the rest."""


def check_engine(engine: str) -> None:
    """Raise ConfigError if the engine cannot be used here."""
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "eval.engine: vllm is not installed; `pip install lm_eval[vllm]` (needs a GPU), or use hf"
        )
    if engine == "vllm" and num_processes() > 1:
        raise ConfigError(
            "eval.engine: vllm spreads its own work; start it without accelerate launch, or use hf"
        )


def build_lm(engine: str, zoo: Zoo, label: str, *, batch_size: int) -> Any:
    """An lm-eval model of the model of that label."""
    return ENGINES[engine](zoo, label, batch_size)


def _hf(zoo: Zoo, label: str, batch_size: int) -> FastLM:
    return FastLM(*zoo.get(label), batch_size=batch_size)


def _vllm(zoo: Zoo, label: str, batch_size: int) -> Any:
    check_engine("vllm")
    return get_model("vllm")(
        pretrained=str(zoo.sources[label].folder),
        dtype=str(zoo.dtype).removeprefix("torch."),
        trust_remote_code=zoo.trust,
        batch_size=batch_size,
        gpu_memory_utilization=GPU_SHARE / len(zoo.sources),  # one engine a model, all alive at once
    )


ENGINES: dict[str, Callable[[Zoo, str, int], Any]] = {"hf": _hf, "vllm": _vllm}
