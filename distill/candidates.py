"""Which plan is best after training: a short one for each of the frontier's best, then the dev items."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.checkpoints import read_trained
from distill.data import Data
from distill.dev import Dev, dev_items
from distill.inputs import Chosen, check_inputs, find_teacher, inputs_of, make_job, plan_of, trained_phases
from distill.phases import CANDIDATE
from distill.refit import FOLDER as REFIT
from distill.training import load_pair, read_metrics, train
from fastpath.blocks import check_surgery, keep_blocks
from fastpath.bootstrap import bootstrap_ratio, interval_of
from fastpath.config import Recipe
from fastpath.config_distill import DistillConfig, OnPolicyConfig
from fastpath.env import code_version
from fastpath.errors import ConfigError
from fastpath.frontier import read_frontier
from fastpath.items.catalog import TASKS
from fastpath.items.item import Item
from fastpath.models import Lineage, load_model, load_tokenizer, save_model, weights_sha256
from fastpath.plan import Plan
from fastpath.runs import new_folder, read_json, step, write_json
from fastpath.team import Team

log = logging.getLogger("fastpath")
FOLDER = "candidates"


def choose(
    recipe: Recipe,
    student: Path,
    data: Data,
    out: Path,
    team: Team,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Chosen:
    """Train each candidate for candidate_steps, each in its own OUT/candidates/N/, and name the best.

    `student` is the first of them: what prune cut. Writes OUT/candidates.json. Raises UserError.
    """
    config = recipe.distill or DistillConfig()
    plans = candidate_plans(student, config.candidates)
    how: dict[str, Any] = {"dtype": dtype, "device": device}
    brief = brief_config(config)
    short = recipe.model_copy(update={"distill": brief})
    students = []
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    check_inputs(out / FOLDER, inputs_of(Lineage.read(student), data))
    for number, plan in enumerate(plans):
        folder = out / FOLDER / str(number)
        cut = student if number == 0 else folder / "model"
        if not cut.exists():
            cut_candidate(recipe, Lineage.read(student), plan, folder, **how)
        students.append(folder / REFIT / "model" if brief.refit_tokens else cut)
        if not (folder / "dev.json").exists():
            log.info("candidate %d of %d: drops %s", number + 1, len(plans), list(plan.drop))
            job = make_job(short, brief, cut, Lineage.read(cut), data, folder, **how)
            team.tell((short, job, folder))
            (trained,) = train(short, job, device, folder)
            pair = load_pair(short, job, device, brief)
            read_trained(pair, folder / trained.checkpoint)
            write_json(folder / "dev.json", score(short, job.student, pair))
            del pair  # before the next comes
    facts = step(out, "candidates.json", lambda: compare(out, plans, config, seed=recipe.seed))
    number = facts["chosen"]
    log.info("the plan that drops %s goes on", facts["candidates"][number]["drop"])
    folder = out / FOLDER / str(number)
    (trained,) = trained_phases(folder)
    where = f"{FOLDER}/{number}/{trained.checkpoint}"
    trained = replace(trained, phase=CANDIDATE, checkpoint=where)
    return Chosen(students[number], read_json(folder / "mode.json"), trained)


def candidate_plans(student: Path, num: int) -> list[Plan]:
    """The plan that was cut, then the best others of its size. Raises ConfigError if there are none."""
    plan, path = plan_of(student), student.parent / "frontier.json"
    if not path.exists():
        raise ConfigError(
            "distill.candidates: prune was given its plan, so there is no frontier with others; 1 works"
        )
    if Lineage.read(student).repair != "none":
        raise ConfigError("distill.candidates: the others are not repaired; prune.repair=none works, or 1")
    frontier = read_frontier(path)
    point = frontier.points[min(len(plan.drop), len(frontier.points)) - 1]
    others = [d for d in (point.drop, *point.runners_up) if d != plan.drop and len(d) == len(plan.drop)]
    if len(others) < num - 1:
        log.warning("distill.candidates: the frontier knows %d plans of this size", len(others) + 1)
    made = [
        Plan(
            depth=plan.depth, keep=tuple(i for i in range(plan.depth) if i not in drop), cost=None,
            criterion=frontier.criterion, chooser=frontier.chooser, unit=frontier.unit,
        )
        for drop in others[: num - 1]
    ]  # fmt: skip
    return [plan, *made]


def brief_config(config: DistillConfig) -> DistillConfig:
    """What a candidate is trained by: the loss between predictions alone, for candidate_steps."""
    changes = {
        "steps": config.candidate_steps, "local_steps": 0, "on_policy": OnPolicyConfig(), "candidates": 1
    }  # fmt: skip
    return config.model_copy(update=changes)


def cut_candidate(
    recipe: Recipe, lineage: Lineage, plan: Plan, folder: Path, *, dtype: torch.dtype, device: torch.device
) -> None:
    """Write FOLDER/model and FOLDER/plan.json, checked: cut == skipped."""
    trust = recipe.model.trust_remote_code
    base = find_teacher(recipe, lineage).folder
    step(folder, "plan.json", plan.model_dump)
    with new_folder(folder / "model") as unfinished:
        stored = load_model(base, dtype="auto", trust_remote_code=trust)
        cut = keep_blocks(stored, plan.keep)
        save_model(cut, load_tokenizer(base, trust_remote_code=trust), unfinished)
        del stored, cut
        how: dict[str, Any] = {"dtype": dtype, "device": device, "trust_remote_code": trust}
        check_surgery(load_model(base, **how), load_model(unfinished, **how), plan.keep)
        changes = {"keep": plan.keep, "weights_sha256": weights_sha256(unfinished), "code": code_version()}
        Lineage(**{**vars(lineage), **changes}).write(unfinished)


def score(recipe: Recipe, student: Path, pair: Any) -> dict[str, Any]:
    """What a trained pair makes of the dev items: of each suite, and of each item's right answer."""
    config = recipe.distill or DistillConfig()
    tokenizer = load_tokenizer(student, trust_remote_code=recipe.model.trust_remote_code)
    items = dev_items(config, seed=recipe.seed)
    dev = Dev(items, tokenizer, batch_tokens=config.micro_rows * config.max_tokens)
    sums_2S = dev.nats(pair, dev.shares(0, 1))
    nats, tokens = dev.answers(sums_2S)
    return {**dev.facts(sums_2S), "nats": nats, "tokens": tokens}


