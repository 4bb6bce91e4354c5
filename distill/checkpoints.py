"""Checkpoints that were written to their end: a run killed in the middle of one uses the one before."""

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from fastpath.runs import write_text

WHOLE = "DONE"
KEPT = 2
"""The Trainer deletes older ones before the newest is marked as whole, so it must keep two."""


def mark_whole(folder: Path, step: int) -> None:
    """Say that FOLDER/checkpoint-STEP is complete."""
    write_text(folder / f"{PREFIX_CHECKPOINT_DIR}-{step}" / WHOLE, "")


def unmark(folder: Path, step: int) -> None:
    """Say that FOLDER/checkpoint-STEP, if there is one, is not to be gone on from."""
    (folder / f"{PREFIX_CHECKPOINT_DIR}-{step}" / WHOLE).unlink(missing_ok=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The latest complete checkpoint; unfinished ones are deleted."""
    whole = {}
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (path / WHOLE).exists():
            whole[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return whole[max(whole)] if whole else None


def read_trained(pair: Any, checkpoint: Path) -> None:
    """Put the trained weights of a checkpoint into a pair, which must train the same ones."""
    missing, unknown = pair.load_state_dict(load_file(checkpoint / SAFE_WEIGHTS_NAME), strict=False)
    trained = {name for name, p in pair.named_parameters() if p.requires_grad}
    assert not unknown and trained.isdisjoint(missing), f"{checkpoint}: of another mode"
