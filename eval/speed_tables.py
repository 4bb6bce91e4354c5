"""Facts of the speed measurement -> tables of words. Reads only."""

from collections.abc import Mapping
from typing import Any

from eval.tables import Table

ROWS = {
    "ttft_seconds": "first token, ms",
    "inter_token_seconds": "between tokens, ms",
    "inter_token_p95_seconds": "between tokens, p95, ms",
    "prefill_tokens_per_second": "prefill, tokens/s",
    "decode_tokens_per_second": "decode, tokens/s",
    "prefill_share_of_ceiling": "prefill, of ceiling",
    "decode_share_of_ceiling": "decode, of ceiling",
    "peak_bytes": "peak memory, MB",
    "weight_bytes": "weights, MB",
    "kv_bytes_per_token": "KV cache, KB/token",
}
RATES = {"prefill": "prefill_tokens_per_second", "decode": "decode_tokens_per_second"}


def headline_ratios(speed: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Variant over base at the first shape: latency, tokens a second, bytes."""
    return speed["points"][0]["ratios"][label]


def speed_words(speed: Mapping[str, Any], label: str) -> str:
    """'prefill 1.10 times (ideal 1.11), decode ...': a ratio far above the ideal is the machine's noise."""
    point = speed["points"][0]
    return ", ".join(
        f"{name} {point['ratios'][label][rate]:.2f} times (ideal {point['ideal_ratios'][label][rate]:.2f})"
        for name, rate in RATES.items()
    )


def speed_table(speed: Mapping[str, Any]) -> Table:
    """Every model at the first shape, and each variant over the base beside its ideal ratio."""
    point, labels = speed["points"][0], list(speed["models"])
    facts = {label: speed["models"][label] | point["models"][label] for label in labels}
    rows = [(words, *(_cell(facts[label], key) for label in labels)) for key, words in ROWS.items()]
    for name, rate in RATES.items():
        cells = [_ratio_cell(point, label, rate) for label in labels[1:]]
        rows.append((f"{name}, over base", "1.00", *cells))
    return Table(title="Speed", headings=("", *labels), rows=tuple(rows), note=speed_note(speed))


def speed_grid_table(speed: Mapping[str, Any]) -> Table | None:
    """A row a shape: tokens a second of the base, each variant over it. None where there is one shape."""
    points, base = speed["points"], speed["base"]
    if len(points) == 1:
        return None
    pairs = [(label, rate) for label in speed["models"] if label != base for rate in RATES.values()]
    rows = []
    for point in points:
        own = (_base_cell(point["models"][base], name) for name in RATES)
        over = (_ratio_cell(point, label, rate, "") for label, rate in pairs)
        rows.append((str(point["prompt_tokens"]), str(point["batch_size"]), *own, *over))
    names = [f"{label} {name}" for label in (base, *point["ratios"]) for name in RATES]
    return Table(
        title="Speed at every shape",
        headings=("prompt", "batch", *names),
        rows=tuple(rows),
        note=f"{base}: tokens/s (of the ceiling). Others: over the base's (the ideal ratio). Medians.",
    )


def _base_cell(facts: Mapping[str, Any], name: str) -> str:
    return f"{three(facts[RATES[name]]['median'])} ({facts[f'{name}_share_of_ceiling']:.0%})"


def _ratio_cell(point: Mapping[str, Any], label: str, rate: str, word: str = "ideal ") -> str:
    return f"{point['ratios'][label][rate]:.2f} ({word}{point['ideal_ratios'][label][rate]:.2f})"


def _cell(facts: Mapping[str, Any], key: str) -> str:
    value = facts[key]
    if value is None:
        return "not measured"
    if key.endswith("share_of_ceiling"):
        return f"{value:.0%}"
    scale = 1e3 if key.endswith("seconds") else 1e-3 if key.startswith("kv") else 1e-6
    scale = 1 if key.endswith("per_second") else scale
    if isinstance(value, Mapping):
        median, low, high = (three(value[key] * scale) for key in ("median", "low", "high"))
        return f"{median} [{low}, {high}]"
    return three(value * scale)


def three(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{float(f'{value:.3g}'):,.10g}"


def speed_note(speed: Mapping[str, Any]) -> str:
    """How the speed was measured, on what, and what the ceiling and the ideal ratio are."""
    point = speed["points"][0]
    compiled = ", decode step compiled, static cache" if speed["compile"] else ""
    return (
        f"{speed['device_name']}, {speed['torch_threads']} threads; prompt {point['prompt_tokens']} tokens, "
        f"{speed['new_tokens']} new, batch {point['batch_size']}{compiled}; "
        f"medians [quartiles] of {speed['repeats']} repeats in alternation, warm-up excluded. "
        f"Peak memory: {speed['peak_bytes_how']}. {_ceiling_words(speed['ceilings'])}"
    )


def _ceiling_words(ceilings: Mapping[str, Any]) -> str:
    product, copy = (ceilings[f"{name}_per_second"] / 1e9 for name in ("matmul_flops", "copy_bytes"))
    return (
        f"Ceiling: a pass takes at least its matrix products at {three(product)} GFLOP/s (measured by a "
        f"{ceilings['dtype']} product) or its weights (of a mixture all experts) and KV cache at "
        f"{three(copy)} GB/s (by a copy, bytes read + written), whichever is longer; what stays in the "
        "processor's own cache can beat it. "
        "Ideal: the ratio of these least times, so what the blocks kept and the head imply."
    )
