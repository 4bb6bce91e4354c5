"""Train the pair of a job: what every process of a run does alike."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from distill.checkpoints import KEPT
from distill.data import Numbered, read_data, with_own_writing
from distill.dev import Dev, dev_items
from distill.job import Job, make_pair
from distill.packing import can_pack
from distill.pair import Pair
from distill.store import Store
from distill.students import stock_model
from distill.trainer import DistilTrainer
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError
from fastpath.models import load_tokenizer, pick_dtype
from fastpath.progress import progress
from fastpath.quiet import quiet
from fastpath.runs import write_text
from fastpath.team import num_processes

DEV_METRIC = "complex_nats_per_token"
"""What early stopping goes by: the distance from the teacher does not predict how good a student is."""


def load_pair(recipe: Recipe, job: Job, device: torch.device) -> Pair:
    """The pair of a job, before any training of it."""
    config, trust = recipe.distill or DistillConfig(), recipe.model.trust_remote_code
    tokenizer = load_tokenizer(job.student, trust_remote_code=trust)
    set_seed(recipe.seed)  # adapters begin at random
    return make_pair(
        job, config, vocabulary=1 + max(tokenizer.get_vocab().values()),
        dtype=pick_dtype(recipe.model, device)[0], device=device, trust=trust,
    )  # fmt: skip


def train(recipe: Recipe, job: Job, device: torch.device, folder: Path) -> tuple[Pair, dict[str, Any]]:
    """(the trained pair, facts of it). Writes FOLDER/checkpoints/ and FOLDER/metrics.jsonl."""
    config, seed = recipe.distill or DistillConfig(), recipe.seed
    dtype = pick_dtype(recipe.model, device)[0]
    tokenizer = load_tokenizer(job.student, trust_remote_code=recipe.model.trust_remote_code)
    pair = load_pair(recipe, job, device)
    data = with_own_writing(
        read_data(config, seed=seed), config, None, tokenizer,
        weights=job.teacher_sha256, seed=seed, folder=folder,
    )  # fmt: skip
    with pair.computing():
        packed = config.pack == "auto" and can_pack(stock_model(pair.student))
    store = Store(job.kept.store) if job.kept else None
    rows = Numbered(data, config, tokenizer, seed=seed, packed=packed, store=store)
    at_once = config.micro_rows * config.max_tokens
    dev = Dev(dev_items(config, seed=seed), tokenizer, batch_tokens=at_once)
    arguments = training_arguments(config, folder / "checkpoints", seed, dtype=dtype, device=device)
    with progress(f"distilling ({job.mode})", config.steps) as advance, quiet():
        metrics = partial(write_metrics, folder / "metrics.jsonl")
        trainer = DistilTrainer(pair, arguments, config, rows, dev, advance=advance, metrics=metrics)
        trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    state = trainer.state
    return pair, {
        "checkpoint": Path(state.best_model_checkpoint or f"checkpoint-{state.global_step}").name,
        "steps": state.global_step,
        "learnt_tokens": trainer.learnt_tokens,
    }


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
    arguments = TrainingArguments(
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
        eval_strategy="steps" if config.dev_items_per_task else "no",
        eval_steps=config.checkpoint_steps,
        metric_for_best_model=DEV_METRIC if config.dev_items_per_task else None,
        greater_is_better=False,
        load_best_model_at_end=config.dev_items_per_task > 0,
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,  # it would hide what check_finite is to see
        disable_tqdm=True,
        report_to=list(config.report_to) or "none",
    )
    arguments.device  # noqa: B018 (counts the GPUs)
    arguments._n_gpu = 1  # one process, one GPU: DataParallel would not sum over the step
    return arguments


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_metrics(path: Path, rows: list[dict[str, Any]], *, anew: bool) -> None:
    """Lines of JSON at the end of a file, or in its place."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if anew:
        write_text(path, lines)
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)
