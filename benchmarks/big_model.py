"""How much memory pruning a 1.7B-class model takes on a CPU: `python benchmarks/big_model.py` (15 min).

A Llama of SmolLM2-1.7B's shape with random float32 weights (6.4 GiB) is made on the spot, then
`python -m prune` scores all its blocks by ablation on 2 items a task, drops 3 by a greedy search and exports,
in a process of its own that is watched. A row a phase, and one JSON line.

resident: physical memory of the process, with the pages of the weights' files that it maps, which the system
may drop at any time. anonymous: without them; what it must find room for. swap: of it, put out to disk.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

from fastpath.cli import guarded

ROOT = Path(__file__).parents[1]

BUDGET_GIB = 20.0
SECONDS_BETWEEN_LOOKS = 0.2
PHASES = {"scores.json": "score", "frontier.json": "search", "DONE": "export"}
"""The file that ends each phase."""
GIB = {"peak_rss_gib": "VmRSS", "peak_anonymous_gib": "RssAnon", "swap_gib": "VmSwap"}
RECIPE = """
out: {folder}/run
model: {{name: {folder}/model, dtype: float32, device: cpu}}
prune:
  drop: 3
  criterion: ablation
  chooser: greedy
  items_per_task: 2
  items_per_level: 2
  simple_tasks: [doc_type, routing, field_lookup]
  complex_tasks: [arithmetic]
  depth_tasks: [brackets]
"""


def make_model(folder: Path, *, depth: int) -> None:
    """Save a random model of SmolLM2-1.7B's shape beside the embedded model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fastpath.models import load_tokenizer
    from fastpath.quiet import quiet
    from fastpath.sources import locate

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, tie_word_embeddings=True, hidden_size=2048, intermediate_size=8192,
        num_hidden_layers=depth, num_attention_heads=32, num_key_value_heads=32,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with quiet():
        model.save_pretrained(folder, max_shard_size="2GB")
    load_tokenizer(locate("embedded:smollm2-135m-instruct").folder).save_pretrained(folder)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e9:.2f} billion parameters", flush=True)


def watched(command: list[str], folder: Path, *, log: Path) -> dict[str, dict[str, float]]:
    """Run a command that fills `folder`; the seconds, most GiB and major page faults of every phase."""
    phases: dict[str, dict[str, float]] = {}
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        start, faults_before = time.monotonic(), 0
        while process.poll() is None:
            phase = next((name for file, name in PHASES.items() if not (folder / file).exists()), "export")
            facts = phases.setdefault(phase, dict.fromkeys((*GIB, "seconds", "major_faults"), 0.0))
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                faults = int(Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[9])
            except OSError:  # it has just ended
                break
            for key, field in GIB.items():
                if found := re.search(rf"{field}:\s+(\d+) kB", status):  # a dead process has none
                    facts[key] = max(facts[key], int(found[1]) / 2**20)
            facts["seconds"] += time.monotonic() - start
            facts["major_faults"] += faults - faults_before
            start, faults_before = time.monotonic(), faults
            time.sleep(SECONDS_BETWEEN_LOOKS)
        code = process.wait()
    if code:
        raise RuntimeError(log.read_text()[-3000:])
    return phases


def measure(folder: Path, *, depth: int) -> dict[str, Any]:
    """Make the model, prune it; the facts, printed."""
    make = [sys.executable, __file__, "--make", str(folder / "model"), "--blocks", str(depth)]
    subprocess.run(make, check=True)  # a process of its own: its memory goes back
    (folder / "r.yaml").write_text(RECIPE.format(folder=folder))
    prune = [sys.executable, "-m", "prune", "--config", str(folder / "r.yaml")]
    phases = watched(prune, folder / "run/prune", log=folder / "log.txt")
    print(f"{'phase':10}{'seconds':>9}{'resident':>10}{'anonymous':>11}{'swap':>7} GiB{'major faults':>14}")
    for name, facts in phases.items():
        cells = f"{facts['peak_rss_gib']:10.2f}{facts['peak_anonymous_gib']:11.2f}{facts['swap_gib']:7.2f}"
        print(f"{name:10}{facts['seconds']:9.0f}{cells}{facts['major_faults']:18.0f}")
    peaks = {key: round(max(facts[key] for facts in phases.values()), 2) for key in GIB}
    return {
        **peaks,
        "seconds": round(sum(facts["seconds"] for facts in phases.values()), 1),
        "major_faults": sum(facts["major_faults"] for facts in phases.values()),
        "inside_budget": peaks["peak_rss_gib"] <= BUDGET_GIB and not peaks["swap_gib"],
        "budget_gib": BUDGET_GIB,
        "phases": phases,
    }


def main() -> int:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--make", type=Path, help="only make the model in this folder")
    options = parser.parse_args()

    def work() -> None:
        if options.make:
            return make_model(options.make, depth=options.blocks)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), depth=options.blocks)))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
