"""Target mergekit: the passthrough YAML of the cut, executed by mergekit and compared tensor by tensor."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from fastpath.errors import ExportError
from fastpath.runs import new_folder, write_text
from prune.exports.made import Made
from prune.exports.proof import run_python, version_of
from prune.exports.request import Request
from prune.mergekit import mergekit_yaml

INSTALL = "pip install -c constraints.txt -e '.[mergekit]'"


def export_mergekit(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Write mergekit.yaml; where mergekit runs it, the model it makes must be the run's, byte for byte."""
    if made.stage != "prune":
        raise ExportError(
            "mergekit cuts and does not train: `--model prune` gives the cut before distillation"
        )
    if made.plan.repair is not None and made.plan.repair.applied:
        raise ExportError(
            f"mergekit gives the bare cut, this model was repaired ({made.plan.repair.method}): --to hf works"
        )
    loaded_by = version_of("mergekit", request.python, extra=INSTALL)
    with new_folder(out) as unfinished:
        file = unfinished / "mergekit.yaml"
        write_text(file, mergekit_yaml(made.plan, made.base()))
        merged = unfinished / "model"
        trust = ["--trust-remote-code"] if made.trust else []
        run_python(
            request.python, ["-m", "mergekit.scripts.run_yaml", str(file), str(merged), "--quiet", *trust],
            what=loaded_by,
        )  # fmt: skip
        tensors = compared(made.folder, merged)
    line = f"mergekit-yaml {out / 'mergekit.yaml'} FOLDER"
    print(line)
    return {"file": str(out / "mergekit.yaml"), "proof": {"executed_by": loaded_by, "tensors_equal": tensors}}


def compared(ours: Path, theirs: Path) -> int:
    """How many tensors two folders hold, all equal in name, type and value. Raises ExportError."""
    one, other = stored_tensors(ours), stored_tensors(theirs)
    if lone := sorted(one.keys() ^ other.keys()):
        raise ExportError(f"{theirs}: {lone[0]} is in one of the two models only")
    for name, file in one.items():
        with safe_open(file, "pt") as mine, safe_open(other[name], "pt") as its:
            a, b = mine.get_tensor(name), its.get_tensor(name)
        if a.dtype != b.dtype or not torch.equal(a, b):
            raise ExportError(f"{theirs}: {name} is not what the run cut")
    return len(one)


def stored_tensors(folder: Path) -> dict[str, Path]:
    """Name of every tensor in a folder -> the file that holds it."""
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    return found
