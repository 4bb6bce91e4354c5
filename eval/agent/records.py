"""What each tier answered on each step and trial, recorded once; policies are compared on it afterwards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from eval.agent.choices import ChoiceStep


@dataclass(frozen=True)
class Answer:
    """One answer of a tier to a step."""

    error: str
    """"" where it is right, else the class (checker.ERRORS)."""
    executes: bool
    """Whether it would change the table: a wrong one that does is not noticed by itself."""
    reversible: bool
    luck: float
    """Uniform in 0..1: a checker of detection d notices a wrong answer if luck < d."""
    tokens_written: int

    def passes(self, detection: float) -> bool:
        """Whether it is accepted, right or wrong."""
        return not self.error or (self.executes and self.luck >= detection)


@dataclass(frozen=True)
class StepRecord:
    """All answers of one tier to one step, a trial each."""

    answers: tuple[Answer, ...]
    margin: float
    """Probability of the best candidate beyond the second."""
    tokens_read: int


@dataclass(frozen=True)
class TaskRecord:
    """All answers of every tier to one task."""

    id: str
    reversible: tuple[bool, ...]
    """Of the right call of each step."""
    steps: Mapping[str, tuple[StepRecord, ...]]
    """Tier -> a record a step."""


def probabilities(nats: Sequence[float], temperature: float) -> list[float]:
    """Chance of each candidate: softmax of its log-likelihood over the temperature."""
    top = max(nats)
    weights = [math.exp((n - top) / temperature) for n in nats]
    return [weight / math.fsum(weights) for weight in weights]


def step_record(
    row: Mapping[str, Any], *, tier: str, trials: int, temperature: float, seed: int
) -> StepRecord:
    """Trials drawn from recorded log-likelihoods of the candidates: a function of (seed, tier, row) alone."""
    chances = probabilities(row["log_likelihoods"], temperature)
    random = Random(f"{seed}/{tier}/{row['task']}/{row['step']}")
    first, second = sorted(chances, reverse=True)[:2]
    answers = []
    for _ in range(trials):
        (number,) = random.choices(range(len(chances)), chances)
        answers.append(
            Answer(
                error=row["errors"][number],
                executes=row["executes"][number],
                reversible=row["reversible"][number],
                luck=random.random(),
                tokens_written=row["tokens_written"][number],
            )
        )
    return StepRecord(tuple(answers), first - second, row["tokens_read"])


def step_row(step: ChoiceStep, log_likelihoods: Sequence[float], tokens: Sequence[int]) -> dict[str, Any]:
    """What is recorded of one step as JSON; `tokens`: of the prompt, then of each candidate."""
    return {
        "task": step.task.id,
        "step": step.step,
        "gold": step.gold,
        "errors": [choice.error for choice in step.choices],
        "executes": [choice.executes for choice in step.choices],
        "reversible": [choice.reversible for choice in step.choices],
        "log_likelihoods": list(log_likelihoods),
        "tokens_read": tokens[0],
        "tokens_written": list(tokens[1:]),
    }


def task_records(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], *, trials: int, temperature: float, seed: int
) -> list[TaskRecord]:
    """Recorded rows, {tier: rows in the order of tasks and steps} -> a record a task."""
    first = next(iter(rows.values()))
    tasks = []
    for task in dict.fromkeys(row["task"] for row in first):
        mine = {tier: [row for row in of_tier if row["task"] == task] for tier, of_tier in rows.items()}
        steps = {
            tier: tuple(
                step_record(row, tier=tier, trials=trials, temperature=temperature, seed=seed)
                for row in of_tier
            )
            for tier, of_tier in mine.items()
        }
        reversible = tuple(row["reversible"][row["gold"]] for row in next(iter(mine.values())))
        tasks.append(TaskRecord(task, reversible, steps))
    return tasks
