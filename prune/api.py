"""The stage as functions, on a model in memory: score, plan (or search_plan), cut. Nothing is left on disk.

model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
scores = score(model, AutoTokenizer.from_pretrained(name))
smaller = cut(model, plan(scores, drop=3))
"""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from transformers import PreTrainedModel

from fastpath.blocks import check_surgery, find_blocks, keep_blocks
from fastpath.config import PruneConfig
from fastpath.errors import ConfigError
from fastpath.plan import Plan, Scores
from fastpath.team import Team
from prune.calibration import calibration_items
from prune.choose import CHOOSERS, from_scores, how_many
from prune.frontier import search
from prune.scoring import score_blocks
from prune.search import Found

Criterion = Literal["cosine", "norm_ratio", "angular", "linear", "taylor", "kl", "ablation", "depth"]


def score(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    criterion: Criterion = "ablation",
    items_per_task: int = 16,
    seed: int = 0,
) -> Scores:
    """What each block of `model` (in eval mode) contributes on simple, complex and depth-dial items.

    `scores.simple.cost[i]` is what dropping block i alone costs, in `scores.unit` (of `ablation`: nats per
    answer token; Shortened LLaMA, arXiv 2402.02834), with 95 % bootstrap intervals over templates in `.low`
    and `.high`; `scores.complex` likewise, `scores.reasoning` is their difference. Each has depth entries.
    The items are made from `seed`. Raises SurgeryError for a model whose blocks are not found.
    """
    config = PruneConfig(drop=1, criterion=criterion, items_per_task=items_per_task)
    with TemporaryDirectory() as folder:
        return score_blocks(model, tokenizer, config, seed=seed, weights="", folder=Path(folder))


def plan(
    scores: Scores,
    *,
    drop: int,
    chooser: Literal["lowest", "span"] = "lowest",
    protect: Collection[int] = (),
) -> Plan:
    """Which `drop` blocks go, by their scores: the cheapest ones, or the cheapest run of neighbours.

    `protect`: blocks (0-based) that stay. `plan.cost` is the sum of what they cost alone, in `plan.unit`.
    Raises ConfigError if the model has no so many blocks to drop.
    """
    if chooser not in CHOOSERS:
        known = ", ".join(CHOOSERS)
        raise ConfigError(f"chooser: {chooser!r} tries plans on the model: search_plan; by scores: {known}")
    config = _config(drop, chooser, protect)
    how_many(config, [1] * scores.depth, others=0)
    return _plan(from_scores(scores, config, drop)[-1], scores.depth, scores.criterion, chooser, scores.unit)


def search_plan(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    drop: int,
    chooser: Literal["greedy", "beam", "evolution", "spans"] = "evolution",
    protect: Collection[int] = (),
    items_per_task: int = 16,
    seed: int = 0,
) -> Plan:
    """Which `drop` blocks go, by trying whole plans on the simple items: minutes, and better beyond a few.

    `plan.cost` is in nats per answer token over the original's. `evolution` is EvoPress (arXiv 2410.14649),
    `greedy` SLEB (arXiv 2402.09025). Raises ConfigError as `plan` does.
    """
    config = _config(drop, chooser, protect, items_per_task=items_per_task)
    depth = len(find_blocks(model)[1])
    how_many(config, [1] * depth, others=0)
    suites = calibration_items(config, seed=seed)
    with TemporaryDirectory() as folder:
        found = search(
            model, tokenizer, config, drop, suites=suites, seed=seed, folder=Path(folder), team=Team()
        )
    return _plan(found[-1], depth, "ablation", chooser, "nats per answer token")


def cut(model: PreTrainedModel, plan: Plan) -> PreTrainedModel:
    """A stock model of the same class with the blocks that the plan keeps, in eval mode; weights are SHARED.

    Rebuilt from a cut config and proved: its logits are those of `model` (in eval mode) with the dropped
    blocks skipped. Works wherever a transformers model does: `HFLM(pretrained=cut(model, plan))` of lm-eval,
    `save_pretrained`. Raises SurgeryError if this model or this cut is refused.
    """
    smaller = keep_blocks(model, plan.keep)
    check_surgery(model, smaller, plan.keep)
    return smaller


def _config(drop: int, chooser: Any, protect: Collection[int], **keys: Any) -> PruneConfig:
    return PruneConfig(drop=drop, chooser=chooser, protect=tuple(sorted(protect)), **keys)


def _plan(found: Found, depth: int, criterion: str, chooser: str, unit: str) -> Plan:
    keep = tuple(i for i in range(depth) if i not in found.drop)
    return Plan(depth=depth, keep=keep, criterion=criterion, chooser=chooser, cost=found.cost, unit=unit)
