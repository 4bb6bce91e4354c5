"""Target mergekit: the passthrough YAML of the cut, executed by mergekit and compared with the cut."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig

from fastpath.block_config import beyond_depth
from fastpath.errors import ExportError
from fastpath.runs import new_folder, write_text
from prune.exports.made import Made
from prune.exports.proof import prove, run_python, trusting, version_of
from prune.exports.request import Request
from prune.mergekit import mergekit_yaml

INSTALL = "`make test-exports` installs it: then --python .venv-exports/bin/python"
WRITTEN = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}
"""Keys of a config that say how it was written; the types of the tensors are compared by themselves."""


def export_mergekit(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Write mergekit.yaml; where mergekit runs it, the model it makes must be the run's."""
    if made.stage != "prune":
        raise ExportError(
            "mergekit cuts and does not train: `--model prune` gives the cut before distillation"
        )
    if made.plan.repair is not None and made.plan.repair.applied:
        raise ExportError(
            f"mergekit gives the bare cut, this model was repaired ({made.plan.repair.method}): --to hf works"
        )
    loaded_by = version_of("mergekit", request.python, extra=INSTALL)
    transformers = version_of("transformers", request.python, extra=INSTALL)
    base = made.base()
    beyond = beyond_depth(config_of(base.folder, made), made.plan.keep)
    with new_folder(out) as unfinished:
        file = unfinished / "mergekit.yaml"
        write_text(file, mergekit_yaml(made.plan, base, beyond))
        merged = unfinished / "model"
        arguments = ["-m", "mergekit.scripts.run_yaml", str(file), str(merged), "--quiet"]
        try:
            run_python(request.python, [*arguments, *trusting(made.trust)], what=loaded_by)
            tensors = compared(made.folder, merged)
            check_config(config_of(merged, made), config_of(made.folder, made))
            proof = prove(made, "hf", merged, dtype="float32", loaded_by=transformers, python=request.python)
        except ExportError as error:
            if not beyond:
                raise
            raise ExportError(
                f"{error}. mergekit changes the number of layers only, and this cut also changes "
                f"{', '.join(beyond)} of config.json: --to hf works"
            ) from None
    line = f"mergekit-yaml {out / 'mergekit.yaml'} FOLDER"
    print(line)
    facts = {"executed_by": loaded_by, "tensors_equal": tensors, **proof.facts}
    return {"file": str(out / "mergekit.yaml"), "proof": facts}


def config_of(folder: Path, made: Made) -> Any:
    """The config of a model folder. Raises ExportError."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=made.trust)
    except Exception as error:  # a config class raises whatever it stumbles over
        raise ExportError(f"{folder}: its config cannot be read ({str(error).strip():.200})") from None


def check_config(theirs: Any, ours: Any) -> None:
    """Raise ExportError naming a key in which two configs differ, apart from what says how they were made."""
    one, other = theirs.to_dict(), ours.to_dict()
    for key in sorted((one.keys() | other.keys()) - WRITTEN):
        if one.get(key) != other.get(key):
            raise ExportError(
                f"config.json by mergekit says {key} {one.get(key)!r}, the run's {other.get(key)!r}"
            )


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
