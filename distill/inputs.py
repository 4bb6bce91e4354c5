"""What a distillation is made of, checked: student, teacher, data -> the job of every process."""

import logging
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from distill.capture import keep_predictions
from distill.checkpoints import last_checkpoint
from distill.data import Data, check_disjoint, with_own_writing, with_prompts
from distill.job import UNTRAINED, Job
from distill.memory import choose_mode
from distill.phases import Trained, phases
from distill.refit import FOLDER as REFIT
from distill.refit import refit
from distill.training import CHECKPOINTS, PHASES
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig
from fastpath.errors import ConfigError, ModelError, RunError
from fastpath.models import Lineage, is_ours, load_model, load_tokenizer, weights_sha256
from fastpath.plan import Plan, read_plan
from fastpath.runs import exported, read_json, step
from fastpath.sources import Source, locate

log = logging.getLogger("fastpath")


@dataclass(frozen=True)
class Chosen:
    """The candidate that goes on."""

    student: Path
    mode: str
    trained: Trained


def make_job(
    recipe: Recipe,
    config: DistillConfig,
    student: Path,
    lineage: Lineage,
    data: Data,
    out: Path,
    *,
    chosen: Chosen | None = None,
    dtype: torch.dtype,
    device: torch.device,
) -> Job:
    """Check what goes in, choose the mode, let the original write and predict: all but the training.

    `out`: where the mode, the inputs and the checkpoints of this student lie. Raises UserError.
    """
    trust = recipe.model.trust_remote_code
    teacher = find_teacher(recipe, lineage).folder
    check_vocabularies(student, teacher, trust=trust)
    check_disjoint(data, lineage, recipe)
    if config.on_policy.steps:
        with_prompts(data)
    weights = lineage.base_weights_sha256
    check_inputs(out, inputs_of(lineage, data))
    one_set = lineage.repair == "none" and lineage.distillation is None and not config.refit_tokens

    def first_that_fits() -> str:
        folders = teacher, student, lineage.keep
        return choose_mode(config, *folders, one_set=one_set, dtype=dtype, device=device, trust=trust)

    trains = bool(phases(config)) or chosen is not None
    if not trains and lineage.distillation is not None:
        raise ConfigError(
            f"distill.student: {student} was distilled, and a refit alone is for a cut that was not; steps "
            "above 0 train on"
        )
    mode = UNTRAINED
    if trains:
        mode = step(out, "mode.json", lambda: chosen.mode if chosen else first_that_fits())
    tokenizer, kept = load_tokenizer(student, trust_remote_code=trust), None
    if config.own_answers or config.own_texts or config.own_questions:
        original = cache(partial(load_model, teacher, dtype=dtype, device=device, trust_remote_code=trust))
        data = with_own_writing(
            data, config, original, tokenizer, weights=weights, seed=recipe.seed,
            folder=recipe.out / "distill",
        )  # fmt: skip
        del original  # it may be loaded again, to teach
        check_disjoint(data, lineage, recipe)  # what it wrote too
    if config.refit_tokens and chosen is None:  # a candidate was refitted before its short training
        student = refit(
            student, teacher, data, config, plan_of(student), out / REFIT, seed=recipe.seed,
            dtype=dtype, device=device, trust=trust,
        )  # fmt: skip
    if config.teacher != "live":
        kept = keep_predictions(
            data, config, tokenizer, teacher, student, mode=mode, keep=lineage.keep, weights=weights,
            seed=recipe.seed, dtype=dtype, device=device, trust=trust,
        )  # fmt: skip
    done = trained_phases(out)
    left, checkpoint = phases(config)[len(done) :], None
    if left and (checkpoint := last_checkpoint(out / CHECKPOINTS / left[0].name)):
        log.info("going on from %s", checkpoint)
    return Job(
        teacher=teacher, teacher_sha256=weights, student=student, keep=lineage.keep, depth=lineage.depth,
        mode=mode, checkpoint=checkpoint, done=done, start=chosen.trained if chosen else None, kept=kept,
    )  # fmt: skip


def trained_phases(folder: Path) -> tuple[Trained, ...]:
    """What the finished phases of this folder left."""
    path = folder / PHASES
    return tuple(Trained(**facts) for facts in read_json(path)) if path.exists() else ()


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


def inputs_of(student: Lineage, data: Data) -> dict[str, str]:
    """Digests of all that work of this stage depends on."""
    digests = student.base_weights_sha256, student.weights_sha256
    return {"teacher": digests[0], "student": digests[1], "data": data.sha256}


def check_inputs(folder: Path, used: dict[str, str]) -> None:
    """Raise RunError if work in this folder was begun on other weights or other items."""
    begun = step(folder, "inputs.json", lambda: used)
    if changed := [name for name in used if begun.get(name) != used[name]]:
        raise RunError(
            f"{folder}: begun with other {changed[0]} than there is now; delete it, or choose another out="
        )
