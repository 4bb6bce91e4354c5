"""score -> plan -> cut -> check -> repair -> save."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastpath.block_config import cut_config
from fastpath.blocks import TOLERANCE, check_surgery, find_blocks, keep_blocks
from fastpath.card import write_card
from fastpath.config import PruneConfig, Recipe
from fastpath.env import code_version
from fastpath.errors import ConfigError, RunError, SurgeryError
from fastpath.items.catalog import TASKS
from fastpath.models import (
    Lineage,
    check_tokenizer,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    save_model,
    weights_sha256,
)
from fastpath.plan import Plan, Scores, read_plan, read_scores, repair_words
from fastpath.quiet import quiet
from fastpath.runs import finish, is_done, new_folder, stage_folder, step, write_json, write_text
from fastpath.sources import Source, locate
from prune.choose import check_drop, choose
from prune.judge import repair, repair_items
from prune.mergekit import given_plan, mergekit_yaml
from prune.repair import check_repair
from prune.score import calibration_items, score_blocks

log = logging.getLogger("fastpath")


def run(recipe: Recipe) -> Path:
    """Prune the recipe's model and return the stage's folder: scores.json, plan.json, model/, DONE.

    Raises UserError; nothing is half-written.
    """
    config = recipe.prune or PruneConfig(drop=1)
    _check_tasks(config)
    with stage_folder(recipe, "prune") as out:
        if is_done(out):
            log.info("%s: already done; this is the saved result", out)
            return out
        device = pick_device(recipe.model)
        dtype, reason = pick_dtype(recipe.model, device)
        log.info("prune: %s, computing in %s on %s (%s)", recipe.model.name, str(dtype)[6:], device, reason)
        trust = recipe.model.trust_remote_code
        source = locate(recipe.model.name, revision=recipe.model.revision, trust_remote_code=trust)
        tokenizer = load_tokenizer(source.folder, trust_remote_code=trust)
        model = load_model(source.folder, dtype=dtype, device=device, trust_remote_code=trust)
        check_tokenizer(model, tokenizer, source.folder)
        depth = len(find_blocks(model)[1])
        given = given_plan(config, depth=depth) if config.plan else None
        if given is None:
            check_drop(config, depth)
        # A family that cannot be cut or mended is refused before minutes of scoring.
        cut_config(model.config, range(depth))
        check_repair(config.repair, model)

        def make_scores() -> Any:
            return score_blocks(model, tokenizer, config, seed=recipe.seed, folder=out).model_dump()

        scores = None
        if given is None:
            step(out, "scores.json", make_scores)
            scores = read_scores(out / "scores.json")
        chosen = given or choose(scores, config)
        step(out, "plan.json", chosen.model_dump)
        plan = checked_plan(out / "plan.json", chosen, scores)
        write_text(out / "mergekit.yaml", mergekit_yaml(plan, source))
        log.info("cutting blocks %s and checking: cut == skipped", list(plan.drop))
        plan = _export(model, tokenizer, source, plan, config, out / "model", seed=recipe.seed, trust=trust)
        write_json(out / "plan.json", plan.model_dump())
        finish(out)
    return out


def checked_plan(path: Path, chosen: Plan, scores: Scores | None) -> Plan:
    """The plan on disk: the chosen one, or one edited by hand, which is cut as it stands and says so."""
    plan = read_plan(path)
    if plan.depth != chosen.depth:
        raise RunError(f"{path}: made for {plan.depth} blocks, the model has {chosen.depth}")
    if plan.keep != chosen.keep:
        cost = sum(scores.simple.cost[i] for i in plan.drop) if scores else None
        plan = plan.model_copy(update={"chooser": "edited by hand", "simple_cost": cost})
    return plan.model_copy(update={"repair": None})


def _check_tasks(config: PruneConfig) -> None:
    for key, suite in (("simple_tasks", config.simple_tasks), ("complex_tasks", config.complex_tasks)):
        if not suite:
            raise ConfigError(f"prune.{key}: empty; known tasks: {', '.join(TASKS)}")
        for task in suite:
            if task not in TASKS:
                raise ConfigError(f"prune.{key}: unknown task {task!r}; known tasks: {', '.join(TASKS)}")


def check_cached(model: Any, saved: Any) -> None:
    """Raise SurgeryError if the cut model cannot generate with its KV cache though the original can.

    A hybrid stack that lost all its full-attention blocks computes rightly and cannot generate.
    """
    if cache_error(model):
        return
    if reason := cache_error(saved):
        raise SurgeryError(
            f"{type(saved).__name__}: the cut model cannot use its KV cache: {reason}; keep other blocks"
        )


@torch.no_grad()
def cache_error(model: Any) -> str:
    """Why cached and uncached logits of a model do not agree; "" if they do."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = (torch.arange(3, 19, device=model.device) % vocabulary)[None]
    whole = model(ids, use_cache=False).logits[:, -1].double()
    try:
        cache = model(ids[:, :-1], use_cache=True).past_key_values
        step = model(ids[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1].double()
    except (RuntimeError, IndexError, ValueError, AttributeError, TypeError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    worst = (step - whole).abs().max().item()
    agree = worst <= TOLERANCE[model.dtype] * max(1.0, whole.abs().max().item())
    return "" if agree else f"its logits differ by {worst:.2g}"


def _export(
    model: Any,
    tokenizer: Any,
    source: Source,
    plan: Plan,
    config: PruneConfig,
    folder: Path,
    *,
    seed: int,
    trust: bool,
) -> Plan:
    """Cut the weights as they are stored (not as they were computed with), save, check what was saved, mend.

    Returns the plan with what the repair did.
    """

    def load_saved() -> Any:
        return load_model(unfinished, dtype=model.dtype, device=model.device, trust_remote_code=trust)

    cut = keep_blocks(load_model(source.folder, dtype="auto", trust_remote_code=trust), plan.keep)
    with new_folder(folder) as unfinished:
        save_model(cut, tokenizer, unfinished)
        saved = load_saved()
        worst = check_surgery(model, saved, plan.keep)
        check_cached(model, saved)
        seen = _seen(config, seed=seed)
        if config.repair != "none":
            log.info("repair %s: fitting, then judging on other calibration items", config.repair)
            plan = plan.model_copy(
                update={"repair": repair(model, saved, cut, plan, tokenizer, config, seed=seed)}
            )
            log.info("repair %s", repair_words(plan.repair))
        if mended := plan.repair is not None and plan.repair.applied:
            save_again(cut, saved, unfinished, load_saved)
        del cut, saved
        lineage = Lineage(
            base=source.name,
            revision=source.revision,
            base_weights_sha256=weights_sha256(source.folder),
            weights_sha256=weights_sha256(unfinished),
            depth=plan.depth,
            keep=plan.keep,
            code=code_version(),
            calibration_items=seen,
            repair=config.repair if mended else "none",
        )
        lineage.write(unfinished)
        write_card(unfinished, plan)
    log.info("saved %s; largest difference of a logit from the skipped original: %.1e", folder, worst)
    if len(plan.drop) > plan.depth / 3:
        log.warning("warning: %d of %d blocks dropped; more than a third is not known to heal on reasoning",
                    len(plan.drop), plan.depth)  # fmt: skip
    return plan


def _seen(config: PruneConfig, *, seed: int) -> tuple[str, ...]:
    """Ids of the items that the plan was scored and the repair fitted, chosen and judged on."""
    scored = () if config.plan else calibration_items(config, seed=seed)
    ids = tuple(item.id for items in scored for item in items)
    return ids if config.repair == "none" else ids + repair_items(config, seed=seed).ids


def save_again(cut: Any, saved: Any, folder: Path, load_saved: Callable[[], Any]) -> None:
    """Write a mended model over the cut; SurgeryError unless every tensor reads back as it was judged."""
    for file in folder.glob("*.safetensors"):
        file.unlink()  # not written over: tensors in memory may be mapped from it
    with quiet():
        cut.save_pretrained(folder)
    read, judged = load_saved().state_dict(), saved.state_dict()
    if wrong := [key for key in judged if not torch.equal(read[key], judged[key])]:
        raise SurgeryError(f"{folder}: the repaired {wrong[0]} does not read back as it was judged")
