"""Planted agents: rows as a run records them, with error rates that are known."""

from functools import cache

import numpy as np

from eval.agent.choices import choice_steps
from eval.agent.compare import compare_policies
from eval.agent.policies import Tier
from eval.agent.records import step_row, task_records
from eval.agent.tasks import generate_tasks
from fastpath.config_costs import AgentConfig, CostsConfig


@cache
def steps(num_tasks, split="evaluation", seed=1):
    made = generate_tasks(split=split, seed=seed, num_tasks=num_tasks)
    return [step for task in made for step in choice_steps(task)]


def planted_rows(random, rates, made, *, nats=(0.0, 0.0)):
    """Log-likelihoods of an agent that errs at each step with these chances, whatever the step offers.

    `nats`: of a right call and of a wrong one: how sure it is. Calls have 20 tokens.
    """
    rows = []
    for step in made:
        classes = [choice.error for choice in step.choices]
        chances = [rates.get(error, 0.0) for error in classes]
        chances[classes.index("")] = 1 - sum(rates[e] for e in rates if e in classes)
        drawn = random.choice(len(classes), p=chances)
        sure = nats[bool(classes[drawn])]
        of_all = [sure if number == drawn else -1e3 for number in range(len(classes))]
        rows.append(step_row(step, of_all, [100, *[20] * len(classes)]))
    return rows


def compared(rows, *, costs=None, **config):
    """compare_policies on rows of evaluation and calibration."""
    evaluation, calibration = (
        task_records(part, trials=config.get("trials", 3), temperature=1.0, seed=0) for part in rows
    )
    costs = costs or CostsConfig()
    prices = costs.dollars_per_million_tokens
    tiers = {
        label: Tier(
            0.001, 0.01, *((prices[label] / 1e6,) * 2 if label in prices else (1e-6, 1e-5)), records=label
        )
        for label in rows[0]
    }
    facts = compare_policies(
        evaluation, calibration, tiers, AgentConfig(**{"trials": 3} | config), costs, seed=0
    )
    return facts | {"form": "choice", "infrastructure_errors": 0, "outside": {}}


def planted_run(tiers, *, num_tasks, seed=1, **settings):
    """Rows of evaluation and calibration tasks, every tier with its error rates."""
    random = np.random.default_rng(seed)
    return [
        {
            label: planted_rows(random, rates, steps(num_tasks, split, seed), **settings)
            for label, rates in tiers.items()
        }
        for split in ("evaluation", "calibration")
    ]
