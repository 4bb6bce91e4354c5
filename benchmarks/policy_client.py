"""A client of the live gateway that does agent tasks: what each answer cost, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from eval.agent.chat import judge, messages, read_answer, schemas
from eval.agent.policies import Run, Tier, spent
from eval.agent.records import Answer, StepRecord
from eval.agent.tasks import AgentTask
from eval.agent.written import LOST, post
from fastpath.config_costs import AgentConfig

Data = dict[str, Any]
WORKERS = 4  # tasks at once


@dataclass(frozen=True)
class Setting:
    """Whom to ask, and how."""

    name: str
    url: str
    model: str
    first: str
    """service_tier of the first attempt at a step; auto: the server's default."""
    then: str
    """Of the attempts after a call that failed."""


def run_tasks(
    tasks: Sequence[AgentTask], setting: Setting, tiers: Mapping[str, Tier], config: AgentConfig, *, seed: int
) -> list[tuple[Run | None, int]]:
    """(run, answers asked for) of every task and trial, in order; None where an answer did not come."""
    todo = [(task, trial) for task in tasks for trial in range(config.trials)]
    work = partial(run_task, setting=setting, tiers=tiers, config=config, seed=seed)
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda given: work(given[0], trial=given[1]), todo))


def run_task(
    task: AgentTask,
    *,
    trial: int,
    setting: Setting,
    tiers: Mapping[str, Tier],
    config: AgentConfig,
    seed: int,
) -> tuple[Run | None, int]:
    """One run: each step tried up to config.attempts times, then done by a person (as run_policy)."""
    tried = fixes = wrong_commits = 0
    waiting = dollars = 0.0
    wrong = False
    for step in range(task.k):
        for attempt in range(config.attempts):
            luck = Random(f"{seed}/{task.id}/{step}/{trial}/{attempt}").random()  # the same in all settings
            tried += 1
            body = request(task, step, config) | {
                "model": setting.model,
                "service_tier": setting.then if attempt else setting.first,
                "seed": seed + trial + config.trials * attempt,
            }
            try:
                reply = post(f"{setting.url}/chat/completions", body)
                paid = list(answers_paid(reply))
                facts = judge(task, step, read_answer(task, message_of(reply)))
            except LOST:
                return None, tried
            for tier, read, written in paid:
                record = StepRecord((_answer(facts, luck, written),), read)
                seconds, price = spent(tiers[tier], record, 0)
                waiting, dollars = waiting + seconds, dollars + price
            answer = _answer(facts, luck, 0)
            if answer.passes(config.detection):
                wrong |= bool(answer.error)
                wrong_commits += bool(answer.error) and not answer.reversible
                break
        else:
            fixes += 1
    return Run(task.id, task.k, tried, waiting, dollars, fixes, wrong, wrong_commits), tried


def request(task: AgentTask, step: int, config: AgentConfig) -> Data:
    """What is asked of any tier about a step."""
    return {
        "messages": messages(task, step, config.examples),
        "tools": schemas(task.domain),
        "temperature": config.temperature,
        "max_tokens": config.max_new_tokens,
    }


def message_of(reply: Mapping[str, Any]) -> Data:
    """The answer to act on: where fast and standard disagree on a call, standard commits, so its calls."""
    note = reply.get("fastpath") or {}
    if note.get("verdict") == "disagreed":
        return {"tool_calls": note["standard"]}
    message: Data = reply["choices"][0]["message"]
    return message


def answers_paid(reply: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(tier, tokens read, tokens written) of every answer behind a reply: also one redone, and the gate's."""
    usage, note = reply["usage"], reply.get("fastpath") or {}
    read = usage["prompt_tokens"]
    yield reply["service_tier"], read, usage["completion_tokens"]
    for key, tier in (("fast_tokens", "fast"), ("confirmation_tokens", "standard")):
        if key in note:
            yield tier, read, note[key] - read  # both tiers read the same prompt


def _answer(facts: Mapping[str, Any], luck: float, written: int) -> Answer:
    return Answer(facts["error"], facts["executes"], facts["reversible"], luck, written)
