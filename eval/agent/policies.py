"""Which tier answers which call: policies, run on recorded answers. Nothing is asked of a model here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.agent.records import StepRecord, TaskRecord

STANDARD, PRIORITY = "base", "priority"


@dataclass(frozen=True)
class Tier:
    """What one tier's tokens take and cost."""

    seconds_per_token_read: float
    seconds_per_token_written: float
    dollars_per_token_read: float
    dollars_per_token_written: float
    queue_seconds: float = 0.0
    records: str = STANDARD
    """Whose answers it gives: priority gives those of the standard tier."""


Asked = list[str]
"""Tiers that are asked, in turn; the answer of the last one counts."""
Route = Callable[[Mapping[str, StepRecord], int, int], Asked]
"""(records of one step by tier, trial, attempt) -> who is asked."""


def always(tier: str) -> Route:
    """One tier for every call."""
    return lambda records, trial, attempt: [tier]


def tiered(fast: str, standard: str = STANDARD) -> Route:
    """Fast thinks, standard commits: a call of fast that cannot be undone is asked of standard anew.

    Standard's answer is drawn like every other; the gate of `serve` asks it at temperature 0.
    """
    return lambda records, trial, attempt: (
        [fast] if records[fast].answers[trial].reversible else [fast, standard]
    )


def escalate(fast: str, threshold: float, standard: str = STANDARD) -> Route:
    """Standard wherever the mean token log-probability of fast's answer is below the threshold (nats)."""

    def route(records: Mapping[str, StepRecord], trial: int, attempt: int) -> Asked:
        told = records[fast].answers[trial].mean_logprob
        sure = -math.inf if told is None else told  # no token, no trust
        return [fast] if sure >= threshold else [fast, standard]

    return route


def cascade(fast: str, standard: str = STANDARD) -> Route:
    """Fast first, standard where it failed."""
    return lambda records, trial, attempt: [standard] if attempt else [fast]


@dataclass(frozen=True)
class Run:
    """What one run of a task under a policy took, and how it ended."""

    task: str
    steps: int
    attempts: int
    waiting_seconds: float
    model_dollars: float
    fixes: int
    """Steps that a person did."""
    wrong: bool
    """A wrong call was executed and nobody noticed."""
    wrong_commits: int
    """Those of them that cannot be undone."""

    @property
    def completed(self) -> bool:
        """Right, and without a person."""
        return not self.wrong and not self.fixes


def run_policy(
    task: TaskRecord,
    route: Route,
    tiers: Mapping[str, Tier],
    *,
    trial: int,
    attempts: int,
    detection: float,
) -> Run:
    """One run: each step tried up to `attempts` times, then done by a person.

    Attempt a of run t takes the recorded trial t + a, so that runs differ and no run sees an answer twice.
    A wrong call that is executed unnoticed spoils the outcome; the run goes on, for nobody knows.
    """
    tried = fixes = wrong_commits = 0
    waiting = dollars = 0.0
    wrong = False
    for number in range(len(task.reversible)):
        records = {tier: task.steps[facts.records][number] for tier, facts in tiers.items()}
        for attempt in range(attempts):
            at = (trial + attempt) % len(next(iter(records.values())).answers)
            asked = route(records, at, attempt)
            tried += 1
            for tier in asked:
                seconds, price = spent(tiers[tier], records[tier], at)
                waiting, dollars = waiting + seconds, dollars + price
            answer = records[asked[-1]].answers[at]
            if answer.passes(detection):
                wrong |= bool(answer.error)
                wrong_commits += bool(answer.error) and not answer.reversible
                break
        else:
            fixes += 1
    return Run(task.id, len(task.reversible), tried, waiting, dollars, fixes, wrong, wrong_commits)


def spent(tier: Tier, record: StepRecord, trial: int) -> tuple[float, float]:
    """(seconds, dollars) of one answer: the prompt is read, the call is written."""
    read, written = record.tokens_read, record.answers[trial].tokens_written
    return (
        tier.queue_seconds + tier.seconds_per_token_read * read + tier.seconds_per_token_written * written,
        tier.dollars_per_token_read * read + tier.dollars_per_token_written * written,
    )


def run_all(
    tasks: Sequence[TaskRecord],
    route: Route,
    tiers: Mapping[str, Tier],
    *,
    attempts: int,
    detection: float,
) -> list[Run]:
    """Every task as often as it has trials."""
    return [
        run_policy(task, route, tiers, trial=trial, attempts=attempts, detection=detection)
        for task in tasks
        for trial in range(task.trials)
    ]
