"""What a GPU makes of a cut model: python benchmarks/gpu.py, one command, no network, under 8 minutes.

A Llama-class model of 1.1 billion parameters is made on the spot with random weights (speed does not depend
on their values) and cut twice. Each section adds a table beside the ceilings measured in the same run; all
go to benchmarks/results/gpu-NAME-OF-THE-DEVICE.md after each section, so that a cut-off run leaves what it
has. Without a GPU it says so and measures nothing.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from eval.speed import measure_speed
from eval.speed_tables import speed_grid_table, speed_table, three
from eval.tables import Table
from fastpath.blocks import keep_blocks
from fastpath.env import describe_environment, device_name, fast_dtype

RESULTS = Path(__file__).parent / "results"
MISSING = "not measured"


@dataclass(frozen=True)
class Size:
    """The model and the shapes."""

    config: dict[str, Any]
    drops: tuple[int, ...]
    prompt_tokens: int
    new_tokens: int
    batch_sizes: tuple[int, ...]


# The shape of TinyLlama-1.1B (Zhang et al., 2024), and one for a smoke test.
LARGE = Size(
    {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    drops=(4, 8),
    prompt_tokens=512,
    new_tokens=64,
    batch_sizes=(1, 8, 64),
)
TINY = Size(
    {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 260,
        "max_position_embeddings": 64,
    },
    drops=(1, 2),
    prompt_tokens=16,
    new_tokens=4,
    batch_sizes=(1, 2),
)


@dataclass(frozen=True)
class Bench:
    """What the sections measure: the base first, then its cuts, which share its weights."""

    models: dict[str, PreTrainedModel]
    size: Size


@dataclass(frozen=True)
class Section:
    """Tables for people and facts for programs."""

    tables: list[Table]
    facts: dict[str, Any]


def made_on_the_spot(size: Size, device: torch.device) -> Bench:
    """The base with random weights in the dtype that the device computes fast, and its cuts."""
    torch.manual_seed(0)
    with device:
        base = LlamaForCausalLM._from_config(LlamaConfig(**size.config), dtype=fast_dtype(device)[0]).eval()
    models = {"base": base}
    depth = size.config["num_hidden_layers"]
    for drop in size.drops:
        late = range(depth - 2 - drop, depth - 2)  # any choice is as fast as this one
        models[f"drop-{drop}"] = keep_blocks(base, [i for i in range(depth) if i not in late])
    return Bench(models, size)


def speed(bench: Bench) -> Section:
    """Prefill and decode of the base and its cuts at every batch size."""
    return _speed(bench, bench.size.batch_sizes, compile=False)


def compiled_speed(bench: Bench) -> Section:
    """The same with static cache and torch.compile, for one sequence: there launching kernels costs most."""
    return _speed(bench, bench.size.batch_sizes[:1], compile=True)


def _speed(bench: Bench, batch_sizes: tuple[int, ...], *, compile: bool) -> Section:
    facts = measure_speed(
        bench.models,
        prompt_tokens=(bench.size.prompt_tokens,),
        new_tokens=bench.size.new_tokens,
        batch_size=batch_sizes,
        compile=compile,
    )
    tables = [table for table in (speed_table(facts), speed_grid_table(facts)) if table is not None]
    points = [{k: point[k] for k in ("batch_size", "ratios", "ideal_ratios")} for point in facts["points"]]
    return Section(tables, {"ceilings": facts["ceilings"], "points": points})


def measured(section: Callable[[Bench], Section], bench: Bench) -> Section:
    """What the section found, or why it found nothing: the others shall still be measured."""
    try:
        return section(bench)
    except (ValueError, torch.OutOfMemoryError) as error:
        return Section([], {MISSING: str(error).split("\n")[0]})


SECTIONS: dict[str, Callable[[Bench], Section]] = {"speed": speed, "compiled": compiled_speed}


def heading(device: torch.device, bench: Bench) -> str:
    """On what and of what: device, versions, model."""
    env = describe_environment()
    base = bench.models["base"]
    millions = sum(p.numel() for p in base.parameters()) / 1e6
    versions = f"torch {env['packages']['torch']}, transformers {env['packages']['transformers']}"
    return (
        f"# {device_name(device)}\n\n`python benchmarks/gpu.py`, {versions}, code {env['git_revision']}.\n"
        f"Llama of {three(millions)} M random parameters in {str(base.dtype)[6:]}, "
        f"{base.config.num_hidden_layers} blocks; drop-N: without N of them.\n"
    )


def results_file(device: torch.device) -> Path:
    """Named after the device in letters that any file system takes."""
    return RESULTS / f"gpu-{re.sub(r'[^A-Za-z0-9]+', '-', device_name(device)).strip('-')}.md"


def find_device(name: str) -> torch.device | None:
    """The device of that name; for auto the GPU, None if there is none."""
    if name != "auto":
        return torch.device(name)
    return torch.accelerator.current_accelerator(check_available=True)


def main() -> None:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto: the GPU")
    parser.add_argument(
        "--tiny", action="store_true", help="a model of a few thousand parameters: a smoke test"
    )
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS))
    options = parser.parse_args()
    device = find_device(options.device)
    if device is None:
        print("no GPU found: nothing was measured, nothing was written")
        print(json.dumps({"device": "none", "measured": False}))
        return
    start = time.perf_counter()
    bench = made_on_the_spot(TINY if options.tiny else LARGE, device)
    text, facts = heading(device, bench), {}
    print(text, flush=True)
    for name in options.only:
        section = measured(SECTIONS[name], bench)
        facts[name] = section.facts
        said = [f"## {name}\n", *(table.markdown() for table in section.tables)]
        part = "\n".join(said + [f"{key}: {why}\n" for key, why in section.facts.items() if key == MISSING])
        print(part, flush=True)
        text += f"\n{part}"
        if device.type != "cpu" and not options.tiny:
            RESULTS.mkdir(exist_ok=True)
            results_file(device).write_text(text, encoding="utf-8")
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"device": device_name(device), "measured": True, "seconds": seconds, **facts}))


if __name__ == "__main__":
    main()
