"""Is a repair worth it? Fit, choose and judge on calibration items of different templates."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastpath.blocks import recording, replaying
from fastpath.bootstrap import bootstrap_ratio, interval_of
from fastpath.config import PruneConfig
from fastpath.data import Batch, item_batches
from fastpath.items.catalog import generate
from fastpath.items.item import Item
from fastpath.nll import answer_nll
from fastpath.plan import Plan, Repair
from prune.calibration import calibration_items, dial_items, held_out_items, template_groups
from prune.repair import REPAIRS, Case, Mended, changed, put

ITEMS = 6
"""Items for a repair, in items_per_task: about half to fit on, a quarter each to choose and to judge by."""

Suites = dict[str, list[Item]]
"""simple and complex."""


@dataclass(frozen=True)
class Parts:
    """Items of a repair, no template in two of them."""

    fit: Suites
    choose: Suites
    judge: Suites

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all items."""
        parts = (self.fit, self.choose, self.judge)
        return tuple(item.id for part in parts for items in part.values() for item in items)


def repair_items(config: PruneConfig, *, seed: int) -> Parts:
    """Calibration items of which no score, search or frontier has seen any, split by template.

    They carry the reference answers: the base's own (prune.self_answers) are for scores and searches alone.
    """
    suites = *calibration_items(config, seed=seed), *held_out_items(config, seed=seed)
    seen = {item.id for items in (*suites, dial_items(config, seed=seed)) for item in items}
    parts: tuple[Suites, ...] = (defaultdict(list), defaultdict(list), defaultdict(list))
    for suite, tasks in (("simple", config.simple_tasks), ("complex", config.complex_tasks)):
        for task in tasks:
            num_items = (1 + ITEMS) * config.items_per_task
            made = generate(task, split="calibration", seed=seed, num_items=num_items)
            fresh = [item for item in made if item.id not in seen]
            groups = template_groups(task)
            for item in fresh:
                parts[(0, 1, 0, 2)[groups[item.template]]][suite].append(item)
    return Parts(*(dict(part) for part in parts))


def suite_nats(
    model: Any, items: Sequence[Item], tokenizer: Any, *, batch_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nats and answer tokens of each item, float64."""
    nats, tokens = np.empty(len(items)), np.empty(len(items))
    for batch in item_batches(items, tokenizer, batch_tokens=batch_tokens):
        found = answer_nll(model, batch.to(model.device))
        nats[list(batch.index)], tokens[list(batch.index)] = found.nats.numpy(), found.tokens.numpy()
    return nats, tokens


def mean_nats(
    model: Any, block: int, changes: Sequence[Mapping[str, Any]], *, suites: Mapping[str, Sequence[Batch]]
) -> list[float]:
    """Simple nats + complex nats, each per answer token of its suite, with each change of weights.

    The changes are to blocks from `block` on, so only those are computed again for each.
    """
    total = np.zeros(len(changes))
    for batches in suites.values():
        nats, tokens = np.zeros(len(changes)), 0
        for batch in (batch.to(model.device) for batch in batches):
            with recording(model) as streams:
                answer_nll(model, batch)
            for i, weights in enumerate(changes):
                with changed(model, weights), replaying(model, streams, start=block):
                    nats[i] += answer_nll(model, batch).nats.sum().item()
            tokens += int(batch.answer.sum())
        total += nats / tokens
    return total.tolist()


def mend(
    method: str, base: Any, cut: Any, plan: Plan, tokenizer: Any, *, parts: Parts, batch_tokens: int
) -> Mended:
    """What a repair would change in the cut model, fitted and chosen on the first two parts."""
    fit = [item for items in parts.fit.values() for item in items]
    batches = item_batches(fit, tokenizer, batch_tokens=batch_tokens)
    choose = {name: item_batches(i, tokenizer, batch_tokens=batch_tokens) for name, i in parts.choose.items()}
    losses = partial(mean_nats, suites=choose)
    return REPAIRS[method](Case(base=base, cut=cut, plan=plan, batches=batches, losses=losses))


def judged(
    method: str, mended: Mended, cut: Any, suites: Suites, tokenizer: Any, *, seed: int, batch_tokens: int
) -> Repair:
    """Whether the mended weights lower the simple nats and do not raise the complex nats, on other items.

    Not raised: the 95 % bootstrap interval of the rise, over templates, reaches down to 0.
    """
    facts: dict[str, Any] = {}
    for suite, items in suites.items():
        before, tokens = suite_nats(cut, items, tokenizer, batch_tokens=batch_tokens)
        with changed(cut, mended.weights):
            after, _ = suite_nats(cut, items, tokenizer, batch_tokens=batch_tokens)
        clusters = [f"{item.task}/{item.template}" for item in items]
        rise, draws = bootstrap_ratio((after - before)[:, None], tokens, clusters=clusters, seed=seed)
        (low,), (high,) = interval_of(draws, freedom=len(set(clusters)) - len({item.task for item in items}))
        facts |= {
            f"{suite}_items": len(items),
            f"{suite}_before_nats": float(before.sum() / tokens.sum()),
            f"{suite}_after_nats": float(after.sum() / tokens.sum()),
            f"{suite}_rise": (float(rise[0]), float(low), float(high)),
        }
    helps = facts["simple_rise"][0] < 0 and facts["complex_rise"][1] <= 0
    return Repair(method=method, applied=helps, notes=mended.notes, **facts)


def repair(
    base: Any, cut: Any, stored: Any, plan: Plan, tokenizer: Any, config: PruneConfig, *, seed: int
) -> Repair:
    """Mend `cut` (as computed with) and `stored` (as saved) alike, if that helps; what came of it.

    Judged with the weights rounded as they are stored.
    """
    parts = repair_items(config, seed=seed)
    mended = mend(config.repair, base, cut, plan, tokenizer, parts=parts, batch_tokens=config.batch_tokens)
    kept = stored.state_dict()
    rounded = {key: value.to(kept[key].dtype) for key, value in mended.weights.items()}
    mended = Mended(rounded, mended.notes)
    found = judged(
        config.repair, mended, cut, parts.judge, tokenizer, seed=seed, batch_tokens=config.batch_tokens
    )
    if found.applied:
        for model in (cut, stored):
            put(model, mended.weights)
    return found
