"""Suites as probabilities of being right, pairs of models of a known gap, and draws of outcomes from them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpath.errors import RunError
from fastpath.stats import power_of

Floats = NDArray[np.float64]
SHARED = {"apart": 0.0, "alike": 0.8, "uneven": 0.8}
"""How often both models answer an item with the same luck."""
UNEVEN = 0.8
"""Templates of uneven models move by up to this much of p (1 - p)."""


@dataclass(frozen=True)
class Template:
    """Probabilities of being right, an item each, of the base and of the fast model."""

    base: Floats
    fast: Floats


@dataclass(frozen=True)
class Task:
    """One task; whether each of its items is a problem of its own, or one of several steps."""

    chance: float
    templates: list[Template]
    own_sources: bool = True

    def mean(self, values: Callable[[Template], Floats]) -> float:
        """Mean over its items."""
        return float(np.concatenate([values(template) for template in self.templates]).mean())


Suite = dict[str, Task]


def made_up(seed: int = 0, *, num_tasks: int = 5, num_templates: int = 42, num_items: int = 300) -> Suite:
    """Accuracies of 0.6 to 0.85; templates differ by 1 logit, items of one as Beta with a + b = 3."""
    random = np.random.default_rng(seed)
    sizes = [len(part) for part in np.array_split(np.arange(num_items), num_templates)]
    suite = {}
    for number, accuracy in enumerate(np.linspace(0.6, 0.85, num_tasks)):
        logits = np.log(accuracy / (1 - accuracy)) + random.normal(0, 1, num_templates)
        means = 1 / (1 + np.exp(-logits))
        items = [random.beta(3 * mean, 3 * (1 - mean), size) for mean, size in zip(means, sizes, strict=True)]
        suite[f"task {number + 1}"] = Task(0.25, [Template(p, p) for p in items])
    return suite


def suites_of(run: Path) -> dict[str, Suite]:
    """The suites of a finished run, with the base's probabilities. Raises RunError if there is none."""
    folder = run / "eval"
    try:
        variant, *_ = json.loads((folder / "results.json").read_text())["variants"].values()
        return {
            suite: {
                task: _task(json.loads((folder / f"outcomes/base/{task}.json").read_text()))
                for task, facts in variant[suite]["tasks"].items()
                if facts["kind"] == "likelihood"
            }
            for suite in ("simple", "complex")
            if suite in variant
        }
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run}: no finished eval to take probabilities from ({error!r:.100})") from None


def _task(outcomes: Mapping[str, Any]) -> Task:
    rows = outcomes["rows"]
    accuracy = float(np.mean([row["right"] for row in rows]))
    templates: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        templates.setdefault(row["template"], []).append(row)
    made = []
    for members in templates.values():
        # One more item of the task's accuracy: a template of two items would be always or never right.
        expected = (sum(row["right"] for row in members) + accuracy) / (len(members) + 1)
        share = (row.get("share") for row in members)
        p = np.array([expected if s is None else s for s in share], dtype=float)
        made.append(Template(p, p))
    return Task(outcomes["chance"], made, len({row["source"] for row in rows}) == len(rows))


def planted(suite: Suite, gap: float, kind: str) -> Suite:
    """The suite with a fast model whose mean over tasks is worse by exactly `gap`, in every draw's mean.

    Every task loses the same part of its accuracy; of uneven models first every second template gains.
    """
    kept = 1 - gap / float(np.mean([task.mean(lambda t: t.base) for task in suite.values()]))
    moved = {name: _moved(task) if kind == "uneven" else task for name, task in suite.items()}
    return {
        name: replace(task, templates=[Template(t.base, t.fast * kept) for t in task.templates])
        for name, task in moved.items()
    }


def _moved(task: Task) -> Task:
    """Every second template better, the others worse, the task's mean as it was."""
    signs = np.resize([1.0, -1.0], len(task.templates))
    weights = np.array([(t.base * (1 - t.base)).sum() for t in task.templates])
    centre = float(signs @ weights / max(weights.sum(), 1e-12))
    moves = UNEVEN * (signs - centre) / (1 + abs(centre))  # within -1..1: probabilities stay probabilities
    pairs = zip(task.templates, moves, strict=True)
    return replace(task, templates=[Template(t.base, t.base + by * t.base * (1 - t.base)) for t, by in pairs])


def draw(task: Task, random: np.random.Generator, *, shared: float, new: bool) -> tuple[Any, Any]:
    """Outcomes of base and fast, as eval/harness.py gives them; a template drawn twice counts as two."""
    number = len(task.templates)
    rows: tuple[list[Any], list[Any]] = ([], [])
    for cluster, index in enumerate(random.integers(number, size=number) if new else range(number)):
        template = task.templates[index]
        items = random.integers(len(template.base), size=len(template.base))
        luck, other = random.random((2, len(items)))
        luck_of_fast = np.where(random.random(len(items)) < shared, luck, other)
        for side, right in zip(
            rows, (luck < template.base[items], luck_of_fast < template.fast[items]), strict=True
        ):
            for outcome in right.tolist():
                item = str(len(side))
                source = item if task.own_sources else str(cluster)
                side.append({"id": item, "template": str(cluster), "source": source, "right": float(outcome)})
    facts = {"metric": "acc", "kind": "likelihood", "chance": task.chance}
    base, fast = ({**facts, "rows": side} for side in rows)
    return base, fast


def stated_power(suite: Suite, kind: str) -> tuple[float, float]:
    """(Probability that the 95 % interval of new templates is above 0, share of items that differ)."""
    discordance = gap = variance = 0.0
    for task in suite.values():
        d = task.mean(lambda t: _discordance(t, SHARED[kind])) / len(suite)
        discordance, gap = discordance + d, gap + task.mean(lambda t: t.base - t.fast) / len(suite)
        variance += _variance(task, SHARED[kind]) / len(suite) ** 2
    worth = round((discordance - gap**2) / variance)
    return power_of(worth, discordance, 0, true_gap=gap, alpha=0.025), discordance


def _discordance(template: Template, shared: float) -> Floats:
    b, f = template.base, template.fast
    return shared * abs(b - f) + (1 - shared) * (b * (1 - f) + f * (1 - b))


def _variance(task: Task, shared: float) -> float:
    """Of the task's gap over new templates and new items: that within templates, and that between them."""
    of_task, total = task.mean(lambda t: t.base - t.fast), 0.0
    for template in task.templates:
        size, gap = len(template.base), float((template.base - template.fast).mean())
        total += (
            size * (float(_discordance(template, shared).mean()) - gap**2) + (size * (gap - of_task)) ** 2
        )
    return total / sum(len(template.base) for template in task.templates) ** 2
