"""Train the pair of a job: what every process of a run does alike."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from distill.checkpoints import KEPT, read_trained
from distill.data import Data, Numbered, read_data, with_own_writing, with_prompts
from distill.dev import Dev, dev_items
from distill.job import Job, make_pair
from distill.on_policy import Writer
from distill.packing import can_pack
from distill.pair import Pair
from distill.phases import Phase, Trained, best, phases
from distill.store import Store
from distill.students import stock_model
from distill.trainer import DistilTrainer, stopped_at
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError, RunError
from fastpath.models import load_tokenizer, pick_dtype
from fastpath.progress import progress
from fastpath.quiet import quiet
from fastpath.runs import write_json, write_text
from fastpath.team import is_helper, num_processes

log = logging.getLogger("fastpath")

PHASES, CHECKPOINTS = "phases.json", "checkpoints"
DEV_METRIC = "complex_nats_per_token"
"""What early stopping goes by: the distance from the teacher does not predict how good a student is."""


def load_pair(recipe: Recipe, job: Job, device: torch.device, config: DistillConfig) -> Pair:
    """The pair of a job, before any training of it, with the loss of `config`."""
    trust = recipe.model.trust_remote_code
    tokenizer = load_tokenizer(job.student, trust_remote_code=trust)
    set_seed(recipe.seed)  # adapters begin at random
    return make_pair(
        job, config, vocabulary=1 + max(tokenizer.get_vocab().values()),
        dtype=pick_dtype(recipe.model, device)[0], device=device, trust=trust,
    )  # fmt: skip


def train(recipe: Recipe, job: Job, device: torch.device, folder: Path) -> list[Trained]:
    """Train what is left of the phases; what each left, that of the candidate first, if there is one.

    Writes FOLDER/checkpoints/PHASE/, FOLDER/phases.json and FOLDER/metrics.jsonl. Each phase begins from
    files alone, so that it does not matter whether the one before it ran in this process.
    """
    config, seed = recipe.distill or DistillConfig(), recipe.seed
    tokenizer = load_tokenizer(job.student, trust_remote_code=recipe.model.trust_remote_code)
    data = with_own_writing(
        read_data(config, seed=seed), config, _gone, tokenizer,
        weights=job.teacher_sha256, seed=seed, folder=recipe.out / "distill",
    )  # fmt: skip
    done = [*filter(None, [job.start]), *job.done]
    for phase in phases(config)[len(job.done) :]:
        done.append(train_phase(recipe, job, device, folder, phase, done, data, tokenizer))
        if not is_helper():
            write_json(folder / PHASES, [asdict(trained) for trained in done if trained != job.start])
        job = replace(job, checkpoint=None)
    return done


def _gone() -> Any:
    """In the place of the original, which wrote all there is before the training."""
    raise RunError(
        "what the original wrote for this run was deleted meanwhile; the same command writes it again"
    )


def train_phase(
    recipe: Recipe,
    job: Job,
    device: torch.device,
    folder: Path,
    phase: Phase,
    done: Sequence[Trained],
    data: Data,
    tokenizer: Any,
) -> Trained:
    """Train one phase from the best of those that are done."""
    config, seed = phase.config, recipe.seed
    pair = load_pair(recipe, job, device, config)
    if done:
        read_trained(pair, folder / best(done).checkpoint)
    with pair.computing():
        packed = config.pack == "auto" and can_pack(stock_model(pair.student), pair.dtype)
    store = Store(job.kept.store) if job.kept else None
    data = with_prompts(data) if phase.writes else data
    rows = Numbered(data, config, tokenizer, seed=seed, packed=packed, store=store)
    if len(rows.mixture.sources) > 1:
        log.info("%s: %s", phase.name, rows.mixture.told())
    writer = Writer(pair, tokenizer, config.on_policy, config.max_tokens, seed) if phase.writes else None
    at_once = config.micro_rows * config.max_tokens
    dev = Dev(dev_items(config, seed=seed), tokenizer, batch_tokens=at_once)
    dtype = pick_dtype(recipe.model, device)[0]
    places = folder / CHECKPOINTS / phase.name
    arguments = training_arguments(config, places, seed, dtype=dtype, device=device)
    before = [trained.phase for trained in done]
    metrics = partial(write_metrics, folder / "metrics.jsonl", phase=phase.name, before=before)
    with progress(f"distilling ({job.mode}, {phase.name})", config.steps) as advance, quiet():
        trainer = DistilTrainer(
            pair, arguments, phase, rows, dev, writer=writer,
            learnt_tokens=done[-1].learnt_tokens if done else 0, advance=advance, metrics=metrics,
        )  # fmt: skip
        state = stopped_at(job.checkpoint, config.patience)
        if state is None:
            trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
            state = trainer.state
    trainer.accelerator.free_memory()
    name = Path(state.best_model_checkpoint or f"checkpoint-{state.global_step}").name
    return Trained(
        phase.name, str(places.relative_to(folder) / name), state.global_step,
        int(state.log_history[-1]["learnt_tokens"]), state.best_metric,
    )  # fmt: skip


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
        warmup_steps=min(config.warmup_steps, config.steps // 2),  # a short phase gets to its peak
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
    """The rows of metrics.jsonl; half a line at its end, of a full disk, is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]  # each whole line ends


def write_metrics(
    path: Path, rows: list[dict[str, Any]], *, phase: str, before: Sequence[str], anew: bool
) -> None:
    """Lines of JSON at the end of a file, or after those of the phases `before` in place of all others."""
    rows = [{"phase": phase, **row} for row in rows]
    if anew:
        kept = [row for row in read_metrics(path) if row["phase"] in before] if path.exists() else []
        write_text(path, _lines(kept + rows))
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(_lines(rows))


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
