"""Speculative decoding in the files for vLLM: the draft model and how many tokens it guesses."""

from pathlib import Path
from typing import Any

from fastpath.errors import ConfigError
from fastpath.runs import read_json

SPECULATIVE_TOKENS = 4
"""Where nothing was measured."""


def speculative(draft: str) -> dict[str, Any]:
    """vLLM's speculative-config, with the k that `prune.export --to draft` found, if it made the draft.

    Raises ConfigError for a draft that it found not to pay.
    """
    tokens = measured_tokens(Path(draft))
    if tokens == 0:
        raise ConfigError(
            f"--draft-model {draft}: measured as off (draft.json): it would slow the model down. Distil it, "
            "measure it on the machine that serves (`python -m prune.export --to draft`), or leave it out"
        )
    settings = {"num_speculative_tokens": SPECULATIVE_TOKENS if tokens is None else tokens}
    return {"model": draft, "method": "draft_model", **settings}


def measured_tokens(draft: Path) -> int | None:
    """Guesses a round that pay, as measured: of draft.json in the export, else of the model's own files.

    0: none do. None: nothing was measured.
    """
    if not draft.is_dir():
        return None  # a hub id
    for folder in (draft, *draft.parents[:2]):  # EXPORT/STAGE/model
        if (folder / "draft.json").is_file() and "tokens" in (said := read_json(folder / "draft.json")):
            return int(said["tokens"])
    config = draft / "generation_config.json"
    said = read_json(config) if config.is_file() else {}
    return said.get("num_assistant_tokens")
