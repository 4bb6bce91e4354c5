"""What each tier answered on each step and trial, recorded once; policies are compared on it afterwards."""

import math
from collections.abc import Collection, Mapping, Sequence
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
    mean_logprob: float | None = None
    """Nats a token of the answer at temperature 1: how sure the tier is of it; None where nobody told."""

    def passes(self, detection: float) -> bool:
        """Whether it is accepted, right or wrong."""
        return not self.error or (self.executes and self.luck >= detection)


@dataclass(frozen=True)
class StepRecord:
    """All answers of one tier to one step, a trial each."""

    answers: tuple[Answer, ...]
    tokens_read: int


@dataclass(frozen=True)
class TaskRecord:
    """All answers of every tier to one task."""

    id: str
    reversible: tuple[bool, ...]
    """Of the right call of each step."""
    steps: Mapping[str, tuple[StepRecord, ...]]
    """Tier -> a record a step."""

    @property
    def trials(self) -> int:
        """How often each step was answered."""
        return len(next(iter(self.steps.values()))[0].answers)


def probabilities(nats: Sequence[float], temperature: float) -> list[float]:
    """Chance of each candidate: softmax of its log-likelihood over the temperature."""
    top = max(nats)
    weights = [math.exp((n - top) / temperature) for n in nats]
    return [weight / math.fsum(weights) for weight in weights]


def step_record(
    row: Mapping[str, Any], *, tier: str, trials: int, temperature: float, seed: int
) -> StepRecord:
    """The answers of a recorded row: written ones as they are, else trials drawn among the candidates.

    A draw is a function of (seed, tier, row) alone, and so is the luck of every answer.
    """
    random = Random(f"{seed}/{tier}/{row['task']}/{row['step']}")
    if "answers" in row:
        answers = tuple(_answer(facts, random) for facts in row["answers"])
        return StepRecord(answers, row["tokens_read"])
    chances = probabilities(row["log_likelihoods"], temperature)
    keys = {"errors": "error", "executes": "executes", "reversible": "reversible"}
    drawn = []
    for _ in range(trials):
        (number,) = random.choices(range(len(chances)), chances)
        facts = {key: row[column][number] for column, key in keys.items()}
        size = row["tokens_written"][number]
        facts |= {"tokens_written": size, "mean_logprob": row["log_likelihoods"][number] / size}
        drawn.append(_answer(facts, random))
    return StepRecord(tuple(drawn), row["tokens_read"])


def _answer(facts: Mapping[str, Any], random: Random) -> Answer:
    return Answer(
        error=facts["error"],
        executes=facts["executes"],
        reversible=facts["reversible"],
        luck=random.random(),
        tokens_written=facts["tokens_written"],
        mean_logprob=facts["mean_logprob"],
    )


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
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    trials: int,
    temperature: float,
    seed: int,
    least: int = 1,
) -> list[TaskRecord]:
    """Recorded rows, {tier: rows in the order of tasks and steps} -> a record a task.

    A trial in which some tier's answer did not come is left out for all, so that all have the same trials; a
    task with fewer than `least` of them is left out: a retry would see an answer twice.
    """
    by_task: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for tier, of_tier in rows.items():
        for row in of_tier:
            by_task.setdefault(row["task"], {}).setdefault(tier, []).append(row)
    tasks = []
    for task, tiers in by_task.items():
        lost = {trial for mine in tiers.values() for row in mine for trial in lost_trials(row)}
        kept = {tier: [_without(row, lost) for row in mine] for tier, mine in tiers.items()}
        steps = {
            tier: tuple(
                step_record(row, tier=tier, trials=trials, temperature=temperature, seed=seed) for row in mine
            )
            for tier, mine in kept.items()
        }
        if len(next(iter(steps.values()))[0].answers) >= least:
            reversible = tuple(_gold_reversible(row) for row in next(iter(tiers.values())))
            tasks.append(TaskRecord(task, reversible, steps))
    return tasks


def lost_trials(row: Mapping[str, Any]) -> list[int]:
    """Trials of a step in which no answer came: the server's fault, not the model's."""
    return [n for n, answer in enumerate(row.get("answers", ())) if "infrastructure" in answer]


def _without(row: Mapping[str, Any], lost: Collection[int]) -> Mapping[str, Any]:
    if not lost:
        return row
    return {**row, "answers": [answer for n, answer in enumerate(row["answers"]) if n not in lost]}


def _gold_reversible(row: Mapping[str, Any]) -> bool:
    return row["gold_reversible"] if "answers" in row else row["reversible"][row["gold"]]
