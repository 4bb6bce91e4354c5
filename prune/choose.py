"""Which blocks to drop: the choosers here take scores; those that search are in frontier.py. No torch.

How far a frontier has to go, and which of its points the recipe asks for.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

from fastpath.config import PruneConfig
from fastpath.errors import ConfigError
from fastpath.frontier import Frontier, Point
from fastpath.plan import Plan, Scores
from prune.search import RUNNERS_UP, Found, found

log = logging.getLogger("fastpath")
EDITED = "edited by hand"
"""What a plan says of its chooser once somebody has changed what it keeps."""


def lowest(scores: Scores, num_drop: int, protect: Collection[int]) -> Found:
    """The `num_drop` blocks that rank lowest, wherever they are; the cost is the sum of theirs."""
    cost = scores.ranking.cost
    free = sorted((i for i in range(scores.depth) if i not in protect), key=lambda i: (cost[i], i))
    best, rest = free[:num_drop], free[num_drop:]
    # The second and the third cheapest sum differ from the first by one block.
    swapped = [[*(set(best) - {out}), new] for out in best for new in rest[:RUNNERS_UP]]
    first, *others = ((sum(cost[i] for i in sorted(drop)), sorted(drop)) for drop in [best, *swapped])
    return found([first, *sorted(others)])


def span(scores: Scores, num_drop: int, protect: Collection[int]) -> Found:
    """The contiguous run of `num_drop` blocks that ranks lowest: by the span's own cost, else by the sum."""
    runs: list[tuple[float, Collection[int]]] = []
    for start in range(scores.depth - num_drop + 1):
        run = range(start, start + num_drop)
        if set(run) & set(protect):
            continue
        if scores.simple_spans:
            cost = scores.simple_spans[start][num_drop - 1]
        else:
            cost = sum(scores.ranking.cost[i] for i in run)
        runs.append((cost, run))
    return found(sorted(runs, key=lambda pair: pair[0]))  # stable: of equal costs the earlier run


CHOOSERS: dict[str, Callable[[Scores, int, Collection[int]], Found]] = {
    "lowest": lowest,
    "span": span,
}


def from_scores(scores: Scores, config: PruneConfig, num_drop: int) -> list[Found]:
    """What the recipe's chooser takes for each of 1..num_drop blocks."""
    chooser = CHOOSERS[config.chooser]
    return [chooser(scores, size, config.protect) for size in range(1, num_drop + 1)]


def how_many(config: PruneConfig, sizes: Sequence[int], *, others: int) -> int:
    """Up to how many blocks a frontier has to go to hold the point that the recipe asks for.

    `sizes` are the parameters of each block, `others` those outside the blocks. Raises ConfigError if the
    model cannot lose as much.
    """
    depth = len(sizes)
    for block in config.protect:
        if not 0 <= block < depth:
            raise ConfigError(f"prune.protect: no block {block}; blocks are 0..{depth - 1}")
    free = sorted(size for i, size in enumerate(sizes) if i not in config.protect)
    most = most_dropped(config, depth)
    if config.drop is not None:
        num_drop, key = config.drop, "drop"
    elif config.speedup is not None:
        num_drop, key = math.ceil(depth - depth / config.speedup - 1e-9), "speedup"
    elif config.parameters is not None:
        allowed, key = config.parameters * (others + sum(sizes)), "parameters"
        left = [others + sum(sizes) - sum(free[:n]) for n in range(1, most + 1)]
        num_drop = 1 + sum(parameters > allowed for parameters in left)
    else:
        num_drop, key = min(most, max(1, math.ceil(depth / 3))), "max_simple_nats"
    if num_drop >= depth:
        raise ConfigError(f"prune.{key}: {num_drop} of {depth} blocks leaves nothing; at most {depth - 1}")
    if num_drop > most:
        row = " in a row" if config.chooser == "span" else ""
        raise ConfigError(
            f"prune.{key}: {num_drop} blocks{row}, but only {most} of {depth} are not protected{row}"
        )
    return num_drop


def most_dropped(config: PruneConfig, depth: int) -> int:
    """How many blocks the recipe leaves free to drop, in one run where its chooser wants that."""
    most = min(depth - len(set(config.protect)), depth - 1)
    return min(most, longest_run(depth, config.protect)) if config.chooser == "span" else most


def longest_run(depth: int, protect: Collection[int]) -> int:
    """Most neighbouring blocks none of which is protected."""
    ends = [-1, *sorted(protect), depth]
    return max(after - before - 1 for before, after in pairwise(ends))


def pick(frontier: Frontier, config: PruneConfig) -> Point:
    """The point that the recipe asks for. Raises ConfigError saying what can be had."""
    points = frontier.points
    if config.drop is not None:
        return points[config.drop - 1]
    if config.max_simple_nats is not None:
        good = [point for point in points if point.simple.nats <= config.max_simple_nats]
        least = min(point.simple.nats for point in points)
        if not good:
            raise ConfigError(f"prune.max_simple_nats: dropping any block costs at least {least:.3f} here")
        return good[-1]
    if config.speedup is not None:
        ratios = [p.predicted_prefill_ratio if p.measured_ratio is None else p.measured_ratio for p in points]
        fast = [point for point, ratio in zip(points, ratios, strict=True) if ratio >= config.speedup - 1e-9]
        if not fast:  # as fast when the size was settled, a little slower now
            log.warning("warning: %d blocks dropped were measured at %.2f times the speed, not %.2f",
                        len(points), ratios[-1], config.speedup)  # fmt: skip
        return fast[0] if fast else points[-1]
    allowed = (config.parameters or 0.0) * frontier.parameters
    return next(point for point in points if point.parameters <= allowed)


def plan_of(point: Point, frontier: Frontier) -> Plan:
    """The plan that drops what the point drops."""
    return Plan(
        depth=frontier.depth,
        keep=tuple(i for i in range(frontier.depth) if i not in point.drop),
        criterion=frontier.criterion,
        chooser=frontier.chooser,
        cost=point.cost,
        unit=frontier.unit,
    )
