"""Calibration items -> Scores: a criterion over simple and complex items, batch by batch, resumable."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastpath.blocks import find_blocks
from fastpath.bootstrap import bootstrap_ratio
from fastpath.config import PruneConfig
from fastpath.data import Batch, item_batches
from fastpath.items.catalog import generate
from fastpath.items.item import Item
from fastpath.plan import Column, Scores
from fastpath.progress import progress
from fastpath.runs import step
from prune.criteria import CRITERIA, Criterion, Part, spans

log = logging.getLogger("fastpath")


def calibration_items(config: PruneConfig, *, seed: int) -> tuple[list[Item], list[Item]]:
    """(simple, complex) items of the calibration split: other templates, names and seeds than evaluation."""

    def of(tasks: Sequence[str]) -> list[Item]:
        made = [generate(t, split="calibration", seed=seed, num_items=config.items_per_task) for t in tasks]
        return [item for items in made for item in items]

    return of(config.simple_tasks), of(config.complex_tasks)


def score_blocks(model: Any, tokenizer: Any, config: PruneConfig, *, seed: int, folder: Path) -> Scores:
    """The cost of every block on simple and on complex calibration items, with 95 % bootstrap intervals.

    Every finished batch is kept in FOLDER/scores/, so that a killed run goes on there.
    """
    criterion = CRITERIA[config.criterion]
    depth = len(find_blocks(model)[1])
    suites = dict(zip(("simple", "complex"), calibration_items(config, seed=seed), strict=True))
    batches = {
        name: item_batches(i, tokenizer, batch_tokens=config.batch_tokens) for name, i in suites.items()
    }
    total = sum(batch.ids.numel() for of_suite in batches.values() for batch in of_suite)
    sums = {}
    if kept := len(list(folder.glob("scores/*.json"))):
        log.info("going on: %d of %d batches are scored", kept, sum(map(len, batches.values())))
    with progress(f"scoring {depth} blocks by {config.criterion}", total) as advance:
        for name, items in suites.items():
            parts = []
            for number, batch in enumerate(batches[name]):
                part = step(folder, f"scores/{name}-{number:04d}.json", _scored(criterion, model, batch))
                parts.append(Part(**part))
                advance(batch.ids.numel())
            sums[name] = _joined(parts, len(items))
    columns = _columns(suites, sums, criterion=criterion, depth=depth, seed=seed)
    return Scores(criterion=config.criterion, unit=criterion.unit, depth=depth, **columns)


def _scored(criterion: Criterion, model: Any, batch: Batch) -> Any:
    return lambda: asdict(criterion.function(model, batch.to(model.device)))


def _joined(parts: Sequence[Part], num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(num_items, columns) sums and (num_items,) tokens in the order of the items."""
    sums = np.empty((num_items, len(parts[0].sums[0])))
    tokens = np.empty(num_items)
    for part in parts:
        sums[part.index], tokens[part.index] = part.sums, part.tokens
    return sums, tokens


def _columns(
    suites: dict[str, list[Item]],
    sums: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    criterion: Criterion,
    depth: int,
    seed: int,
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    every_span = spans(depth)
    draws = {}
    for name, items in suites.items():
        values, tokens = sums[name]
        if criterion.spans:
            span_costs = values.sum(0) / tokens.sum()
            if name == "simple":
                out["simple_spans"] = _by_start(span_costs, every_span, depth)
            values = values[:, [every_span.index((i, i + 1)) for i in range(depth)]]
        clusters = [f"{item.task}/{item.template}" for item in items]
        cost, draws[name] = bootstrap_ratio(values, tokens, clusters=clusters, seed=seed)
        out[name] = _column(cost, draws[name], items=len(items), tokens=int(tokens.sum()))
        draws[f"{name}_cost"] = cost
    out["reasoning"] = _column(
        draws["complex_cost"] - draws["simple_cost"],
        draws["complex"] - draws["simple"],  # the two suites are resampled independently
        items=sum(map(len, suites.values())),
        tokens=out["simple"].tokens + out["complex"].tokens,
    )
    return out


def _column(cost: np.ndarray, draws: np.ndarray, *, items: int, tokens: int) -> Column:
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Column(items=items, tokens=tokens, cost=tuple(cost), low=tuple(low), high=tuple(high))


def _by_start(costs: np.ndarray, every_span: list[tuple[int, int]], depth: int) -> list[list[float]]:
    rows: list[list[float]] = [[] for _ in range(depth)]
    for (start, _), cost in zip(every_span, costs, strict=True):
        rows[start].append(float(cost))
    return rows
