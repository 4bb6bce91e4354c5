"""Planted agents: rows as a run records them, of tiers whose chances to err are known; no model is asked."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from eval.agent.choices import ChoiceStep, choice_steps
from eval.agent.records import step_row
from eval.agent.tasks import generate_tasks

Rates = Mapping[str, float]
"""Class of error (checker.ERRORS) -> its chance at a step that offers it; the rest is right."""
PROMPT_TOKENS, CALL_TOKENS = 100, 20
SPLITS = ("evaluation", "calibration")


@cache
def steps(num_tasks: int, split: str = "evaluation", seed: int = 1) -> tuple[ChoiceStep, ...]:
    """The steps of that many tasks of a split."""
    made = generate_tasks(split=split, seed=seed, num_tasks=num_tasks)
    return tuple(step for task in made for step in choice_steps(task))


def planted_rows(
    random: np.random.Generator,
    rates: Rates,
    made: Sequence[ChoiceStep],
    *,
    nats: tuple[float, float] = (0.0, 0.0),
) -> list[dict[str, Any]]:
    """Log-likelihoods of an agent that errs at each step with these chances, whatever the step offers.

    `nats`: of a right call and of a wrong one: how sure it is. Calls have CALL_TOKENS tokens.
    """
    rows = []
    for step in made:
        classes = [choice.error for choice in step.choices]
        chances = [rates.get(error, 0.0) for error in classes]
        chances[classes.index("")] = 1 - sum(rates[e] for e in rates if e in classes)
        drawn = random.choice(len(classes), p=chances)
        sure = nats[bool(classes[drawn])]
        of_all = [sure if number == drawn else -1e3 for number in range(len(classes))]
        rows.append(step_row(step, of_all, [PROMPT_TOKENS, *[CALL_TOKENS] * len(classes)]))
    return rows


def planted_run(
    tiers: Mapping[str, Rates], *, num_tasks: int, seed: int = 1, **settings: Any
) -> list[dict[str, list[dict[str, Any]]]]:
    """Rows of evaluation and of calibration tasks, {tier: rows}, every tier with its chances to err."""
    random = np.random.default_rng(seed)
    return [
        {
            label: planted_rows(random, rates, steps(num_tasks, split, seed), **settings)
            for label, rates in tiers.items()
        }
        for split in SPLITS
    ]