def compare(out: Path, plans: Sequence[Plan], config: DistillConfig, *, seed: int) -> dict[str, Any]:
    """{candidates: what is known of each, chosen: the number of the best}."""
    folders = [out / FOLDER / str(number) for number in range(len(plans))]
    scored = [read_json(folder / "dev.json") for folder in folders]
    rises = simple_rises(scored, dev_items(config, seed=seed), seed=seed)
    rows = []
    for plan, folder, facts, rise in zip(plans, folders, scored, rises, strict=True):
        before = next(row for row in read_metrics(folder / "metrics.jsonl") if row["step"] == 0)
        known = {key: value for key, value in facts.items() if key not in ("nats", "tokens")}
        rows.append({
            "drop": plan.drop, **known, "simple_rise_nats": rise,
            "before_complex_nats_per_token": before["eval_complex_nats_per_token"],
        })  # fmt: skip
    return {"candidates": rows, "chosen": best_candidate(rows)}


def simple_rises(
    scored: Sequence[dict[str, Any]], items: Sequence[Item], *, seed: int
) -> list[tuple[float, float, float]]:
    """Simple nats per token beyond those of the first candidate: (rise, low, high), 95 % over templates."""
    mine = [i for i, item in enumerate(items) if TASKS[item.task].suite == "simple"]
    if not mine:
        return [(0.0, 0.0, 0.0)] * len(scored)
    nats = np.array([facts["nats"] for facts in scored])[:, mine].T
    tokens = np.array(scored[0]["tokens"])[mine]
    clusters = [f"{items[i].task}/{items[i].template}" for i in mine]
    rises, draws = bootstrap_ratio(nats - nats[:, :1], tokens, clusters=clusters, seed=seed)
    low, high = interval_of(draws, freedom=len(set(clusters)) - len({items[i].task for i in mine}))
    return list(zip(rises.tolist(), low.tolist(), high.tolist(), strict=True))


def best_candidate(rows: Sequence[dict[str, Any]]) -> int:
    """The lowest complex nats per token, of those that are not surely worse on the simple items."""
    allowed = [n for n, row in enumerate(rows) if row["simple_rise_nats"][1] <= 0]
    return min(allowed, key=lambda n: rows[n]["complex_nats_per_token"])
