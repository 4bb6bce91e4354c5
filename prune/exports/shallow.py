"""Which few blocks make a draft model: plans of 10 to 25 % of the depth, judged by what they guess right."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastpath.drafting import Continued, acceptance
from fastpath.errors import ExportError
from fastpath.plan import Scores
from fastpath.speculative import Speculation, choose_tokens
from prune.choose import CHOOSERS
from prune.frontier import block_sizes

LEAST, MOST = 0.10, 0.25
"""Of the depth: a draft of half the depth costs half, and hardly pays (fastpath/speculative.py)."""


@dataclass(frozen=True)
class Candidate:
    """A shallow plan and how often it guesses right before any training."""

    chosen_by: str
    keep: tuple[int, ...]
    acceptance: float
    cost_ratio: float
    """Estimated: its share of the weights, which is what a decoding step reads."""
    prediction: Speculation


def shallow_plans(depth: int, scores: Scores | None) -> dict[tuple[int, ...], str]:
    """{kept blocks: by what} of every size: the run's own scores, and two ways that need none. ExportError.

    `early`: the first blocks and the last one (LayerSkip, arXiv 2404.16710, exits early); `even`: equally
    spaced.
    """
    sizes = [
        size
        for size in range(max(2, math.ceil(LEAST * depth)), max(2, int(MOST * depth)) + 1)
        if size < depth
    ]
    if not sizes:
        raise ExportError(f"{depth} blocks are too few for a draft: its cost would be near the model's own")
    plans: dict[tuple[int, ...], str] = {}
    for size in sizes:
        plans.setdefault((*range(size - 1), depth - 1), "early")
        plans.setdefault(tuple(round(i * (depth - 1) / (size - 1)) for i in range(size)), "even")
        for name in CHOOSERS if scores else ():
            assert scores is not None
            dropped = CHOOSERS[name](scores, depth - size, ()).drop
            plans.setdefault(
                tuple(i for i in range(depth) if i not in dropped), f"{scores.criterion}, {name}"
            )
    return plans


def judged(
    model: Any,
    plans: Mapping[tuple[int, ...], str],
    texts: Sequence[Continued],
    verify_costs: Mapping[int, float],
) -> list[Candidate]:
    """The plans on the model's own continuations, the highest predicted speedup first."""
    sizes = block_sizes(model)
    others = sum(p.numel() for p in model.parameters()) - sum(sizes)
    found = []
    for keep, name in plans.items():
        share = (others + sum(sizes[i] for i in keep)) / (others + sum(sizes))
        accepted = acceptance(model, texts, drop=set(range(len(sizes))) - set(keep))
        prediction = choose_tokens(accepted, cost_ratio=share, verify_costs=verify_costs)
        found.append(Candidate(name, keep, accepted, share, prediction))
    return sorted(found, key=lambda of: (-of.prediction.speedup, -of.acceptance, len(of.keep)))
