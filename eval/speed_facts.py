"""What was measured of speed -> facts as JSON data, units in the key names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from eval.ceilings import Needs, Rates
from eval.passes import Pass
from fastpath.block_config import depth_of

TIMED = ("ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second")

Models = Mapping[str, PreTrainedModel]


@dataclass(frozen=True)
class Point:
    """What was measured at one shape, by model: passes in order, what they need, memory beside weights."""

    prompt_tokens: int
    batch_size: int
    passes: dict[str, list[Pass]]
    needs: dict[str, Needs]
    working_bytes: dict[str, int | None]


def model_facts(model: PreTrainedModel, label: str, headline: Point, rates: Rates) -> dict[str, Any]:
    """What holds of a model at any shape; its ideal ratios and its cache are those at the headline."""
    ideal = _ideal_ratios(headline, label, rates)
    return {
        "dtype": dtype_of(model),
        "depth": depth_of(model.config),
        "weight_bytes": model.get_memory_footprint(),
        "kv_bytes_per_token": headline.needs[label].kv_bytes_per_token,
        "ideal_prefill_ratio": ideal["prefill_tokens_per_second"],
        "ideal_decode_ratio": ideal["decode_tokens_per_second"],
    }


def point_facts(models: Models, point: Point, rates: Rates) -> dict[str, Any]:
    """Every model at one shape, and each variant beside the first model."""
    facts = {label: _facts(model, label, point, rates) for label, model in models.items()}
    weights = {label: model.get_memory_footprint() for label, model in models.items()}
    base, *variants = models
    ratios = {
        label: _ratios(facts[base], facts[label]) | {"weight_bytes": weights[label] / weights[base]}
        for label in variants
    }
    return {
        "prompt_tokens": point.prompt_tokens,
        "batch_size": point.batch_size,
        "models": facts,
        "ratios": ratios,
        "paired_ratios": {label: _paired_ratios(facts[base], facts[label]) for label in variants},
        "ideal_ratios": {label: _ideal_ratios(point, label, rates) for label in variants},
    }


def _facts(model: PreTrainedModel, label: str, point: Point, rates: Rates) -> dict[str, Any]:
    passes, needs, working = point.passes[label], point.needs[label], point.working_bytes[label]
    ttft = np.array([p.ttft_seconds for p in passes])
    steps = np.array([p.step_seconds for p in passes])  # repeats x steps; the first token is the prefill's
    num_prompt_tokens = point.batch_size * point.prompt_tokens
    return {
        "ttft_seconds": _spread(ttft),
        "prefill_tokens_per_second": _spread(num_prompt_tokens / ttft),
        # of all steps, not of the repeats: how evenly the tokens come
        "inter_token_seconds": _spread(steps.ravel()) | {"repeats": np.median(steps, axis=1).tolist()},
        "inter_token_p95_seconds": float(np.quantile(steps, 0.95)),
        "decode_tokens_per_second": _spread(point.batch_size / steps.mean(axis=1)),
        "peak_bytes": None if working is None else model.get_memory_footprint() + working,
        "prefill_share_of_ceiling": needs.prefill.seconds(rates) / float(np.median(ttft)),
        "decode_share_of_ceiling": needs.step.seconds(rates) / float(np.median(steps.mean(axis=1))),
    }


def _spread(values: np.ndarray) -> dict[str, Any]:
    """Median and quartiles over the repeats, and each repeat's value in order."""
    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"median": median, "low": low, "high": high, "repeats": values.tolist()}


def _ratios(base: dict[str, Any], fast: dict[str, Any]) -> dict[str, float | None]:
    known = base["peak_bytes"] is not None and fast["peak_bytes"] is not None
    return {
        **{name: fast[name]["median"] / base[name]["median"] for name in TIMED},
        "peak_bytes": fast["peak_bytes"] / base["peak_bytes"] if known else None,
    }


def _paired_ratios(base: dict[str, Any], fast: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.median(np.divide(fast[name]["repeats"], base[name]["repeats"]))) for name in TIMED}


def _ideal_ratios(point: Point, label: str, rates: Rates) -> dict[str, float]:
    """Base over variant of the least times: how much faster a model of fewer blocks can at most become."""
    base = next(iter(point.needs.values()))
    fast = point.needs[label]
    return {
        "prefill_tokens_per_second": base.prefill.seconds(rates) / fast.prefill.seconds(rates),
        "decode_tokens_per_second": base.step.seconds(rates) / fast.step.seconds(rates),
    }


def dtype_of(model: PreTrainedModel) -> str:
    """As in float32."""
    return str(model.dtype).removeprefix("torch.")
