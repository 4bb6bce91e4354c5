"""Scores and searches -> frontier.json: candidates for every number of blocks, costed on held-out items."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastpath.blocks import find_blocks
from fastpath.bootstrap import bootstrap_ratio, interval_of
from fastpath.config import PruneConfig
from fastpath.data import Batch, item_batches
from fastpath.frontier import Frontier, Point, Rise
from fastpath.items.item import Item
from fastpath.plan import Scores
from fastpath.progress import progress
from fastpath.runs import read_json, step, write_json
from fastpath.team import Team
from prune.calibration import answered, calibration_items, held_out_items
from prune.choose import CHOOSERS, from_scores
from prune.columns import cluster_of
from prune.race import Objective, grouped_batches
from prune.search import Costs, Drop, Found, beam, evolution, greedy, spans
from prune.share import Room, SharedAblations, share_ablations
from prune.speed import speed_ratio

log = logging.getLogger("fastpath")

SUITES = ("simple", "complex")
GROUPS = 4
"""Parts that evolution deals the items into: it asks a quarter, then half of them, then all."""
SEARCHES: dict[str, Callable[[Sequence[Costs], Sequence[int], int, PruneConfig, int], list[Found]]] = {
    "greedy": lambda costs, free, num, config, seed: greedy(costs[-1], free, num),
    "beam": lambda costs, free, num, config, seed: beam(costs[-1], free, num, width=config.beam_width),
    "evolution": lambda costs, free, num, config, seed: evolution(
        costs, free, num, generations=config.generations, offspring=config.offspring, seed=seed
    ),
    "spans": lambda costs, free, num, config, seed: spans(costs[-1], free, num),
}
"""Choosers that try whole plans on the model; those of choose.py read the scores."""


def make_frontier(
    model: Any,
    tokenizer: Any,
    config: PruneConfig,
    scores: Scores,
    num_drop: int,
    *,
    seed: int,
    weights: str,
    folder: Path,
    team: Team | None = None,
) -> Frontier:
    """The best plan found for each of 1..num_drop blocks, with its costs on held-out calibration items.

    `weights` is the digest of the model's. Every step of a search is kept in FOLDER/search/ and every cost in
    FOLDER/frontier/, so that a killed run goes on there. The processes of `team` share the batches.
    """
    team = team or Team()
    own = partial(answered, model, tokenizer, config=config, weights=weights, folder=folder)
    if config.chooser in CHOOSERS:
        found, criterion, unit = from_scores(scores, config, num_drop), scores.criterion, scores.unit
    else:
        simple, both = calibration_items(config, seed=seed)
        suites = simple, own(both) if config.complex_weight else both
        found = search(model, tokenizer, config, num_drop, suites=suites, seed=seed, folder=folder, team=team)
        more = f" + {config.complex_weight:g} complex" if config.complex_weight else ""
        criterion, unit = "ablation", f"nats per answer token{more}"
    drops = [plan.drop for plan in found]
    log.info("frontier: costs of 1 to %d dropped blocks on held-out items", num_drop)
    simple, both = held_out_items(config, seed=seed)
    suites = simple, own(both)
    rises = [
        held_out_rises(model, tokenizer, config, items, drops, seed=seed, team=team, path=path)
        for items, path in zip(suites, (folder / f"frontier/{name}.json" for name in SUITES), strict=True)
    ]
    sizes = block_sizes(model)
    whole = sum(p.numel() for p in model.parameters())
    points = [
        Point(
            drop=plan.drop,
            cost=plan.cost,
            simple=rise,
            complex=complex_rise,
            parameters=whole - sum(sizes[i] for i in plan.drop),
            predicted_prefill_ratio=scores.depth / (scores.depth - len(plan.drop)),
            runners_up=plan.others,
            measured_ratio=measured_ratio(model, plan.drop, folder) if config.measure_speed else None,
        )
        for plan, rise, complex_rise in zip(found, *rises, strict=True)
    ]
    return Frontier(
        depth=scores.depth, chooser=config.chooser, criterion=criterion, unit=unit, parameters=whole,
        simple_items=len(suites[0]), complex_items=len(suites[1]), points=tuple(points),
    )  # fmt: skip


def block_sizes(model: Any) -> list[int]:
    """Parameters of each block."""
    return [sum(p.numel() for p in block.parameters()) for block in find_blocks(model)[1]]


def search(
    model: Any,
    tokenizer: Any,
    config: PruneConfig,
    num_drop: int,
    *,
    suites: tuple[list[Item], list[Item]],
    seed: int,
    folder: Path,
    team: Team,
) -> list[Found]:
    """What the recipe's chooser finds on (simple, complex) items, step by step from FOLDER/search/."""
    free = [i for i in range(len(find_blocks(model)[1])) if i not in config.protect]
    groups = GROUPS if config.chooser == "evolution" else 1
    weighed = [
        (items, weight) for items, weight in zip(suites, (1.0, config.complex_weight), strict=True) if weight
    ]
    batches = [
        grouped_batches(
            [items[g::groups] for g in range(groups)], tokenizer, batch_tokens=config.batch_tokens
        )
        for items, _ in weighed
    ]
    rounds = config.chooser != "spans"  # it asks for all spans at once
    ablations = _ablations(model, [[b for b, _ in of] for of in batches], config, team, rounds=rounds)
    objective = Objective(
        [(a, weight) for a, (_, weight) in zip(ablations, weighed, strict=True)],
        groups=[[group for _, group in of] for of in batches],
        at_once=team.size,
    )
    parts = (1, 2, None) if groups > 1 else (None,)
    costs = remembered(
        {part: partial(objective.costs, first_groups=part) for part in parts}, folder / "search"
    )
    return SEARCHES[config.chooser](costs, free, num_drop, config, seed)


