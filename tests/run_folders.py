"""Finished run folders, made on the spot and changed at will."""

import json
import shutil
import sys
from pathlib import Path

from tiny import run_stage, write_recipe, write_tiny

from eval import report

CONTRAST = {
    "accuracy": {"gap": 0.09, "gap_low": 0.02, "gap_high": 0.158},
    "nats": {"gap": 0.41, "gap_low": -0.2, "gap_high": 0.6},
}


def write_run(folder: Path) -> Path:
    """A run folder of a tiny model with both stages done."""
    model = write_tiny(folder / "model")
    recipe = write_recipe(folder / "r.yaml", model=model, out=folder / "run", prune={"criterion": "cosine"})
    assert run_stage("prune", recipe) == 0
    assert run_stage("eval", recipe) == 0
    return folder / "run"


def copy_run(run: Path, folder: Path) -> Path:
    """Another run folder with the same facts."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("outcomes", "*.safetensors"))
    return folder


def change_results(run: Path, **results) -> None:
    """Put other values into results.json."""
    path = run / "eval/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | results))


def copied(data):
    """JSON data that may be changed."""
    return json.loads(json.dumps(data))


def with_contrast(depth: dict) -> dict:
    """Depth facts of one dial as if the base were above chance at every k."""
    depth = copied(depth)
    (dial,) = depth["dials"].values()
    dial |= {"k_high": dial["levels"][-1]["k"], "contrast": {"fast": CONTRAST}}
    return depth | {"contrast": {"fast": CONTRAST | {"dials": list(depth["dials"])}}}


def report_of(monkeypatch, *arguments) -> int:
    """`python -m eval.report ...` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["eval.report", *map(str, arguments)])
    return report.main()
