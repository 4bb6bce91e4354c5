"""The agent task of an evaluation: every tier answers once, then all policies are compared on that."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

from eval.agent.bfcl import read_bfcl
from eval.agent.choices import choice_steps
from eval.agent.compare import compare_policies
from eval.agent.outside import outside_facts
from eval.agent.policies import Tier
from eval.agent.records import lost_trials, step_row, task_records
from eval.agent.tasks import DOMAINS, AgentTask, generate_tasks
from eval.agent.written import Rows, ask_endpoint, write_calls
from eval.panel import Panel
from eval.zoo import BASE, Zoo
from fastpath.config import EvalConfig, Recipe
from fastpath.config_costs import AgentConfig, CostsConfig
from fastpath.errors import ConfigError, RunError
from fastpath.progress import progress
from fastpath.runs import step
from fastpath.team import Team


def run_agent(zoo: Zoo, recipe: Recipe, config: EvalConfig, speed: Mapping[str, Any], *, out: Path) -> Any:
    """Facts of the agent task, as compare_policies gives them; None where the recipe does not ask for it.

    Answers are kept in OUT/agent/ by tier, split and domain: a killed run goes on there.
    """
    if (agent := config.agent) is None:
        return None
    costs = recipe.costs or CostsConfig()
    panel = cache(lambda: Panel(zoo, config, team=Team()))  # helpers have gone home
    rows = record(zoo, agent, panel, seed=recipe.seed, out=out)
    tiers = {label: tier_of(label, speed, costs) for label in zoo.sources}
    drawn = partial(
        task_records,
        trials=agent.trials,
        temperature=agent.temperature,
        seed=recipe.seed,
        least=agent.attempts,
    )
    evaluation, calibration = drawn(rows["evaluation"]), drawn(rows["calibration"])
    asked = [row for split in rows.values() for of_tier in split.values() for row in of_tier]
    lost = sum(len(lost_trials(row)) for row in asked)
    if len(evaluation) < 2:
        raise RunError(f"{out}/agent: {lost} answers did not come; delete it and try again")
    facts = compare_policies(evaluation, calibration, tiers, agent, costs, seed=recipe.seed)
    outside = outside_facts(
        agent,
        list(zoo.sources),
        lambda labels: panel().lms("multiple_choice", labels, lambda _: None),
        seed=recipe.seed,
        out=out,
    )
    return facts | {
        "form": agent.form,
        "chance": chance(rows["evaluation"][BASE]),
        "infrastructure_errors": lost,
        "outside": outside,
    }


def chance(rows: Rows) -> float | None:
    """How often a blind draw among the candidates is right; None of written calls."""
    sizes = [len(row["errors"]) for row in rows if "errors" in row]
    return sum(1 / size for size in sizes) / len(sizes) if sizes else None


def check_agent(config: EvalConfig, costs: CostsConfig | None) -> None:
    """Raise ConfigError for a price of a tier that is not there, data of another format, too many tiers."""
    labels = (BASE, *config.variants)
    for label in costs.dollars_per_million_tokens if costs else ():
        if label not in labels:
            raise ConfigError(
                f"costs.dollars_per_million_tokens: no tier {label!r}; there are {', '.join(labels)}"
            )
    files = config.agent.bfcl if config.agent else ()
    for path in files:
        read_bfcl(path, limit=1)
    if len({Path(path).stem for path in files}) < len(files):
        raise ConfigError("eval.agent.bfcl: two files of one name; results go by the name")
    if config.agent and config.agent.endpoint and len(config.variants) > 1:
        raise ConfigError("eval.agent.endpoint: has one fast tier; name one variant")


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


def record(
    zoo: Zoo, agent: AgentConfig, panel: Callable[[], Panel], *, seed: int, out: Path
) -> dict[str, dict[str, Rows]]:
    """{split: {tier: a row a step}}: what every tier answered."""
    sizes = {"evaluation": agent.tasks, "calibration": agent.calibration_tasks}
    parts = {
        (split, domain): [task for task in tasks if task.domain_name == domain]
        for split, size in sizes.items()
        for tasks in [generate_tasks(split=split, seed=seed, num_tasks=size)]
        for domain in DOMAINS
    }
    rows: dict[str, dict[str, Rows]] = {split: {label: [] for label in zoo.sources} for split in sizes}
    output = "multiple_choice" if agent.form == "choice" else "generate_until"
    total = len(zoo.sources) * sum(num_requests(tasks, agent) for tasks in parts.values())
    with progress(f"agent: {sum(sizes.values())} tasks, {', '.join(zoo.sources)}", total) as advance:
        for (split, domain), tasks in parts.items():
            paths = {label: f"agent/{label}/{split}-{domain}.json" for label in zoo.sources}
            missing = [label for label in paths if not (out / paths[label]).exists()]
            advance(num_requests(tasks, agent) * (len(paths) - len(missing)), kept=True)
            here = bool(missing and tasks and not agent.endpoint)
            lms = panel().lms(output, missing, advance) if here else {}
            for label, path in paths.items():
                make = partial(answers, lms.get(label), label, tasks, zoo, agent, seed, advance)
                rows[split][label] += step(out, path, make)
    return rows


def num_requests(tasks: Sequence[AgentTask], agent: AgentConfig) -> int:
    """Likelihoods and written calls that one tier is asked for."""
    if agent.form == "choice":
        return sum(len(step.choices) for task in tasks for step in choice_steps(task, agent.examples))
    passes = 1 if agent.endpoint else 2  # it is written, then its likelihood is read
    return passes * agent.trials * sum(task.k for task in tasks)


def answers(
    lm: Any,
    label: str,
    tasks: Sequence[AgentTask],
    zoo: Zoo,
    agent: AgentConfig,
    seed: int,
    advance: Callable[[float], None],
) -> Rows:
    """A row a step, of one tier."""
    if not tasks:
        return []
    if agent.endpoint:
        return ask_endpoint(label, tasks, agent, seed=seed, advance=advance)
    tokenizer = zoo.get(BASE)[1]
    if agent.form == "tools":
        return write_calls(lm, tokenizer, tasks, agent, seed=seed)
    return score(lm, tokenizer, tasks, examples=agent.examples)


def score(lm: Any, tokenizer: Any, tasks: Sequence[AgentTask], *, examples: int) -> Rows:
    """A row a step: log-likelihoods of its candidates by one lm-eval model, and the tokens of all."""
    steps = [made for task in tasks for made in choice_steps(task, examples)]
    pairs = [(made.prompt, f" {choice.text}") for made in steps for choice in made.choices]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    nats = iter(lm.loglikelihood(requests))

    def size(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    return [
        step_row(
            made,
            [next(nats)[0] for _ in made.choices],
            [size(made.prompt), *(size(f" {choice.text}") for choice in made.choices)],
        )
        for made in steps
    ]
