"""What is trained on what: the job that every process of a run is told, and the pair of models it names."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill.capture import Kept
from distill.hidden import next_input_pairs
from distill.losses import Objective
from distill.pair import Pair
from distill.phases import Trained
from distill.store import Store
from distill.students import (
    num_shareable,
    prefix_digests,
    set_trainable,
    shared_prefix,
    stock_model,
    trainable,
    with_adapters,
)  # fmt: skip
from fastpath.config_distill import DistillConfig
from fastpath.models import load_model
from fastpath.team import is_sharded

UNTRAINED = "none"
"""In the place of a mode, where the refit is all that is done."""


@dataclass(frozen=True)
class Job:
    """A student, its teacher, and how far they came."""

    teacher: Path
    teacher_sha256: str
    student: Path
    keep: tuple[int, ...]
    depth: int
    mode: str
    checkpoint: Path | None
    """Where the first phase that is not done goes on."""
    done: tuple[Trained, ...] = ()
    """What the finished phases left."""
    start: Trained | None = None
    """The short training that the plan was chosen by; the first phase goes on from there."""
    kept: Kept | None = None
    """What was kept of the teacher's predictions; None: it runs beside the student."""

    @property
    def drop(self) -> tuple[int, ...]:
        """The dropped blocks, rising."""
        return tuple(sorted(set(range(self.depth)) - set(self.keep)))


def make_pair(
    job: Job,
    config: DistillConfig,
    *,
    vocabulary: int,
    dtype: torch.dtype,
    device: torch.device,
    trust: bool,
) -> Pair:
    """Load the models that the mode needs, and mark what it trains. Raises UserError."""
    place = torch.device("cpu") if is_sharded() else device  # FSDP takes its shards from there
    load = partial(load_model, dtype=dtype, device=place, trust_remote_code=trust)
    start = num_shareable(job.mode, config, job.keep)
    teacher: Any = None if job.kept else load(job.teacher)
    student, numbers = teacher, job.keep
    if job.mode == "shared-lora":
        student, teacher = with_adapters(teacher, config, job.keep[start:]), None
    else:
        student, numbers = load(job.student), tuple(range(len(job.keep)))
        theirs = job.kept.prefix if job.kept else prefix_digests(teacher, start)
        start = shared_prefix(prefix_digests(student, start), theirs)
        if job.mode == "lora":
            student = with_adapters(student, config, numbers[start:])
        else:
            set_trainable(student, trainable(student, job.mode, config, start=start))
    if config.recompute_activations:
        stock_model(student).activation_checkpointing_enable({"use_reentrant": False})
    matched = [(numbers[i], j) for i, j in next_input_pairs(job.keep, job.depth) if i >= start]
    return Pair(
        student, teacher, start=start, keep=job.keep, drop=job.drop, matched=tuple(matched),
        objective=objective_of(config), vocabulary=vocabulary, dtype=dtype,
        codec=Store(job.kept.store).codec if job.kept else None,
    )  # fmt: skip


def objective_of(config: DistillConfig) -> Objective:
    """The recipe's loss. Raises UserError for an option that it does not take."""
    return Objective(config.loss, config.loss_options, config.kd_weight, config.temperature)
