"""Build the pair of a job and train it: what every process of a run does alike."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from distill.capture import Kept
from distill.checkpoints import KEPT
from distill.codecs import Codec
from distill.data import Numbered, read_data, with_own_answers
from distill.losses import Objective
from distill.packing import can_pack
from distill.pair import Pair
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
from distill.trainer import DistilTrainer
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError
from fastpath.models import load_model, load_tokenizer, pick_dtype
from fastpath.progress import progress
from fastpath.quiet import quiet
from fastpath.runs import write_text
from fastpath.team import num_processes


@dataclass(frozen=True)
class Job:
    """What every process must know to train the same pair."""

    teacher: Path
    teacher_sha256: str
    student: Path
    keep: tuple[int, ...]
    depth: int
    mode: str
    checkpoint: Path | None
    """Go on from here."""
    kept: Kept | None
    """What was kept of the teacher's predictions; None: it runs beside the student."""

    @property
    def drop(self) -> tuple[int, ...]:
        """The dropped blocks, rising."""
        return tuple(sorted(set(range(self.depth)) - set(self.keep)))


def train(recipe: Recipe, job: Job, device: torch.device, folder: Path) -> DistilTrainer:
    """The trained pair, in its trainer. Writes FOLDER/checkpoints/ and FOLDER/metrics.jsonl."""
    config, trust = recipe.distill or DistillConfig(), recipe.model.trust_remote_code
    set_seed(recipe.seed)
    dtype = pick_dtype(recipe.model, device)[0]
    tokenizer = load_tokenizer(job.student, trust_remote_code=trust)
    vocabulary = 1 + max(tokenizer.get_vocab().values())
    store = Store(job.kept.store) if job.kept else None
    codec = store.codec if store else None
    pair = make_pair(job, config, dtype=dtype, device=device, trust=trust, vocabulary=vocabulary, codec=codec)
    data = with_own_answers(
        read_data(config, seed=recipe.seed), config, None, tokenizer,
        weights=job.teacher_sha256, seed=recipe.seed, folder=folder,
    )  # fmt: skip
    packed = config.pack == "auto" and can_pack(stock_model(pair.student))
    rows = Numbered(data, config, tokenizer, seed=recipe.seed, packed=packed, store=store)
    arguments = training_arguments(config, folder / "checkpoints", recipe.seed, dtype=dtype, device=device)
    with progress(f"distilling ({job.mode})", config.steps) as advance, quiet():
        metrics = partial(write_metrics, folder / "metrics.jsonl")
        trainer = DistilTrainer(pair, arguments, rows, advance=advance, metrics=metrics)
        trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    return trainer


def make_pair(
    job: Job,
    config: DistillConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    trust: bool,
    vocabulary: int,
    codec: Codec | None,
) -> Pair:
    """Load the models that the mode needs, and mark what it trains."""
    load = partial(load_model, dtype=dtype, device=device, trust_remote_code=trust)
    pair = partial(Pair, drop=job.drop, objective=objective_of(config), vocabulary=vocabulary, codec=codec)
    most = num_shareable(job.mode, config, job.keep)
    if job.mode == "shared-lora":
        student: Any = with_adapters(load(job.teacher), config, job.keep[most:])
        return recomputing(pair(student, None, start=most), config)
    student, teacher = load(job.student), None
    if job.kept is None:
        teacher = load(job.teacher)
        start = shared_prefix(prefix_digests(student, most), prefix_digests(teacher, most))
    else:
        start = job.kept.start
    if job.mode == "lora":
        student = with_adapters(student, config, range(start, len(job.keep)))
    else:
        student = set_trainable(student, trainable(student, job.mode, config, start=start))
    return recomputing(pair(student, teacher, start=start), config)


def objective_of(config: DistillConfig) -> Objective:
    """The recipe's loss. Raises UserError for an option that it does not take."""
    return Objective(config.loss, dict(config.loss_options), config.kd_weight, config.temperature)


def recomputing(pair: Pair, config: DistillConfig) -> Pair:
    """The same pair; its student holds activations of block borders alone where the recipe says so."""
    if config.recompute_activations:
        stock_model(pair.student).activation_checkpointing_enable({"use_reentrant": False})
    return pair


def training_arguments(
    config: DistillConfig, folder: Path, seed: int, *, dtype: torch.dtype, device: torch.device
) -> TrainingArguments:
    """The recipe in the Trainer's words. Raises ConfigError if the batch cannot be dealt to the processes."""
    at_once = config.micro_rows * num_processes()
    if config.batch_rows % at_once:
        raise ConfigError(
            f"distill.batch_rows: {config.batch_rows} rows cannot be dealt to {num_processes()} processes in "
            f"batches of {config.micro_rows} (distill.micro_rows); {at_once} divides a batch that works"
        )
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=config.steps,
        per_device_train_batch_size=config.micro_rows,
        gradient_accumulation_steps=config.batch_rows // at_once,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_gradient_norm,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=device.type == "cpu",
        seed=seed,
        data_seed=seed,
        train_sampling_strategy="sequential",  # the mixture has shuffled them
        remove_unused_columns=False,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=KEPT,
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,  # it would hide what check_finite is to see
        disable_tqdm=True,
        report_to=list(config.report_to) or "none",
    )


def write_metrics(path: Path, rows: list[dict[str, Any]], *, anew: bool) -> None:
    """Lines of JSON at the end of a file, or in its place."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if anew:
        write_text(path, lines)
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)
