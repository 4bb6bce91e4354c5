"""Phase 0: the last linear map of each block solved for by least squares, so that the blocks bridge the cut.

From the block before the first cut on, block by block, the map that writes last to the stream (an MLP's
second one) is changed so that the stream comes as near as it can to the original's in front of the next kept
block. What enters a block comes from the blocks as solved so far: what one leaves, the next may mend.
ReplaceMe (arXiv 2505.02819) does so for one block, by a map of what it writes; here every block after the
first cut is solved for, over all that its last map reads. It needs forward passes alone.
"""

# B rows, T tokens, N tokens of a batch that count, D width, H what the last map reads

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from distill.data import Data, Numbered
from distill.hidden import next_input_pairs
from distill.least_squares import Sums
from distill.memory import GIB
from distill.packing import IGNORED, can_pack
from fastpath.blocks import find_blocks
from fastpath.card import REFIT
from fastpath.config_distill import DistillConfig
from fastpath.env import free_bytes
from fastpath.errors import ConfigError, SurgeryError
from fastpath.models import Lineage, load_model, load_tokenizer, save_model, weights_sha256
from fastpath.nll import predicting
from fastpath.plan import Plan
from fastpath.progress import progress
from fastpath.runs import new_folder, read_json, step, write_json
from fastpath.stepping import Stepped
from fastpath.writers import Writer, find_writers

FOLDER, FILE = "refit", "refit.json"
"""Of the phase, in the folder of the stage; what it did to each block."""
log = logging.getLogger("fastpath")

BLOCKS, WEIGHT, FACTS = "blocks", "weight.safetensors", "facts.json"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Ridge strengths tried, in mean eigenvalues of the Gram matrix; no change at all is tried too."""
HELD_OUT = 10
"""One batch of so many is not fitted on: strengths are chosen by it."""
FIRST = 5.0
"""What a sequence's first token counts for: many heads look at it, and there is one of it in a sequence."""


@dataclass(frozen=True)
class Solved:
    """What was done to one block, on batches that it was not fitted on (small sources repeat in them)."""

    block: int
    """Of the student."""
    strength: float | None
    """The ridge's; None: no change was better than any."""
    error: float
    """Squared distance from the original's stream over its squared length, mean over tokens."""
    error_before: float
    """The same with the map as it was."""


@dataclass(frozen=True)
class Text:
    """What is fitted on."""

    inputs: dict[str, Tensor]
    """Keyword arguments of the models' forward."""
    at_BT: Tensor
    """bool: the tokens that count, those that predict another of their sequence."""
    weight_BT: Tensor
    """What a token counts for."""

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> "Text":
        """A training batch all of whose tokens are learnt (but the first of a sequence, which never is)."""
        learnt_BT = batch["labels"] != IGNORED
        at_BT = predicting(learnt_BT)
        weight_BT = torch.where(at_BT & ~learnt_BT, FIRST, 1.0)
        names = ("input_ids", "position_ids", "attention_mask")
        return cls({key: batch[key] for key in names if key in batch}, at_BT, weight_BT)


def texts_of(
    data: Data, config: DistillConfig, tokenizer: Any, model: PreTrainedModel, *, seed: int
) -> list[Text]:
    """Rows of the recipe's mixture, with their prompts, until refit_tokens count; two batches at least."""
    packed = config.pack == "auto" and can_pack(model, model.dtype)
    config = config.model_copy(update={"learn": "all", "steps": max(config.refit_tokens, 2)})  # surely enough
    rows = Numbered(data, config, tokenizer, seed=seed, packed=packed)
    texts: list[Text] = []
    counted = 0
    while len(texts) < 2 or counted < config.refit_tokens:
        start = len(texts) * config.micro_rows
        texts.append(Text.of(rows.batch([rows[start + i] for i in range(config.micro_rows)])))
        counted += int(texts[-1].at_BT.sum())
    return texts


def check_memory(texts: Sequence[Text], model: PreTrainedModel) -> None:
    """Raise ConfigError where the streams of both models, which lie on the host, do not fit there."""
    width, size = model.config.get_text_config(decoder=True).hidden_size, model.dtype.itemsize
    taken = 2 * sum(text.at_BT.numel() for text in texts) * width * size
    free, counted = free_bytes(torch.device("cpu")), sum(int(text.at_BT.sum()) for text in texts)
    if taken > free:
        raise ConfigError(
            f"distill.refit_tokens: the streams of {counted} tokens would take {taken / GIB:.2f} GiB of the "
            f"host's memory, {free / GIB:.2f} are free; {int(0.9 * counted * free / taken)} fit"
        )


