"""Put what was trained into the stored weights and save them: a stock model folder."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from distill.checkpoints import read_trained
from distill.job import Job
from distill.pair import Pair, hidden_at
from fastpath.blocks import TOLERANCE, find_blocks
from fastpath.card import write_card
from fastpath.config_distill import DistillConfig
from fastpath.errors import SurgeryError
from fastpath.models import Lineage, load_model, load_tokenizer, save_model, weights_sha256
from fastpath.plan import Plan
from fastpath.runs import new_folder
from fastpath.team import is_sharded

log = logging.getLogger("fastpath")
OF_PEFT = "base_model.model."
DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"


def export_model(
    load_pair: Callable[[], Pair],
    job: Job,
    checkpoint: Path,
    lineage: Lineage,
    plan: Plan,
    config: DistillConfig,
    folder: Path,
    *,
    trust: bool,
) -> None:
    """Save the checkpoint's student in the type it was stored in, and compare it with the trained one.

    The pair is gone before the saved model comes: memory that trained one holds the other. `lineage` lacks
    the digest of the new weights. Raises SurgeryError if what is read back is another model.
    """
    with new_folder(folder) as unfinished:
        trained = None if is_sharded() else trained_student(load_pair(), checkpoint)
        stored = load_model(job.student, dtype="auto", trust_remote_code=trust)
        put(stored, trained_weights(checkpoint), job, config)
        save_model(stored, load_tokenizer(job.student, trust_remote_code=trust), unfinished)
        dtype = stored.dtype
        del stored  # large; and another copy of the model is coming
        if trained is not None:
            worst = difference(trained, unfinished, dtype, trust=trust)
            log.info("largest difference of a hidden state from the trained student: %.1e", worst)
        facts = {**vars(lineage), "weights_sha256": weights_sha256(unfinished)}
        Lineage(**facts).write(unfinished)
        write_card(unfinished, plan)


def trained_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The trained tensors of a checkpoint, by their names in the student."""
    tensors = load_file(checkpoint / SAFE_WEIGHTS_NAME)
    return {name.removeprefix("student."): tensor for name, tensor in tensors.items()}


@torch.no_grad()
def put(stored: PreTrainedModel, trained: dict[str, Tensor], job: Job, config: DistillConfig) -> None:
    """Write trained tensors over the stored ones; adapters are added to their layers, rounded once."""
    path = find_blocks(stored)[0]
    scale = config.lora_alpha / config.lora_rank
    for name, tensor in trained.items():
        if name.endswith(UP):
            continue  # with its other half
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            target = layer.removeprefix(OF_PEFT) + ".weight"
            if job.mode == "shared-lora":
                target = _renumbered(target, path, job.keep)
            weight = stored.get_parameter(target)
            weight.copy_(weight.float() + scale * trained[layer + UP] @ tensor)
        else:
            stored.get_parameter(name).copy_(tensor)


@dataclass(frozen=True)
class Heard:
    """What enters the head of a student on fixed tokens."""

    hidden_ND: Tensor
    dtype: torch.dtype
    """What it computed in."""
    device: torch.device


@torch.no_grad()
def trained_student(pair: Pair, checkpoint: Path) -> Heard:
    """What the pair's student computes with the weights of a checkpoint."""
    read_trained(pair, checkpoint)
    pair.eval()
    with pair.student_alone() as student:
        return Heard(_hidden(student), pair.dtype, student.device)


@torch.no_grad()
def difference(trained: Heard, folder: Path, stored: torch.dtype, *, trust: bool) -> float:
    """Largest difference of what enters the head of the trained student and of the one saved in a folder.

    Raises SurgeryError if it is more than rounding to the type it is `stored` in explains.
    """
    saved = load_model(folder, dtype=trained.dtype, device=trained.device, trust_remote_code=trust)
    want_ND, got_ND = trained.hidden_ND, _hidden(saved)
    tolerance = TOLERANCE[trained.dtype] + TOLERANCE[stored]
    worst, limit = (got_ND - want_ND).abs().max().item(), want_ND.abs().max().item() * tolerance
    if not worst <= limit:
        raise SurgeryError(
            f"{type(saved).__name__}: the exported student is off by {worst:.2g} (allowed {limit:.2g}) from "
            "the trained one"
        )
    return worst


def _hidden(model: Any) -> Tensor:
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids_BT = torch.randint(vocabulary, (2, 40), generator=torch.Generator().manual_seed(0)).to(model.device)
    at_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    return hidden_at(model, at_BT, {"input_ids": ids_BT, "use_cache": False})[0].double()


def _renumbered(name: str, path: str, keep: tuple[int, ...]) -> str:
    """The name of a weight of the base as it is in the cut model."""
    index, _, rest = name.removeprefix(f"{path}.").partition(".")
    return f"{path}.{keep.index(int(index))}.{rest}"
