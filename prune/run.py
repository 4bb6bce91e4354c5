"""score -> search -> frontier -> plan -> cut -> check -> repair -> save."""

import logging
from pathlib import Path
from typing import Any

from fastpath.block_config import beyond_depth, cut_config
from fastpath.blocks import find_blocks
from fastpath.config import PruneConfig, Recipe
from fastpath.errors import ConfigError, RunError
from fastpath.frontier import read_frontier
from fastpath.items.catalog import DIALS, TASKS
from fastpath.items.item import digest
from fastpath.models import (
    check_tokenizer,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    weights_sha256,
)  # fmt: skip
from fastpath.plan import Plan, Scores, read_plan, read_scores
from fastpath.plots import cost_figure, svg_text
from fastpath.runs import finish, is_done, stage_folder, step, write_json, write_text
from fastpath.sources import locate
from fastpath.team import Team
from prune.choose import EDITED, how_many, most_dropped, pick, plan_of
from prune.frontier import block_sizes, make_frontier
from prune.mergekit import given_plan, mergekit_yaml
from prune.repair import check_repair
from prune.save import export_model, seen_items
from prune.scoring import score_blocks
from prune.speed import fewest_for

log = logging.getLogger("fastpath")


def run(recipe: Recipe) -> Path:
    """Prune the recipe's model and return the stage's folder: scores.json, frontier.json, plan.json, model/.

    A plan that is given is cut as it stands: no scores, no frontier. Raises UserError; nothing is
    half-written.
    """
    config = recipe.prune or PruneConfig(drop=1)
    _check_tasks(config)
    device = pick_device(recipe.model)
    team = Team.launched(device)
    if recipe.model.device_map != "none":
        check_spread(config, team)
    with stage_folder(recipe, "prune") as out:
        if is_done(out):
            team.tell(None)
            log.info("%s: already done; this is the saved result", out)
            return out
        dtype, reason = pick_dtype(recipe.model, device)
        log.info("prune: %s, computing in %s on %s (%s)", recipe.model.name, str(dtype)[6:], device, reason)
        trust = recipe.model.trust_remote_code
        source = locate(recipe.model.name, revision=recipe.model.revision, trust_remote_code=trust)
        tokenizer = load_tokenizer(source.folder, trust_remote_code=trust)
        spread = recipe.model.device_map
        model = load_model(
            source.folder, dtype=dtype, device=device, device_map=spread, trust_remote_code=trust
        )
        check_tokenizer(model, tokenizer, source.folder)
        sizes = block_sizes(model)
        given = given_plan(config, depth=len(sizes), source=source) if config.plan else None
        others = sum(p.numel() for p in model.parameters()) - sum(sizes)
        num_drop = 0 if given else how_many(config, sizes, others=others)
        # A family that cannot be cut or mended is refused before minutes of scoring.
        cut_config(model.config, range(len(sizes)))
        check_repair(config.repair, model)
        weights = weights_sha256(source.folder)
        check_inputs(out, config, weights, seed=recipe.seed)
        chosen, scores = given, None
        if chosen is None:
            num_drop = measured_size(model, config, num_drop, out)
            team.tell(source.folder)
            keys: dict[str, Any] = {"seed": recipe.seed, "weights": weights, "folder": out, "team": team}
            chosen, scores = searched_plan(model, tokenizer, config, num_drop, **keys)
        team.tell(None)
        step(out, "plan.json", chosen.model_dump)
        plan = checked_plan(out / "plan.json", chosen, scores)
        beyond = beyond_depth(model.config, plan.keep)
        write_text(out / "mergekit.yaml", mergekit_yaml(plan, source, beyond))
        if scores:
            write_text(out / "scores.svg", svg_text(cost_figure(scores, plan.drop), name="scores"))
        log.info("cutting blocks %s and checking: cut == skipped", list(plan.drop))
        made = out / "model"
        plan = export_model(
            model, tokenizer, source, plan, config, made,
            seed=recipe.seed, weights=weights, trust=trust, device_map=spread,
        )  # fmt: skip
        write_json(out / "plan.json", plan.model_dump())
        finish(out)
    return out