def refit(
    student: Path,
    teacher: Path,
    data: Data,
    config: DistillConfig,
    plan: Plan,
    folder: Path,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    trust: bool,
) -> Path:
    """The student with its maps solved for, in the type it was stored in: FOLDER/model, made once.

    A killed run goes on after the last block that was solved. Raises SurgeryError, or ConfigError if the
    streams do not fit the memory.
    """
    made = folder / "model"
    if made.exists():
        shutil.rmtree(folder / BLOCKS, ignore_errors=True)  # it was killed in between
        return made
    how: dict[str, Any] = {"dtype": dtype, "device": device, "trust_remote_code": trust}
    tokenizer = load_tokenizer(student, trust_remote_code=trust)
    cut, original = load_model(student, **how), load_model(teacher, **how)
    texts = texts_of(data, config, tokenizer, cut, seed=seed)
    check_memory(texts, cut)
    solved = refit_blocks(cut, original, texts, keep=plan.keep, folder=folder / BLOCKS)
    log.info("refit: %s", told(solved))
    del cut, original
    write_json(folder / FILE, [asdict(one) for one in solved])
    step(folder, "plan.json", plan.model_dump)
    lineage = Lineage.read(student)
    with new_folder(made) as unfinished, torch.no_grad():
        stored = load_model(student, dtype="auto", trust_remote_code=trust)
        for one in solved:
            for name, weight in load_file(folder / BLOCKS / str(one.block) / WEIGHT).items():
                stored.get_parameter(name).copy_(weight)
        save_model(stored, tokenizer, unfinished)
        repair = REFIT if lineage.repair == "none" else f"{lineage.repair}, {REFIT}"
        facts = {"repair": repair, "weights_sha256": weights_sha256(unfinished)}
        Lineage(**{**vars(lineage), **facts}).write(unfinished)
    shutil.rmtree(folder / BLOCKS)
    return made


def told(solved: Sequence[Solved]) -> str:
    """What it did, in words."""
    changed = sum(one.strength is not None for one in solved)
    first, last = solved[0], solved[-1]
    return (
        f"{changed} of {len(solved)} blocks; the stream's squared distance from the original's, as a share, "
        f"on held-out batches: {first.error_before:.3f} -> {first.error:.3f} at the first cut, "
        f"{last.error:.3f} at the end"
    )


@torch.no_grad()
def refit_blocks(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    texts: Sequence[Text],
    *,
    keep: Sequence[int],
    folder: Path,
) -> list[Solved]:
    """Solve for the last map of each block from the one before the first cut on, in `student` itself.

    Each is kept in FOLDER/N, where a killed run finds it. Raises SurgeryError if no block has a linear map
    that writes straight to the stream.
    """
    (path, blocks), writers = find_blocks(student), find_writers(student)
    pairs = next_input_pairs(keep, len(find_blocks(teacher)[1]))
    targets = {block: last for block, last in pairs if writers[block].found}
    if not targets:
        raise SurgeryError(
            f"{type(student).__name__}: no linear map of its blocks writes straight to the stream (a norm "
            "follows, or experts are mixed), so none can be refitted; distill.refit_tokens=0 works"
        )
    inputs = [text.inputs for text in texts]
    ours, theirs = Stepped(student, inputs), Stepped(teacher, inputs)
    solved = []
    passes = len(blocks) + len(targets) + 1 + max(targets.values())  # of all texts through a block
    with progress("refitting the blocks", passes) as advance:
        for block in range(len(blocks)):
            if block in targets:
                while theirs.block <= targets[block]:
                    theirs.step()
                    advance(1)
                writer = writers[block].found[0]
                solved.append(_refit_block(ours, theirs, texts, writer, f"{path}.{block}", folder))
                advance(1)
            ours.step()
            advance(1)
    return solved


def _refit_block(
    ours: Stepped, theirs: Stepped, texts: Sequence[Text], writer: Writer, path: str, folder: Path
) -> Solved:
    """Solve for the last map of the block that comes next in `ours`, or take what was solved."""
    weight, kept = writer.module.weight, folder / str(ours.block)
    name = f"{path}.{writer.name}.weight"
    if not kept.exists():
        change_HD, solved = _solve(ours, theirs, texts, writer)
        new = weight.data.clone()
        if change_HD is not None:
            is_conv1d = isinstance(writer.module, Conv1D)  # its weight is (in, out)
            new = (weight.double() + (change_HD if is_conv1d else change_HD.T)).to(weight.dtype)
        with new_folder(kept) as unfinished:
            save_file({name: new.contiguous()}, unfinished / WEIGHT)
            write_json(unfinished / FACTS, asdict(solved))
    weight.copy_(load_file(kept / WEIGHT)[name])
    return Solved(**read_json(kept / FACTS))


def _solve(
    ours: Stepped, theirs: Stepped, texts: Sequence[Text], writer: Writer
) -> tuple[Tensor | None, Solved]:
    """(what to add to the transposed weight, None for nothing; what it is worth)."""
    fitted, held = Sums(), Sums()
    read: list[Tensor] = []
    handle = writer.module.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    try:
        for number, text in enumerate(texts):
            after_BTD = ours.through(number)
            at_BT = text.at_BT.to(after_BTD.device)
            target_ND = theirs[number].to(after_BTD.device)[at_BT].float()
            sums = fitted if number % HELD_OUT else held
            sums.add(
                read.pop().view(*at_BT.shape, -1)[at_BT] * writer.scale,
                target_ND - after_BTD[at_BT].float(),
                weight_N=text.weight_BT.to(after_BTD.device)[at_BT],
                relative_N=1 / target_ND.square().sum(-1).clamp(min=1e-12),
            )
    finally:
        handle.remove()
    changes: dict[float | None, Tensor | None] = {None: None}
    changes |= {strength: fitted.solve(strength) for strength in STRENGTHS}
    errors = {strength: held.error(change_HD) for strength, change_HD in changes.items()}
    best = min(errors, key=lambda strength: errors[strength])
    return changes[best], Solved(ours.block, best, error=errors[best], error_before=errors[None])