def _ablations(
    model: Any, suites: Sequence[list[Batch]], config: PruneConfig, team: Team, *, rounds: bool
) -> list[SharedAblations]:
    """One for each suite; they share the recipe's memory by their tokens."""
    tokens = [sum(batch.ids.numel() for batch in of) for of in suites]
    shares = [int(config.stream_gib * 2**30 * t / sum(tokens)) for t in tokens]
    on_host = model.device.type != "cpu"
    rooms = [
        Room(of, share, share if on_host else 0, rounds) for of, share in zip(suites, shares, strict=True)
    ]
    return share_ablations(model, rooms, team)


def remembered(parts: dict[int | None, Costs], folder: Path) -> list[Costs]:
    """The same costs, each answer written to FOLDER: a search that asks the same again is told from there."""
    folder.mkdir(exist_ok=True)
    if kept := len(list(folder.glob("*.json"))):
        log.info("going on: %d steps of the search are known", kept)
    number = 0

    def ask(part: int | None, drops: list[Drop], num: int) -> list[float]:
        nonlocal number
        number += 1
        path = folder / f"{number:05d}.json"
        asked = {"groups": part, "num": num, "drops": [sorted(drop) for drop in drops]}
        if not path.exists() or read_json(path)["asked"] != asked:
            what = f"search: step {number}, {len(drops)} plans of {len(drops[0])} blocks"
            with progress(what, len(drops)) as advance:
                made = parts[part](drops, num)
                advance(len(drops))
            # null: sure not to be among the `num` cheapest
            write_json(path, {"asked": asked, "costs": [c if c < math.inf else None for c in made]})
            log.info("search: the best of them costs %+.4f", min(made))
        return [math.inf if c is None else c for c in read_json(path)["costs"]]

    return [partial(ask, part) for part in parts]


def held_out_rises(
    model: Any,
    tokenizer: Any,
    config: PruneConfig,
    items: list[Item],
    drops: Sequence[Sequence[int]],
    *,
    seed: int,
    team: Team,
    path: Path,
) -> list[Rise]:
    """The rise of every drop set on these items, with a 95 % bootstrap interval over templates.

    The nats of every item are kept in the JSON file `path`.
    """

    def make() -> dict[str, Any]:
        batches = item_batches(items, tokenizer, batch_tokens=config.batch_tokens)
        (ablations,) = _ablations(model, [batches], config, team, rounds=False)
        gains = ablations.gains(drops)
        return {"drops": drops, "gains": gains.tolist(), "tokens": ablations.tokens.tolist()}

    known = step(path.parent, path.name, make)
    if known["drops"] != [list(drop) for drop in drops]:  # of a search that was deleted
        path.unlink()
        known = step(path.parent, path.name, make)
    clusters = [cluster_of(item) for item in items]
    gains, tokens = np.array(known["gains"]).T, np.array(known["tokens"])
    nats, draws = bootstrap_ratio(gains, tokens, clusters=clusters, seed=seed)
    low, high = interval_of(draws, freedom=len(set(clusters)) - len({item.task for item in items}))
    return [
        Rise(nats=n, low=a, high=b)
        for n, a, b in zip(nats.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def measured_ratio(model: Any, drop: Sequence[int], folder: Path) -> float:
    """How much faster the model is without these blocks: measured once, kept in FOLDER/frontier/."""
    name = "-".join(map(str, drop))
    return float(step(folder, f"frontier/speed-{name}.json", lambda: speed_ratio(model, drop)))
