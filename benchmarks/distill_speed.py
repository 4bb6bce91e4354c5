"""What a step of distillation costs beside the common way: `python benchmarks/distill_speed.py`, 6 minutes.

SmolLM2-135M-Instruct teaches itself without 6 blocks. All sides (distill_sides.py) in alternation in one
process on the same packed rows: tables of medians, and one JSON line. A step is forward and backward of one
micro-batch; every token is learnt but the first of a document. With answers alone (--learn answers) we gain
more: the dense way makes the logits of all positions.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import torch
from torch import Tensor

from benchmarks.distill_sides import (
    DENSE,
    EXPECTED,
    PREFIX,
    TOP,
    Side,
    loss_sides,
    num_learnt,
    rows_of,
    sides_of,
)
from benchmarks.scoring import EMBEDDED
from benchmarks.scoring_sides import alternate
from distill.packing import packed_batch
from fastpath.cli import guarded
from fastpath.env import describe_environment, peak_bytes, reset_peak_bytes, used_bytes
from fastpath.models import load_model, load_tokenizer
from fastpath.sources import locate

DROP = (12, 14, 18, 22, 24, 26)
"""Late, like the plans of the searches that spare the first blocks; 12, 14, 22 and 26 are in the recipe's."""
CPU = torch.device("cpu")
MIB = 2**20

Facts = dict[str, dict[str, float]]


def measure(sides: dict[str, Side], *, num_tokens: int, repeats: int) -> Facts:
    """Speed, memory and gradient of every side."""
    dense = {side.over: gradients(sides[side.over]) for side in sides.values()}
    facts = {
        name: {
            "gradient_relative_difference": difference(gradients(side), dense[side.over]),
            "step_bytes": growth(side),
            "weights_bytes": side.weights_bytes,
        }
        for name, side in sides.items()
    }
    turns, _ = alternate({name: side.step for name, side in sides.items()}, repeats)
    seconds = {name: statistics.median(times) for name, times in turns.items()}
    for name, side in sides.items():
        facts[name]["tokens_per_second"] = num_tokens / seconds[name]
        facts[name]["over_dense"] = seconds[side.over] / seconds[name]
    return facts


def gradients(side: Side) -> list[Tensor]:
    """Of every trained weight."""
    side.step()
    found = [p.grad for p in side.trained if p.grad is not None]
    side.clear()
    return found


def difference(got: list[Tensor], want: list[Tensor]) -> float:
    """The largest of a weight's gradient, as a share of its norm."""
    return max(float((g - w).norm() / w.norm()) for g, w in zip(got, want, strict=True))


def growth(side: Side) -> int:
    """Most memory that a step takes beside the weights, gradients included."""
    side.clear()
    reset_peak_bytes(CPU)
    before = used_bytes(CPU)
    side.step()
    return peak_bytes(CPU) - before


def show(facts: Facts, title: str) -> None:
    """A table of sides."""
    names = ("tokens/s", "x dense", "weights MiB", "step MiB", "gradient")
    print(f"\n{title}\n  {'':30}" + "".join(f"{name:>13}" for name in names))
    for name, row in facts.items():
        print(
            f"  {name:30}{row['tokens_per_second']:13.1f}{row['over_dense']:13.2f}"
            f"{row['weights_bytes'] / MIB:13.0f}{row['step_bytes'] / MIB:13.0f}"
            f"{row['gradient_relative_difference']:13.1e}",
            flush=True,
        )


def claims_of(loss: Facts, step: Facts) -> dict[str, float]:
    """What is claimed. Of the top k alone a gradient is not the dense one: no claim rests on them."""
    exact = [row for name, row in [*loss.items(), *step.items()] if name != TOP]
    return {
        "loss_memory_ratio": loss["chunked loss"]["step_bytes"] / loss[DENSE]["step_bytes"],
        "tokens_per_second_ratio": max(step[name]["over_dense"] for name in (PREFIX, EXPECTED)),
        "max_gradient_relative_difference": max(row["gradient_relative_difference"] for row in exact),
    }


def main() -> int:
    """Print the tables and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--drop", type=int, nargs="+", default=DROP, help="blocks, not the first")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512, help="of a row")
    parser.add_argument("--loss-tokens", type=int, default=2048, help="a recipe's micro-batch by default")
    parser.add_argument("--learn", choices=["all", "answers"], default="all")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    def work() -> None:
        folder = locate(options.model).folder
        tokenizer = load_tokenizer(folder)
        vocabulary = 1 + max(tokenizer.get_vocab().values())
        rows = rows_of(tokenizer, num_rows=options.rows, max_tokens=options.tokens, learn=options.learn)
        batch, repeats = packed_batch(rows, pad=0), options.repeats
        sides = loss_sides(load_model(folder, dtype=torch.float32), batch, options.loss_tokens, vocabulary)
        loss = measure(sides, num_tokens=options.loss_tokens, repeats=repeats)
        show(loss, f"the loss alone: {options.loss_tokens} tokens, vocabulary {vocabulary}")
        num_tokens = batch["labels"].numel()
        with tempfile.TemporaryDirectory() as store:
            sides = sides_of(folder, options.drop, rows, vocabulary, Path(store))
            step = measure(sides, num_tokens=num_tokens, repeats=repeats)
        show(step, f"a step: {num_tokens} tokens, {num_learnt(batch)} learnt; without {[*options.drop]}")
        claims = claims_of(loss, step)
        for key, target in (("loss_memory_ratio", "<= 0.4"), ("tokens_per_second_ratio", ">= 1.3")):
            print(f"\n  {key:30}{claims[key]:13.3f}  {target}", end="")
        print(f"\n  {'gradient':30}{claims['max_gradient_relative_difference']:13.1e}\n")
        shapes = {**vars(options), "learnt_tokens": num_learnt(batch), "vocabulary": vocabulary}
        print(json.dumps({**claims, **shapes, "loss": loss, "step": step, "env": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
