"""student + teacher -> mode -> train -> put the trained weights into the stored ones -> check -> save."""

import importlib.util
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from distill.capture import keep_predictions
from distill.checkpoints import last_checkpoint
from distill.data import Data, check_disjoint, read_data, with_own_writing
from distill.dev import dev_items
from distill.export import export_model
from distill.job import Job, objective_of
from distill.memory import choose_mode
from distill.plot import training_figure
from distill.training import load_pair, read_metrics, train
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig
from fastpath.env import code_version
from fastpath.errors import ConfigError, ModelError, RunError
from fastpath.items.item import Item
from fastpath.models import (
    Lineage,
    is_ours,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    weights_sha256,
)  # fmt: skip
from fastpath.plan import Plan, read_plan
from fastpath.plots import svg_text
from fastpath.runs import exported, finish, is_done, read_json, stage_folder, step, write_json, write_text
from fastpath.sources import Source, locate
from fastpath.team import Team, is_sharded

log = logging.getLogger("fastpath")


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
        lineage, plan = Lineage.read(student), plan_of(student)
        data, dev = read_data(config, seed=recipe.seed), dev_items(config, seed=recipe.seed)
        job = make_job(recipe, config, student, lineage, data, out, dtype=dtype, device=device)
        if (out / "trained.json").exists() and job.checkpoint:
            team.tell(None)
            pair = load_pair(recipe, job, device)
        else:
            team.tell(job)
            pair, trained = train(recipe, job, device, out)
            write_json(out / "trained.json", {"mode": job.mode, **trained})
        facts = read_json(out / "trained.json")
        made = lineage_of(lineage, config, facts, seen=(*data.items, *dev))
        write_json(out / "plan.json", plan.model_dump())
        weights, trust = out / "checkpoints" / facts["checkpoint"], recipe.model.trust_remote_code
        export_model(pair, job, weights, made, plan, config, out / "model", trust=trust)
        figure = training_figure(read_metrics(out / "metrics.jsonl"))
        write_text(out / "metrics.svg", svg_text(figure, name="metrics"))
        log.info("saved %s", out / "model")
        finish(out)
    return out


def make_job(
    recipe: Recipe,
    config: DistillConfig,
    student: Path,
    lineage: Lineage,
    data: Data,
    out: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Job:
    """Check what goes in, choose the mode, let the original write and predict: all but the training.

    Raises UserError.
    """
    trust = recipe.model.trust_remote_code
    teacher = find_teacher(recipe, lineage).folder
    check_vocabularies(student, teacher, trust=trust)
    check_disjoint(data, lineage, recipe)
    digests = lineage.base_weights_sha256, lineage.weights_sha256
    check_inputs(out, {"teacher": digests[0], "student": digests[1], "data": data.sha256})
    one_set = lineage.repair == "none" and lineage.distillation is None

    def chosen() -> str:
        folders = teacher, student, lineage.keep
        return choose_mode(config, *folders, one_set=one_set, dtype=dtype, device=device, trust=trust)

    mode = step(out, "mode.json", chosen)
    tokenizer, kept = load_tokenizer(student, trust_remote_code=trust), None
    if config.own_answers or config.own_texts:
        original = load_model(teacher, dtype=dtype, device=device, trust_remote_code=trust)
        data = with_own_writing(
            data, config, original, tokenizer, weights=digests[0], seed=recipe.seed, folder=out
        )
        del original  # it may be loaded again, to teach
    if config.teacher != "live":
        kept = keep_predictions(
            data, config, tokenizer, teacher, student, mode=mode, keep=lineage.keep, weights=digests[0],
            seed=recipe.seed, dtype=dtype, device=device, trust=trust,
        )  # fmt: skip
    if checkpoint := last_checkpoint(out / "checkpoints"):
        log.info("going on from %s", checkpoint)
    return Job(
        teacher=teacher, teacher_sha256=digests[0], student=student, keep=lineage.keep, depth=lineage.depth,
        mode=mode, checkpoint=checkpoint, kept=kept,
    )  # fmt: skip


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
    objective_of(config)


def lineage_of(
    student: Lineage, config: DistillConfig, facts: dict[str, Any], *, seen: Iterable[Item]
) -> Lineage:
    """The lineage of the distilled student, but for the digest of its weights."""
    keys = ("mode", "teacher", "loss", "temperature", "kd_weight", "hidden_weight", "learning_rate")
    how = {key: getattr(config, key) for key in keys} | {
        key: facts[key] for key in ("mode", "steps", "learnt_tokens", "checkpoint")
    }
    ids = tuple(dict.fromkeys([*student.calibration_items, *(item.id for item in seen)]))
    changes = {
        "distillation": {**how, "student_weights_sha256": student.weights_sha256},
        "calibration_items": ids,
        "code": code_version(),
    }
    return Lineage(**{**vars(student), **changes})


def find_student(recipe: Recipe, config: DistillConfig) -> Path:
    """The folder of the student, which must hold the weights that its lineage tells of."""
    if config.student == "prune":
        folder = exported(recipe, "prune")
    else:
        folder = Path(config.student)
        if not is_ours(folder):
            raise ConfigError(
                f"distill.student: {folder} has no lineage.json; name the stage prune, or a folder that "
                "fastpath exported"
            )
    if weights_sha256(folder) != Lineage.read(folder).weights_sha256:
        raise RunError(f"{folder}: holds other weights than its lineage.json tells of; export it again")
    return folder


def plan_of(student: Path) -> Plan:
    """The plan that the student was cut by: beside its folder, or what its lineage knows of it."""
    if (path := student.parent / "plan.json").exists():
        return read_plan(path)
    lineage = Lineage.read(student)
    return Plan(
        depth=lineage.depth, keep=lineage.keep, criterion="given", chooser="given", cost=None, unit=""
    )


def find_teacher(recipe: Recipe, lineage: Lineage) -> Source:
    """The recipe's model, which must be the one that the student was cut from."""
    trust = recipe.model.trust_remote_code
    source = locate(recipe.model.name, revision=recipe.model.revision, trust_remote_code=trust)
    if weights_sha256(source.folder) != lineage.base_weights_sha256:
        raise RunError(
            f"{recipe.model.name}: cannot teach this student, which was cut from other weights "
            f"({lineage.base}, {lineage.revision}); model.name={lineage.base} works"
        )
    return source


def check_vocabularies(student: Path, teacher: Path, *, trust: bool) -> None:
    """Raise ModelError unless both models read the same tokens."""
    ours, theirs = (load_tokenizer(f, trust_remote_code=trust).get_vocab() for f in (student, teacher))
    if ours != theirs:
        raise ModelError(
            f"{student}: another vocabulary than the teacher's {teacher} ({len(ours)} and {len(theirs)} "
            "tokens): their predictions cannot be compared; take the tokenizer files of the teacher"
        )


def check_inputs(folder: Path, used: dict[str, str]) -> None:
    """Raise RunError if work in this folder was begun on other weights or other items."""
    begun = step(folder, "inputs.json", lambda: used)
    if changed := [name for name in used if begun.get(name) != used[name]]:
        raise RunError(
            f"{folder}: begun with other {changed[0]} than there is now; delete it, or choose another out="
        )
