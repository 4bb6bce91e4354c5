"""Target hf: a stock Hugging Face folder that can be published as it is."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastpath.errors import ConfigError, ExportError
from fastpath.models import Lineage, weights_sha256
from fastpath.quiet import quiet
from fastpath.runs import new_folder, write_text
from fastpath.sources import LEGAL, is_hub_id
from prune.exports.hub import hub_card, push
from prune.exports.made import Made
from prune.exports.proof import prove, version_of
from prune.exports.request import Request

TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model",
    "*.tiktoken", "chat_template*", "additional_chat_templates/*",
)  # fmt: skip
"""Files that stay as the base has them, byte for byte: read and written again they may differ."""
OF_THE_BASE = (*TOKENIZER, "generation_config.json", *LEGAL)


def export_hf(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Write the folder, have stock transformers load it, push it if that was asked."""
    with new_folder(out) as unfinished:
        base = made.base().folder
        copy_model(made, unfinished, request.max_shard_size)
        same = copy_of_base(base, unfinished)
        body = (made.folder / "README.md").read_text(encoding="utf-8")
        lineage = told_lineage(made, unfinished, request)
        if lineage != made.lineage:
            lineage.write(unfinished)
            body = body.replace(made.lineage.weights_sha256, lineage.weights_sha256)
            body = body.replace(made.lineage.base, lineage.base)
        write_text(unfinished / "README.md", hub_card(made, base, body))
        loaded_by = version_of("transformers", request.python, extra="pip install transformers")
        proof = prove(made, "hf", unfinished, dtype="float32", loaded_by=loaded_by, python=request.python)
        if different := [name for name in same if not same_bytes(base / name, unfinished / name)]:
            raise ExportError(f"{unfinished / different[0]}: differs from the base's")
    facts: dict[str, Any] = {"proof": proof.facts, "as_the_base": same}
    facts["shards"] = len(list(out.glob("*.safetensors")))
    if request.push:
        facts["pushed_to"] = push(out, request.push)
    return facts


def told_lineage(made: Made, folder: Path, request: Request) -> Lineage:
    """The lineage of what was written: its own digest; pushed, a local base has no path."""
    lineage = made.lineage
    if request.max_shard_size:
        lineage = replace(lineage, weights_sha256=weights_sha256(folder))
    if request.push and not lineage.base.startswith("embedded:") and not is_hub_id(lineage.base):
        lineage = replace(lineage, base=Path(lineage.base).name)
    return lineage


def copy_model(made: Made, folder: Path, max_shard_size: str = "") -> None:
    """The run's model folder without its tokenizer: linked where the disk can, or saved in smaller files."""
    theirs = {path for pattern in TOKENIZER for path in made.folder.glob(pattern)}
    for path in sorted(made.folder.iterdir()):
        weights = path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json")
        if path in theirs or not path.is_file() or path.name == "README.md" or (weights and max_shard_size):
            continue
        (_link if weights else shutil.copy2)(path, folder / path.name)
    if not max_shard_size:
        return
    stored = made.load(dtype="auto")
    try:
        with quiet():
            stored.save_pretrained(folder, max_shard_size=max_shard_size)
    except ValueError as error:
        raise ConfigError(f"--max-shard-size {max_shard_size}: {error}") from None


def copy_of_base(base: Path, folder: Path) -> list[str]:
    """Copy the files that stay the base's own; their names."""
    paths = {path for pattern in OF_THE_BASE for path in base.glob(pattern) if path.is_file()}
    for path in paths:
        target = folder / path.relative_to(base)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return sorted(str(path.relative_to(base)) for path in paths)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same."""
    return one.read_bytes() == other.read_bytes()


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, target)
