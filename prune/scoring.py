"""Calibration items -> Scores: a criterion over all items, batch by batch, resumable."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastpath.blocks import find_blocks
from fastpath.config import PruneConfig
from fastpath.data import Batch, item_batches
from fastpath.errors import RunError
from fastpath.items.item import Item
from fastpath.plan import Column, Scores
from fastpath.progress import progress
from fastpath.runs import read_json, step
from fastpath.team import Team
from prune.calibration import answered, calibration_items, dial_items
from prune.columns import Measured, depth_columns, halvings_of, ratio_column, suite_columns
from prune.criteria import CRITERIA, spans
from prune.part import Part
from prune.share import share_parts
from prune.sink import find_sink

log = logging.getLogger("fastpath")
SINK_ITEMS = 8


def score_blocks(
    model: Any,
    tokenizer: Any,
    config: PruneConfig,
    *,
    seed: int,
    weights: str,
    folder: Path,
    team: Team | None = None,
) -> Scores:
    """The cost of every block on simple, complex and depth-dial items, with 95 % bootstrap intervals.

    `weights` is the digest of the model's. Every finished batch is kept in FOLDER/scores/, so that a
    killed run goes on there. The processes of `team` share the batches.
    """
    criterion, depth = CRITERIA[config.criterion], len(find_blocks(model)[1])
    simple, both = calibration_items(config, seed=seed)
    both = answered(model, tokenizer, both, config, weights=weights, folder=folder)
    dials = dial_items(config, seed=seed)
    items = [*simple, *both, *dials]
    suite_of = np.repeat(["simple", "complex", "depth"], [len(simple), len(both), len(dials)])
    halvings = halvings_of(items, seed=seed)
    batches = item_batches(items, tokenizer, batch_tokens=config.batch_tokens)
    stream_bytes = int(config.stream_gib * 2**30)
    function = criterion.ready(model, batches, halvings[0], folder / "scores", stream_bytes=stream_bytes)
    # What was fitted is large: it stays in the first process, and its batches too.
    together = team if team is not None and criterion.fit is None else Team()
    what = f"scoring {depth} blocks by {config.criterion}"
    parts = _measured(model, batches, function, what, folder, team=together)
    sums, tokens, without_first = _joined(parts, len(items))
    columns: dict[str, Column] = {}
    simple_spans: list[list[float]] = []
    if criterion.spans:
        every_span, of_simple = spans(depth), suite_of == "simple"
        costs = sums[of_simple].sum(0) / tokens[of_simple].sum()
        simple_spans = _by_start(costs, every_span, depth)
        sums = sums[:, [every_span.index((i, i + 1)) for i in range(depth)]]
    if without_first is not None:
        rest = Measured(items, without_first, tokens - 1, halvings).where(suite_of == "simple")
        columns["simple_without_first"] = ratio_column(rest, seed=seed)
    every_item = Measured(items, sums, tokens, halvings)
    suites = {name: every_item.where(suite_of == name) for name in ("simple", "complex", "depth")}
    columns |= suite_columns(suites["simple"], suites["complex"], seed=seed)
    columns |= depth_columns(suites["depth"], seed=seed)
    return Scores(
        criterion=config.criterion,
        unit=criterion.unit,
        depth=depth,
        ranked_by=criterion.ranked_by,
        sink=find_sink(model, [batch.to(model.device) for batch in _sample(simple, tokenizer, config)]),
        simple_spans=tuple(map(tuple, simple_spans)),
        **columns,
    )


def _measured(
    model: Any,
    batches: Sequence[Batch],
    function: Callable[[Any, Batch], Part],
    what: str,
    folder: Path,
    *,
    team: Team,
) -> list[Part]:
    """What each batch adds, read back where it is known; as many at once as there are processes."""
    files = [f"scores/batch-{number:04d}.json" for number in range(len(batches))]
    missing = [number for number, file in enumerate(files) if not (folder / file).exists()]
    if kept := len(batches) - len(missing):
        log.info("going on: %d of %d batches are scored", kept, len(batches))
    with progress(what, sum(batches[number].ids.numel() for number in missing)) as advance:
        for start in range(0, len(missing), team.size):
            numbers = missing[start : start + team.size]
            some = [batches[number] for number in numbers]
            for number, part in zip(numbers, share_parts(model, function, some, team), strict=True):
                step(folder, files[number], partial(asdict, part))
                advance(batches[number].ids.numel())
    return [Part(**read_json(folder / file)) for file in files]


def _sample(items: Sequence[Item], tokenizer: Any, config: PruneConfig) -> list[Batch]:
    """A few items of all tasks: the sink is the model's, not the items'."""
    some = items[:: max(1, len(items) // SINK_ITEMS)]
    return item_batches(some, tokenizer, batch_tokens=config.batch_tokens)


def _joined(parts: Sequence[Part], num_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(num_items, columns) sums, (num_items,) tokens and the sums without the first token, in item order."""
    sums = np.empty((num_items, len(parts[0].sums[0])))
    tokens, without_first = np.empty(num_items), np.empty_like(sums)
    if sorted(i for part in parts for i in part.index) != list(range(num_items)):
        raise RunError("scores/: holds batches of other items than asked for; delete it to score again")
    for part in parts:
        sums[part.index], tokens[part.index] = part.sums, part.tokens
        if part.without_first:
            without_first[part.index] = part.without_first
    return sums, tokens, without_first if parts[0].without_first else None


def _by_start(costs: np.ndarray, every_span: list[tuple[int, int]], depth: int) -> list[list[float]]:
    rows: list[list[float]] = [[] for _ in range(depth)]
    for (start, _), cost in zip(every_span, costs, strict=True):
        rows[start].append(float(cost))
    return rows
