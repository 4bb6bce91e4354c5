"""The proof of an export: the target's own code, in a process without fastpath, predicts as the model."""

# T tokens, V vocabulary

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fastpath.errors import ExportError
from fastpath.models import load_tokenizer
from prune.exports.made import Made

CHECK = Path(__file__).with_name("check.py")
TEXTS = (
    "The capital of France is",
    "def add(a, b):\n    return",
    "Label the document. An invoice of 12,345.67 EUR, due on 3 May:",
    "Question: what is 17 + 25?\nAnswer: 17 + 25 =",
)
MOST_TOKENS = 64
SHARE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""Allowed difference, as a share of the largest log-probability, by the type of the written weights."""
WAIT_SECONDS = 3600


@dataclass(frozen=True)
class Proof:
    """How far the export's log-probabilities are from the model's, over the whole vocabulary."""

    loaded_by: str
    prompts: int
    positions: int
    """Tokens after which they were compared."""
    largest_difference: float
    """Of a log-probability, in nats."""
    allowed: float
    same_top: float
    """Share of the positions with the same most likely token."""

    @property
    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@torch.no_grad()
def write_reference(made: Made, path: Path) -> None:
    """What the model predicts for a few prompts, in float32, as check.py reads it."""
    model, tokenizer = (
        made.load(dtype=torch.float32),
        load_tokenizer(made.folder, trust_remote_code=made.trust),
    )
    tensors = {}
    for number, text in enumerate(TEXTS):
        ids_T = torch.tensor(tokenizer(text)["input_ids"][:MOST_TOKENS])
        tensors[f"ids.{number}"] = ids_T
        tensors[f"logits.{number}"] = model(ids_T[None], use_cache=False).logits[0].contiguous()
    save_file(tensors, path)


def prove(target: str, model: Path, reference: Path, *, dtype: str, loaded_by: str, python: str) -> Proof:
    """Have the target load `model`, and compare. Raises ExportError if it fails or predicts otherwise."""
    said = run_python(
        python, [str(CHECK), target, str(model), str(reference)], what=f"{loaded_by} on {model}"
    )
    facts = json.loads(said.strip().splitlines()[-1])
    worst = facts["largest_difference"]
    allowed = SHARE[dtype] * facts["largest"]
    if worst is None or not worst <= allowed:
        off = "did not give all log-probabilities" if worst is None else f"is off by {worst:.3g} nats"
        raise ExportError(f"{model}: loaded by {loaded_by} it {off} (allowed {allowed:.3g}): not exported")
    return Proof(
        loaded_by=loaded_by,
        prompts=facts["prompts"],
        positions=facts["positions"],
        largest_difference=worst,
        allowed=allowed,
        same_top=facts["same_top"] / facts["positions"],
    )


def run_python(python: str, arguments: list[str], *, what: str) -> str:
    """What a Python program printed; neither this folder nor PYTHONPATH is importable there. ExportError."""
    return run_program([python, "-I", *arguments], what=what)


def run_program(command: list[str], *, what: str) -> str:
    """What a program printed. Raises ExportError with the last line of what it complained about."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    except OSError as error:
        raise ExportError(f"{command[0]}: cannot be run ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise ExportError(f"{what}: not finished after {WAIT_SECONDS} seconds") from None
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["it said nothing"]
        raise ExportError(f"{what}: failed (exit code {done.returncode}): {lines[-1].strip()[:300]}")
    return done.stdout


def version_of(package: str, python: str, *, extra: str) -> str:
    """ "PACKAGE VERSION" in the environment of `python`. Raises ExportError saying how to install it."""
    code = (
        "from importlib import metadata\n"
        f"try: print(metadata.version({package!r}))\n"
        "except metadata.PackageNotFoundError: print('')"
    )
    version = run_python(python, ["-c", code], what=python).strip()
    if not version:
        where = "" if python == sys.executable else f" in the environment of {python}"
        raise ExportError(f"{package} is not installed{where}: {extra}")
    return f"{package} {version}"
