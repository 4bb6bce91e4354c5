"""score -> search -> frontier -> plan -> cut -> check -> save."""

import logging
from pathlib import Path
from typing import Any

import torch

from fastpath.block_config import cut_config
from fastpath.blocks import TOLERANCE, check_surgery, keep_blocks
from fastpath.card import write_card
from fastpath.config import PruneConfig, Recipe
from fastpath.env import code_version
from fastpath.errors import ConfigError, RunError, SurgeryError
from fastpath.frontier import read_frontier
from fastpath.items.catalog import DIALS, TASKS
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
from fastpath.plan import Plan, Scores, read_plan, read_scores
from fastpath.runs import finish, is_done, new_folder, stage_folder, step, write_json, write_text
from fastpath.sources import Source, locate
from prune.choose import how_many, pick, plan_of
from prune.frontier import block_sizes, held_out_items, make_frontier
from prune.plots import cost_plot
from prune.score import calibration_items, dial_items, score_blocks

log = logging.getLogger("fastpath")


def run(recipe: Recipe) -> Path:
    """Prune the recipe's model and return the stage's folder: scores.json, frontier.json, plan.json, model/.

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
        sizes = block_sizes(model)
        num_drop = how_many(config, sizes, others=sum(p.numel() for p in model.parameters()) - sum(sizes))
        # A family that cannot be cut is refused before minutes of scoring.
        cut_config(model.config, range(len(sizes)))

        def make_scores() -> Any:
            made = score_blocks(model, tokenizer, config, seed=recipe.seed, source=source.folder, folder=out)
            return made.model_dump()

        step(out, "scores.json", make_scores)
        scores = read_scores(out / "scores.json")

        def frontier_of() -> Any:
            made = make_frontier(
                model, tokenizer, config, scores, num_drop, seed=recipe.seed, source=source.folder, folder=out
            )
            return made.model_dump()

        step(out, "frontier.json", frontier_of)
        frontier = read_frontier(out / "frontier.json")
        chosen = plan_of(pick(frontier, config), frontier)
        step(out, "plan.json", chosen.model_dump)
        plan = checked_plan(out / "plan.json", chosen, scores)
        log.info("cutting blocks %s and checking: cut == skipped", list(plan.drop))
        write_text(out / "scores.svg", cost_plot(scores, plan.drop))
        seen = _seen(config, seed=recipe.seed)
        _export(model, tokenizer, source, plan, out / "model", seen=seen, trust=trust)
        finish(out)
    return out


def checked_plan(path: Path, chosen: Plan, scores: Scores) -> Plan:
    """The plan on disk: the chosen one, or one edited by hand, which is cut as it stands and says so."""
    plan = read_plan(path)
    if plan.depth != scores.depth:
        raise RunError(f"{path}: made for {plan.depth} blocks, the model has {scores.depth}")
    if plan.keep != chosen.keep:
        cost = sum(scores.ranking.cost[i] for i in plan.drop)
        plan = plan.model_copy(update={"chooser": "edited by hand", "simple_cost": cost})
        write_json(path, plan.model_dump())
    return plan


def _seen(config: PruneConfig, *, seed: int) -> tuple[str, ...]:
    """Ids of the items that blocks were scored, plans searched and the frontier costed on."""
    suites = (
        *calibration_items(config, seed=seed),
        dial_items(config, seed=seed),
        *held_out_items(config, seed=seed),
    )
    return tuple(item.id for items in suites for item in items)


def _check_tasks(config: PruneConfig) -> None:
    for key, known in (("simple_tasks", TASKS), ("complex_tasks", TASKS), ("depth_tasks", DIALS)):
        suite, said = getattr(config, key), f"known tasks: {', '.join(known)}"
        if not suite:
            raise ConfigError(f"prune.{key}: empty; {said}")
        for task in suite:
            if task not in known:
                raise ConfigError(f"prune.{key}: unknown task {task!r}; {said}")


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
    folder: Path,
    *,
    seen: tuple[str, ...],
    trust: bool,
) -> None:
    """Cut the weights as they are stored (not as they were computed with), save, and check what was saved."""
    stored = load_model(source.folder, dtype="auto", trust_remote_code=trust)
    with new_folder(folder) as unfinished:
        save_model(keep_blocks(stored, plan.keep), tokenizer, unfinished)
        del stored
        saved = load_model(unfinished, dtype=model.dtype, device=model.device, trust_remote_code=trust)
        worst = check_surgery(model, saved, plan.keep)
        check_cached(model, saved)
        lineage = Lineage(
            base=source.name,
            revision=source.revision,
            base_weights_sha256=weights_sha256(source.folder),
            weights_sha256=weights_sha256(unfinished),
            depth=plan.depth,
            keep=plan.keep,
            code=code_version(),
            calibration_items=seen,
        )
        lineage.write(unfinished)
        write_card(unfinished, plan)
    log.info("saved %s; largest difference of a logit from the skipped original: %.1e", folder, worst)
    if len(plan.drop) > plan.depth / 3:
        log.warning("warning: %d of %d blocks dropped; more than a third is not known to heal on reasoning",
                    len(plan.drop), plan.depth)  # fmt: skip
