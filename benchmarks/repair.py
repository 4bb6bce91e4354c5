"""What each repair without training does to a cut: nats on calibration items that it has not seen.

python benchmarks/repair.py
python benchmarks/repair.py --config configs/quickstart.yaml --drop 12 14 26 --drop 5 12 14 22 26 27

A row a repair: nats per answer token on simple and complex items, the rise over the plain cut with its 95 %
interval over templates, the seconds it took, and whether it would be applied. The last line is JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

from fastpath.blocks import find_blocks, keep_blocks
from fastpath.cli import guarded
from fastpath.config import PruneConfig
from fastpath.models import load_model, load_tokenizer, pick_device, pick_dtype
from fastpath.plan import Plan
from fastpath.recipe_file import load_recipe
from fastpath.sources import locate
from prune.judge import judged, mend, repair_items, suite_nats
from prune.repair import REPAIRS, check_repair

DROPS = [[12, 14, 26], [5, 12, 14, 22, 26, 27]]
"""What configs/quickstart.yaml drops of its model at prune.drop=3 and 6."""


def measure(config: str, drops: list[list[int]], repairs: list[str]) -> dict[str, Any]:
    """The facts of every drop and repair, printed row by row."""
    recipe = load_recipe(config)
    prune = recipe.prune or PruneConfig(drop=1)
    device = pick_device(recipe.model)
    folder = locate(recipe.model.name, revision=recipe.model.revision).folder
    base = load_model(folder, dtype=pick_dtype(recipe.model, device)[0], device=device)
    tokenizer = load_tokenizer(folder)
    parts = repair_items(prune, seed=recipe.seed)
    counts = {name: sum(map(len, getattr(parts, name).values())) for name in ("fit", "choose", "judge")}
    sizes = ", ".join(f"{count} items to {name}" for name, count in counts.items())
    print(f"{recipe.model.name}: {sizes}; no template in two of them")
    whole = {}
    for suite, items in parts.judge.items():
        nats, answer_tokens = suite_nats(base, items, tokenizer, batch_tokens=prune.batch_tokens)
        whole[suite] = float(nats.sum() / answer_tokens.sum())
    print(f"base: simple {whole['simple']:.3f}, complex {whole['complex']:.3f} nats per answer token\n")
    print(
        f"{'dropped':24}{'repair':8}{'simple':>8}{'rise (95 %)':>26}{'complex':>9}{'rise (95 %)':>26}{'s':>6}"
    )
    facts: dict[str, Any] = {"base": whole, "items": counts, "drops": {}}
    depth = len(find_blocks(base)[1])
    for drop in drops:
        keep = tuple(i for i in range(depth) if i not in drop)
        plan = Plan(depth=depth, keep=keep, criterion="given", chooser="given", cost=None, unit="")
        cut = keep_blocks(base, keep)
        name = " ".join(map(str, drop))
        facts["drops"][name] = {}
        for method in repairs:
            check_repair(method, base)
            start = time.perf_counter()
            tokens = prune.batch_tokens
            mended = mend(method, base, cut, plan, tokenizer, parts=parts, batch_tokens=tokens)
            seconds = time.perf_counter() - start
            found = judged(method, mended, cut, parts.judge, tokenizer, seed=recipe.seed, batch_tokens=tokens)
            facts["drops"][name][method] = {**found.model_dump(), "seconds": round(seconds, 1)}
            cells = [
                f"{nats:{width}.3f}" + f"{rise:+.3f} [{low:+.3f}, {high:+.3f}]".rjust(26)
                for width, nats, (rise, low, high) in (
                    (8, found.simple_after_nats, found.simple_rise),
                    (9, found.complex_after_nats, found.complex_rise),
                )
            ]
            verdict = "" if method == "none" else "  applied" if found.applied else "  NOT applied"
            print(f"{name:24}{method:8}{''.join(cells)}{seconds:6.0f}{verdict}", flush=True)
            for note in found.notes:
                print(f"{'':26}{note}", flush=True)
    return facts


def main() -> int:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--drop", type=int, nargs="+", action="append", help="blocks; may be given again")
    parser.add_argument("--repairs", nargs="+", choices=REPAIRS, default=["none", "linear", "merge"])
    options = parser.parse_args()

    def work() -> None:
        print(json.dumps(measure(options.config, options.drop or DROPS, options.repairs)))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
