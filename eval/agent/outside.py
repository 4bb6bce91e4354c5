"""The outside check inside an evaluation: the tiers on BFCL files that the recipe names."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance

from eval.agent.bfcl import OutsideItem, outside_choices, outside_prompt, read_bfcl
from eval.agent.checker import ERRORS
from eval.agent.scores import RIGHT, rates
from fastpath.config_costs import AgentConfig
from fastpath.runs import step

LMs = Callable[[list[str]], Mapping[str, Any]]
"""The labels that have to answer -> an lm-eval model of each."""


def outside_facts(config: AgentConfig, labels: Sequence[str], lms: LMs, *, seed: int, out: Path) -> Any:
    """{file: {"num_items", "chance", "tiers": {label: {class: rate}}}}; answers are kept in OUT/agent/."""
    names, facts = (RIGHT, *ERRORS), {}
    for path in config.bfcl:
        items = read_bfcl(path, limit=config.bfcl_items)
        name = Path(path).stem
        paths = {label: f"agent/{label}/bfcl-{name}.json" for label in labels}
        missing = [label for label in labels if not (out / paths[label]).exists()]
        models = lms(missing) if missing else {}
        tiers = {}
        for label in labels:
            errors = step(out, paths[label], partial(choose, models.get(label), items))
            columns = np.array([[(error or RIGHT) == n for n in names] for error in errors], dtype=float)
            tiers[label] = dict(zip(names, rates(columns, None, seed=seed), strict=True))
        chance = float(np.mean([1 / len(outside_choices(item)) for item in items]))
        facts[name] = {"num_items": len(items), "chance": chance, "tiers": tiers}
    return facts


def choose(lm: Any, items: Sequence[OutsideItem]) -> list[str]:
    """The class of the likeliest candidate of each item; "" where that is the right one."""
    offered = [outside_choices(item) for item in items]
    pairs = [
        (outside_prompt(item), f" {text}")
        for item, choices in zip(items, offered, strict=True)
        for text, _ in choices
    ]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    nats = iter(lm.loglikelihood(requests))
    errors = []
    for choices in offered:
        mine = [next(nats)[0] for _ in choices]
        errors.append(choices[mine.index(max(mine))][1])
    return errors
