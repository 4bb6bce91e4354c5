"""student + teacher -> best candidate -> phases -> trained weights into the stored ones -> check -> save."""

import importlib.util
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from distill.candidates import choose
from distill.data import read_data
from distill.dev import dev_items
from distill.export import export_model
from distill.inputs import find_student, make_job, plan_of
from distill.job import Job, objective_of
from distill.phases import Trained, best
from distill.plot import training_figure
from distill.training import DEV_METRIC, load_pair, read_metrics, train
from fastpath.card import write_card
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig
from fastpath.env import code_version
from fastpath.errors import ConfigError
from fastpath.items.item import Item
from fastpath.models import Lineage, pick_device, pick_dtype
from fastpath.plan import Plan
from fastpath.plots import svg_text
from fastpath.runs import finish, is_done, new_folder, stage_folder, write_json, write_text
from fastpath.team import Team, is_sharded

log = logging.getLogger("fastpath")
DEV_KEY = f"eval_{DEV_METRIC}"


def run(recipe: Recipe) -> Path:
    """Distil the recipe's model into the student; the stage's folder: metrics.jsonl, plan.json, model/.

    Raises UserError; a killed run goes on from its last checkpoint.
    """
    config = recipe.distill or DistillConfig()
    check_config(recipe, config)
    device = pick_device(recipe.model)
    team = Team.launched(device)
    with stage_folder(recipe, "distill") as out:
        if is_done(out):
            team.tell(None)
            log.info("%s: already done; this is the saved result", out)
            return out
        dtype, reason = pick_dtype(recipe.model, device)
        log.info("distill: %s, computing in %s on %s (%s)", recipe.model.name, str(dtype)[6:], device, reason)
        student = find_student(recipe, config)
        data, dev = read_data(config, seed=recipe.seed), dev_items(config, seed=recipe.seed)
        chosen = None
        if config.candidates > 1:
            chosen = choose(recipe, student, data, out, team, dtype=dtype, device=device)
            student = chosen.student
        lineage, plan = Lineage.read(student), plan_of(student)
        job = make_job(recipe, config, student, lineage, data, out, chosen=chosen, dtype=dtype, device=device)
        team.tell((recipe, job, out))
        done = train(recipe, job, device, out)
        team.tell(None)
        write_json(out / "plan.json", plan.model_dump())
        seen = (*data.items, *dev)
        if done:
            export_trained(recipe, config, job, done, plan, out, seen=seen)
        else:
            export_refitted(job.student, plan, out / "model", seen=seen)
        log.info("saved %s", out / "model")
        finish(out)
    return out


def export_trained(
    recipe: Recipe,
    config: DistillConfig,
    job: Job,
    done: Sequence[Trained],
    plan: Plan,
    out: Path,
    *,
    seen: Iterable[Item],
) -> None:
    """Write OUT/model, of the best checkpoint, and OUT/metrics.svg."""
    device = pick_device(recipe.model)
    facts = {**asdict(done[-1]), "mode": job.mode, "checkpoint": best(done).checkpoint,
             "phases": {phase.phase: phase.steps for phase in done},
             "steps": sum(phase.steps for phase in done)}  # fmt: skip
    made = lineage_of(Lineage.read(job.student), config, facts, seen=seen)
    weights, trust = out / facts["checkpoint"], recipe.model.trust_remote_code
    load = partial(load_pair, recipe, job, device, config)
    export_model(load, job, weights, made, plan, config, out / "model", trust=trust)
    rows = read_metrics(out / "metrics.jsonl")
    if worse := worse_words(rows, best(done)):
        log.warning("%s", worse)
    write_text(out / "metrics.svg", svg_text(training_figure(rows), name="metrics"))


def export_refitted(student: Path, plan: Plan, folder: Path, *, seen: Iterable[Item]) -> None:
    """The refitted student as it is: no phase trains."""
    with new_folder(folder) as unfinished:
        shutil.copytree(student, unfinished, dirs_exist_ok=True)
        lineage = Lineage.read(student)
        Lineage(**{**vars(lineage), "calibration_items": told_items(lineage, seen)}).write(unfinished)
        write_card(unfinished, plan)


def check_config(recipe: Recipe, config: DistillConfig) -> None:
    """Raise UserError for keys that do not go together, before anything is read."""
    if recipe.model.device_map != "none":
        raise ConfigError(
            "model.device_map: distill holds each model on one device; model.device_map=none works"
        )
    for package in config.report_to:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"distill.report_to: {package} is not installed; pip install {package}")
    if ":" in recipe.model.device:
        raise ConfigError(
            f"model.device: {recipe.model.device!r}: the trainer takes the first GPU that it sees; "
            "set CUDA_VISIBLE_DEVICES to choose it, and model.device=cuda"
        )
    if is_sharded() and config.dev_items_per_task:
        raise ConfigError("distill.dev_items_per_task: FSDP has no student in one piece to score; 0 works")
    if is_sharded() and config.on_policy.steps:
        raise ConfigError("distill.on_policy: FSDP has no student in one piece that writes; steps: 0 works")
    objective_of(config)


def worse_words(rows: Sequence[Mapping[str, Any]], kept: Trained) -> str:
    """Where no checkpoint is better on the complex dev items than what training began with: so in words."""
    began = next((row[DEV_KEY] for row in rows if row["step"] == 0 and DEV_KEY in row), None)
    if began is None or kept.complex_nats_per_token is None or kept.complex_nats_per_token < began:
        return ""
    return (
        "the best checkpoint is no better on the complex dev items "
        f"({kept.complex_nats_per_token:.3f} nats per token) than what it began with ({began:.3f}); try a "
        "lower distill.learning_rate, or more data"
    )


def lineage_of(
    student: Lineage, config: DistillConfig, facts: dict[str, Any], *, seen: Iterable[Item]
) -> Lineage:
    """The lineage of the distilled student, but for the digest of its weights."""
    keys = (
        "mode", "teacher", "loss", "temperature", "kd_weight", "hidden_weight", "learning_rate",
        "refit_tokens",
    )  # fmt: skip
    how = {key: getattr(config, key) for key in keys} | {
        key: facts[key] for key in ("mode", "phases", "steps", "learnt_tokens", "checkpoint")
    }
    changes = {
        "distillation": {**how, "student_weights_sha256": student.weights_sha256},
        "calibration_items": told_items(student, seen),
        "code": code_version(),
    }
    return Lineage(**{**vars(student), **changes})


def told_items(student: Lineage, seen: Iterable[Item]) -> tuple[str, ...]:
    """Ids of the items that a student had seen, and of those it has seen now."""
    return tuple(dict.fromkeys([*student.calibration_items, *(item.id for item in seen)]))
