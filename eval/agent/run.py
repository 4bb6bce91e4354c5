"""The agent task of an evaluation: every tier answers once, then all policies are compared on that."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

from eval.agent.choices import ChoiceStep, choice_steps
from eval.agent.compare import compare_policies
from eval.agent.policies import Tier
from eval.agent.records import step_row, task_records
from eval.agent.tasks import DOMAINS, generate_tasks
from eval.panel import Panel
from eval.zoo import BASE, Zoo
from fastpath.config import EvalConfig, Recipe
from fastpath.config_costs import CostsConfig
from fastpath.errors import ConfigError
from fastpath.progress import progress
from fastpath.runs import step
from fastpath.team import Team

Rows = list[dict[str, Any]]


def run_agent(zoo: Zoo, recipe: Recipe, config: EvalConfig, speed: Mapping[str, Any], *, out: Path) -> Any:
    """Facts of the agent task, as compare_policies gives them; None where the recipe does not ask for it.

    Answers are kept in OUT/agent/ by tier, split and domain: a killed run goes on there.
    """
    if config.agent is None:
        return None
    costs = recipe.costs or CostsConfig()
    rows = record(zoo, config, seed=recipe.seed, out=out)
    tiers = {label: tier_of(label, speed, costs) for label in zoo.sources}
    evaluation, calibration = (
        task_records(
            rows[split],
            trials=config.agent.trials,
            temperature=config.agent.temperature,
            seed=recipe.seed,
        )
        for split in ("evaluation", "calibration")
    )
    return compare_policies(evaluation, calibration, tiers, config.agent, costs, seed=recipe.seed)


def check_prices(config: EvalConfig, costs: CostsConfig | None) -> None:
    """Raise ConfigError if a price is given for a tier that is not evaluated."""
    labels = (BASE, *config.variants)
    for label in costs.dollars_per_million_tokens if costs else ():
        if label not in labels:
            raise ConfigError(
                f"costs.dollars_per_million_tokens: no tier {label!r}; there are {', '.join(labels)}"
            )


def tier_of(label: str, speed: Mapping[str, Any], costs: CostsConfig) -> Tier:
    """Seconds as measured at the first shape of eval.speed; dollars as priced, else of the machine's time."""
    rates = speed["points"][0]["models"][label]
    read, written = (1 / rates[f"{phase}_tokens_per_second"]["median"] for phase in ("prefill", "decode"))
    price = costs.dollars_per_million_tokens.get(label)
    a_second = costs.dollars_per_machine_hour / 3600
    return Tier(
        seconds_per_token_read=read,
        seconds_per_token_written=written,
        dollars_per_token_read=read * a_second if price is None else price / 1e6,
        dollars_per_token_written=written * a_second if price is None else price / 1e6,
        queue_seconds=costs.queue_seconds,
        records=label,
    )


def record(zoo: Zoo, config: EvalConfig, *, seed: int, out: Path) -> dict[str, dict[str, Rows]]:
    """{split: {tier: a row a step}}: the log-likelihood of every candidate of every step."""
    assert config.agent is not None
    sizes = {"evaluation": config.agent.tasks, "calibration": config.agent.calibration_tasks}
    parts = {
        (split, domain): [s for task in tasks if task.domain_name == domain for s in choice_steps(task)]
        for split, size in sizes.items()
        for tasks in [generate_tasks(split=split, seed=seed, num_tasks=size)]
        for domain in DOMAINS
    }
    rows: dict[str, dict[str, Rows]] = {split: {label: [] for label in zoo.sources} for split in sizes}
    panel: Panel | None = None
    total = len(zoo.sources) * sum(len(s.choices) for steps in parts.values() for s in steps)
    with progress(f"agent: {sum(sizes.values())} tasks, {', '.join(zoo.sources)}", total) as advance:
        for (split, domain), steps in parts.items():
            paths = {label: f"agent/{label}/{split}-{domain}.json" for label in zoo.sources}
            missing = [label for label in paths if not (out / paths[label]).exists()]
            advance(sum(len(s.choices) for s in steps) * (len(paths) - len(missing)))
            if missing and steps:
                panel = panel or Panel(zoo, config, team=Team())  # helpers have gone home
            lms = panel.lms("multiple_choice", missing, advance) if panel and steps else {}
            for label, path in paths.items():
                make = partial(score, lms.get(label), steps, zoo)
                rows[split][label] += step(out, path, make)
    return rows


def score(lm: Any, steps: Sequence[ChoiceStep], zoo: Zoo) -> Rows:
    """A row a step: log-likelihoods of its candidates by one lm-eval model, and the tokens of all."""
    if not steps:
        return []
    pairs = [(s.prompt, f" {choice.text}") for s in steps for choice in s.choices]
    answers = iter(
        lm.loglikelihood([Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)])
    )
    count = counter(zoo.get(BASE)[1])
    return [
        step_row(
            s,
            [next(answers)[0] for _ in s.choices],
            [count(s.prompt), *(count(f" {choice.text}") for choice in s.choices)],
        )
        for s in steps
    ]


def counter(tokenizer: Any) -> Callable[[str], int]:
    """Number of tokens of a text."""
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)
