"""Planted agents, laid side by side."""

from eval.agent.compare import compare_policies
from eval.agent.policies import Tier
from eval.agent.records import task_records
from fastpath.config_costs import AgentConfig, CostsConfig


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