def measured_size(model: Any, config: PruneConfig, predicted: int, folder: Path) -> int:
    """The predicted number of blocks, or more where the recipe wants a speed that is to be measured."""
    wanted = config.speedup
    if wanted is None or not config.measure_speed:
        return predicted
    depth = len(find_blocks(model)[1])
    sizes = range(predicted, most_dropped(config, depth) + 1)
    free = [i for i in range(depth) if i not in config.protect]
    return int(step(folder, "frontier/size.json", lambda: fewest_for(model, wanted, free, sizes)))


def check_inputs(folder: Path, config: PruneConfig, weights: str, *, seed: int) -> None:
    """Raise RunError if work in this folder was begun on other weights or other items."""
    used = {"weights_sha256": weights, "items_sha256": digest(*seen_items(config, seed=seed), length=64)}
    begun = step(folder, "inputs.json", lambda: used)
    if changed := [name.split("_")[0] for name in used if begun.get(name) != used[name]]:
        raise RunError(
            f"{folder}: begun with other {changed[0]} than there are now; delete it, or choose another out="
        )


def searched_plan(
    model: Any, tokenizer: Any, config: PruneConfig, num_drop: int, *, folder: Path, **keys: Any
) -> tuple[Plan, Scores]:
    """Score the blocks, search up to `num_drop` of them, and pick the point that the recipe asks for."""

    def scored() -> Any:
        return score_blocks(model, tokenizer, config, folder=folder, **keys).model_dump()

    step(folder, "scores.json", scored)
    scores = read_scores(folder / "scores.json")

    def searched() -> Any:
        made = make_frontier(model, tokenizer, config, scores, num_drop, folder=folder, **keys)
        return made.model_dump()

    step(folder, "frontier.json", searched)
    frontier = read_frontier(folder / "frontier.json")
    return plan_of(pick(frontier, config), frontier), scores


def checked_plan(path: Path, chosen: Plan, scores: Scores | None) -> Plan:
    """The plan on disk: the chosen one, or one edited by hand, which is cut as it stands and says so."""
    plan = read_plan(path)
    if plan.depth != chosen.depth:
        raise RunError(f"{path}: made for {plan.depth} blocks, the model has {chosen.depth}")
    if plan.keep != chosen.keep:
        plan = plan.model_copy(update={"chooser": EDITED, "cost": None})
        if scores:
            cost = sum(scores.ranking.cost[i] for i in plan.drop)
            plan = plan.model_copy(update={"criterion": scores.criterion, "unit": scores.unit, "cost": cost})
    return plan.model_copy(update={"repair": None})


def check_spread(config: PruneConfig, team: Team) -> None:
    """Raise ConfigError for what needs all weights of the model on one device."""
    for key, idle in (("criterion", config.criterion != "taylor"), ("repair", config.repair == "none"),
                      ("measure_speed", not config.measure_speed)):  # fmt: skip
        if not idle:
            raise ConfigError(
                f"prune.{key}: {getattr(config, key)!r} needs the whole model on one device; "
                "choose another, or model.device_map=none"
            )
    if team.size > 1:
        raise ConfigError(
            f"model.device_map: one process spreads the model, {team.size} were started; use either"
        )


def _check_tasks(config: PruneConfig) -> None:
    for key, known in (("simple_tasks", TASKS), ("complex_tasks", TASKS), ("depth_tasks", DIALS)):
        suite, said = getattr(config, key), f"known tasks: {', '.join(known)}"
        if not suite:
            raise ConfigError(f"prune.{key}: empty; {said}")
        for task in suite:
            if task not in known:
                raise ConfigError(f"prune.{key}: unknown task {task!r}; {said}")
