"""What each block of embedded:depthdial contributes to reasoning depth: `python benchmarks/depthdial.py`.

Scores it as configs/depthdial.yaml says, prints how long that takes and the table, and draws the plot: blocks
whose depth slope is above zero while their simple cost is not are those a fast mode removes.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

import torch

from benchmarks.exact import depth_blocks
from fastpath.cli import console, guarded
from fastpath.env import describe_environment
from fastpath.models import load_model, load_tokenizer, weights_sha256
from fastpath.plots import cost_figure, svg_text
from fastpath.recipe_file import load_recipe
from fastpath.runs import write_text
from fastpath.sources import locate
from prune.scoring import score_blocks
from prune.show import score_lines, score_table

RECIPE = Path(__file__).parents[1] / "configs/depthdial.yaml"


def main() -> int:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/depthdial-scores.svg"), help="the plot")
    options = parser.parse_args()

    def work() -> None:
        recipe = load_recipe(RECIPE, [])
        assert recipe.prune is not None
        folder = locate(recipe.model.name).folder
        model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
        weights = weights_sha256(folder)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            scores = score_blocks(
                model, tokenizer, recipe.prune, seed=recipe.seed, weights=weights, folder=Path(scratch)
            )
        seconds = time.perf_counter() - start
        deep = depth_blocks(scores)
        out = console()
        out.print(score_table(scores, deep, word="deep"))
        for line in score_lines(scores):
            out.print(line, soft_wrap=True, highlight=False)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.out, svg_text(cost_figure(scores, deep), name="scores"))
        print(f"\nscored in {seconds:.1f} s (target: 20 on 2 idle cores); plot: {options.out}")
        print("deep: depth slope above 0 and simple cost not above it, both at 95 %")
        columns = {"simple_nats": scores.simple, "depth_slope_nats": scores.depth_slope}
        table = {name: {"cost": c.cost, "low": c.low, "high": c.high} for name, c in columns.items()}
        facts = {"score_seconds": seconds, "depth_blocks": deep, **table, "env": describe_environment()}
        print(json.dumps(facts))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
