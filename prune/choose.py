"""Which blocks to drop: each chooser is a function in CHOOSERS from scores to the drop set. No torch."""

from collections.abc import Callable, Collection

from fastpath.config import PruneConfig
from fastpath.errors import ConfigError
from fastpath.plan import Plan, Scores


def lowest(scores: Scores, num_drop: int, protect: Collection[int]) -> tuple[tuple[int, ...], float]:
    """The `num_drop` blocks of lowest simple cost, wherever they are, and the sum of their costs."""
    free = sorted(
        (i for i in range(scores.depth) if i not in protect), key=lambda i: (scores.simple.cost[i], i)
    )
    drop = tuple(sorted(free[:num_drop]))
    return drop, sum(scores.simple.cost[i] for i in drop)


def span(scores: Scores, num_drop: int, protect: Collection[int]) -> tuple[tuple[int, ...], float]:
    """The contiguous run of `num_drop` blocks of lowest simple cost: the span's own cost, else the sum."""
    best: tuple[float, int] | None = None
    for start in range(scores.depth - num_drop + 1):
        run = range(start, start + num_drop)
        if set(run) & set(protect):
            continue
        if scores.simple_spans:
            cost = scores.simple_spans[start][num_drop - 1]
        else:
            cost = sum(scores.simple.cost[i] for i in run)
        if best is None or (cost, start) < best:
            best = (cost, start)
    if best is None:
        raise ConfigError(
            f"prune.drop: no run of {num_drop} blocks is free of the protected {sorted(protect)}"
        )
    return tuple(range(best[1], best[1] + num_drop)), best[0]


CHOOSERS: dict[str, Callable[[Scores, int, Collection[int]], tuple[tuple[int, ...], float]]] = {
    "lowest": lowest,
    "span": span,
}


def check_drop(config: PruneConfig, depth: int) -> None:
    """Raise ConfigError if a model of `depth` blocks cannot lose what the recipe asks for."""
    assert config.drop is not None, "a plan is chosen"
    if config.drop >= depth:
        raise ConfigError(f"prune.drop: {config.drop} of {depth} blocks leaves nothing; at most {depth - 1}")
    for block in config.protect:
        if not 0 <= block < depth:
            raise ConfigError(f"prune.protect: no block {block}; blocks are 0..{depth - 1}")
    free = depth - len(set(config.protect))
    if config.drop > free:
        raise ConfigError(f"prune.drop: {config.drop} blocks, but only {free} of {depth} are not protected")


def choose(scores: Scores, config: PruneConfig) -> Plan:
    """The plan of the recipe's chooser: the cheapest on the simple items."""
    assert config.drop is not None, "a plan is chosen"
    drop, cost = CHOOSERS[config.chooser](scores, config.drop, config.protect)
    return Plan(
        depth=scores.depth,
        keep=tuple(i for i in range(scores.depth) if i not in drop),
        criterion=scores.criterion,
        chooser=config.chooser,
        simple_cost=cost,
        unit=scores.unit,
    )
