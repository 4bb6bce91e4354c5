"""Tasks of 1 to 8 dependent steps on simulated tools: the goal, where it starts, the right calls.

A task is a part of its domain's chain of eight steps; what comes before it is done already. Each step needs
what the one before left on the row. A full task names every step, a brief one only those that take a value
and the last: the others follow from what the tools need.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

from eval.agent.calendar import CALENDAR
from eval.agent.deployment import DEPLOYMENT
from eval.agent.files import FILES
from eval.agent.orders import ORDERS
from eval.agent.tools import Argument, Call, Domain, Row, Table, Tool
from fastpath.errors import UserError
from fastpath.items.item import SPLITS, Draw, digest, template_id

DOMAINS = {domain.name: domain for domain in (FILES, ORDERS, CALENDAR, DEPLOYMENT)}
MAX_STEPS = 8
NUM_ROWS = 3
ATTEMPTS = 50

# {subject} the row, {steps} what to do, {rule} what to leave alone
FRAMES = {
    "evaluation": (
        "For {subject}: {steps}. {rule}",
        "We need this for {subject}: {steps}. {rule}",
        "{rule} But for {subject}: {steps}.",
        "Job for today, {subject}: {steps}. {rule}",
    ),
    "calibration": ("Take care of {subject}: {steps}. {rule}", "A request on {subject}: {steps}. {rule}"),
    "distillation": ("Please handle {subject}: {steps}. {rule}", "Next is {subject}: {steps}. {rule}"),
}
RULES = {
    "evaluation": ("Do not touch {other}.", "Leave {other} as it is."),
    "calibration": ("Keep away from {other}.",),
    "distillation": ("Nothing changes on {other}.",),
}
JOINS = {"evaluation": ", then ", "calibration": ", next ", "distillation": ", after that "}
BRIEFS = {
    "evaluation": "{steps}, and first whatever these need",
    "calibration": "{steps}, with all that must come before",
    "distillation": "{steps}, including what they depend on",
}
ASKS = {"evaluation": slice(0, 2), "calibration": slice(2, 3), "distillation": slice(3, 4)}


@dataclass(frozen=True, kw_only=True)
class AgentTask:
    """One task: what is asked, where it starts, what would be right."""

    domain_name: str
    split: str
    goal: str
    start: Table
    key: Any
    """The row it is about."""
    gold: tuple[Call, ...]
    done: tuple[str, ...]
    """Tools whose work was done before."""
    brief: bool
    template: str
    """Digests of the texts it was made from."""

    @property
    def domain(self) -> Domain:
        """Its tools."""
        return DOMAINS[self.domain_name]

    @property
    def k(self) -> int:
        """Number of dependent steps."""
        return len(self.gold)

    @cached_property
    def id(self) -> str:
        """Hash of what a model sees and of what is right."""
        return digest(self.goal, *self.done, *(call.text for call in self.gold), length=16)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The table before each step, and at the end."""
        tables = [self.start]
        for call in self.gold:
            table = copy.deepcopy(tables[-1])
            outcome = self.domain.execute(table, call)
            assert not outcome.fault, (call, outcome)
            tables.append(table)
        return tuple(tables)

    @cached_property
    def observations(self) -> tuple[str, ...]:
        """What each right call answers."""
        return tuple(
            self.domain.execute(copy.deepcopy(table), call).says
            for table, call in zip(self.tables, self.gold, strict=False)
        )


def generate_tasks(*, split: str, seed: int, num_tasks: int) -> list[AgentTask]:
    """The first `num_tasks` distinct tasks: task i depends on (split, seed, i) alone.

    Domains, lengths 1 to 8 and full and brief ones are dealt evenly. Raises UserError for an unknown split,
    and when the generator has no more.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: known are {', '.join(SPLITS)}")
    tasks: dict[str, AgentTask] = {}
    for index in range(num_tasks):
        draws = (
            Draw(task="agent", suite="agent", split=split, seed=seed, index=index, k=0, attempt=attempt)
            for attempt in range(ATTEMPTS)
        )
        task = next((task for task in map(agent_task, draws) if task.id not in tasks), None)
        if task is None:
            raise UserError(f"agent, split {split!r}: only {len(tasks)} distinct tasks; ask for fewer")
        tasks[task.id] = task
    return list(tasks.values())


def agent_task(draw: Draw) -> AgentTask:
    """One task of a dealt domain and length."""
    rng = draw.rng
    domain = DOMAINS[draw.deal("domain", list(DOMAINS))]
    k = replace(draw, index=draw.index // len(DOMAINS)).deal("k", range(1, MAX_STEPS + 1))
    brief = draw.deal("brief", (False, True))
    first = rng.randrange(MAX_STEPS - k + 1)
    before, steps = domain.steps[:first], domain.steps[first : first + k]
    rows = _rows(domain, draw.split, rng)
    key, other, _ = rows
    calls = [_call(domain, tool, rows[key], draw.split, rng) for tool in (*before, *steps)]
    for call in calls[:first]:
        domain.execute(rows, call)
    rows = dict(rng.sample(list(rows.items()), len(rows)))
    named = [tool for tool in steps if tool.values or tool is steps[-1]] if brief else steps
    asks = [(tool, rng.choice(tool.asks[ASKS[draw.split]])) for tool in named]
    words = dict(zip((tool.name for tool in steps), calls[first:], strict=True))
    texts = [ask.format_map(_spoken(words[tool.name])) for tool, ask in asks]
    frame, rule = draw.deal("frame", FRAMES[draw.split]), draw.deal("rule", RULES[draw.split])
    known = domain.known_as if first or domain.steps[0].takes[0] == domain.key else domain.found_as
    clauses = JOINS[draw.split].join(texts)
    return AgentTask(
        domain_name=domain.name,
        split=draw.split,
        goal=frame.format(
            subject=known.format_map(rows[key]),
            steps=BRIEFS[draw.split].format(steps=clauses) if len(named) < k else clauses,
            rule=rule.format(other=known.format_map(rows[other])),
        ),
        start=rows,
        key=key,
        gold=tuple(calls[first:]),
        done=tuple(tool.name for tool in before),
        brief=len(named) < k,
        template=template_id(frame, rule, *(f"{tool.name} {ask}" for tool, ask in asks)),
    )


def _rows(domain: Domain, split: str, rng: Random) -> Table:
    """Rows that share no value which could name them."""
    keys = rng.sample(domain.arguments[domain.key].pools[split], NUM_ROWS)
    columns = {
        column: rng.sample(domain.arguments[argument].pools[split], NUM_ROWS)
        for column, argument in domain.facts.items()
    }
    rows: list[Row] = [
        {domain.key: key, **{column: values[number] for column, values in columns.items()}}
        for number, key in enumerate(keys)
    ]
    return {row[domain.key]: row for row in rows}


def _call(domain: Domain, tool: Tool, row: Row, split: str, rng: Random) -> Call:
    values = {name: value_of(domain.arguments[name], split, rng) for name in tool.values}
    return Call(tool.name, {tool.takes[0]: row[tool.takes[0]], **values})


def value_of(argument: Argument, split: str, rng: Random) -> Any:
    """Some value of an argument."""
    return rng.choice((False, True)) if argument.type == "boolean" else rng.choice(argument.pools[split])


def _spoken(call: Call) -> dict[str, Any]:
    """Its arguments as a task says them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in call.arguments.items()
    }
