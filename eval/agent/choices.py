"""The steps of a task as choices: the right next call beside wrong ones, one of each class of errors.

What a small model can do: the history is the right one, and the likelihood of each candidate is compared.
The prompt of a step begins with the prompt of the step before, so a task is run once, as one tree of tokens.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from random import Random
from typing import Any

from eval.agent.checker import classify_text, executes, is_reversible
from eval.agent.tasks import AgentTask, generate_tasks, value_of
from eval.agent.tools import ASK_HUMAN, Call, Domain, Tool, parse_call

NUM_EXAMPLES, EXAMPLE_STEPS = 96, (3, 4, 5)
REPEATS = 0.2
"""Share of wrong tools that are a call made before; small models like to repeat."""
REASONS = {
    "evaluation": ("I do not know how to go on", "this is too hard for me", "something is missing here"),
    "calibration": ("I cannot do this", "the rest is unclear"),
    "distillation": ("I am stuck at this point", "someone else should do it"),
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One candidate for the next call."""

    text: str
    error: str
    """"" for the right one, else the class of the error (checker.ERRORS)."""
    executes: bool
    """Whether it would change the table."""
    reversible: bool
    """Whether what it does can be undone."""


@dataclass(frozen=True, kw_only=True)
class ChoiceStep:
    """One step of a task: what a model sees, and the candidates in random order."""

    task: AgentTask
    step: int
    prompt: str
    choices: tuple[Choice, ...]

    @property
    def gold(self) -> int:
        """Index of the right choice."""
        return [choice.error for choice in self.choices].index("")


def choice_steps(task: AgentTask, examples: int = 1) -> list[ChoiceStep]:
    """Every step of the task with its candidates, after solved examples; the same in every process."""
    solved = map(dialogue, example_tasks(task.domain_name, examples))
    parts = (tools_text(task.domain), *(texts[-1].removesuffix("\n>") for texts in solved))
    before = "".join(f"{part}\n\n" for part in parts)
    return [
        ChoiceStep(task=task, step=step, prompt=before + text, choices=_choices(task, step))
        for step, text in enumerate(dialogue(task)[:-1])
    ]


def dialogue(task: AgentTask) -> list[str]:
    """The task and its right calls so far, before each step and at the end: each goes on from the last."""
    texts = [f"Task: {task.goal}\nDone before: {', '.join(task.done) or 'nothing'}.\n>"]
    for call, says in zip(task.gold, task.observations, strict=True):
        texts.append(f"{texts[-1]} {call.text}\n{says}\n>")
    return texts


@cache
def example_tasks(domain: str, num: int) -> tuple[AgentTask, ...]:
    """Tasks of templates that neither evaluation nor calibration has: solved, they show how calls go on."""
    tasks = generate_tasks(split="distillation", seed=0, num_tasks=NUM_EXAMPLES)
    fitting = (t for t in tasks if t.domain_name == domain and t.k in EXAMPLE_STEPS and not t.brief)
    return tuple(islice(fitting, num))


def tools_text(domain: Domain) -> str:
    """Every tool of a domain on a line: name, arguments with types, what it does, what must come before."""
    lines = [_tool_line(domain, tool) for tool in domain.tools.values()]
    return "\n".join(
        ["Tools:", *sorted([*lines, f'{ASK_HUMAN} {{"reason": "string"}}: let a person do the rest'])]
    )


def _tool_line(domain: Domain, tool: Tool) -> str:
    takes = json.dumps({name: domain.arguments[name].type for name in tool.takes})
    return f"{tool.name} {takes}: {tool.does}" + (f" (after {tool.needs})" if tool.needs else "")


def _choices(task: AgentTask, step: int) -> tuple[Choice, ...]:
    rng = Random(f"choices/{task.id}/{step}")
    texts = {"": task.gold[step].text}
    for error, make in WRONG.items():
        if text := make(task, step, rng):
            texts[error] = text
    choices = [_choice(task, step, text) for text in texts.values()]
    assert [choice.error for choice in choices] == list(texts), (choices, texts)
    rng.shuffle(choices)
    return tuple(choices)


def _choice(task: AgentTask, step: int, text: str) -> Choice:
    call = parse_call(text)
    return Choice(
        text=text,
        error=classify_text(task, step, text),
        executes=executes(task, step, call),
        reversible=is_reversible(task, call),
    )


def wrong_tool(task: AgentTask, step: int, rng: Random) -> str:
    """A decoy on the right row, or a call that was right before.

    A decoy takes about as many arguments as the right call: the shorter of two calls is the likelier one.
    """
    if step and rng.random() < REPEATS:
        return rng.choice(task.gold[:step]).text
    domain, size = task.domain, min(2, len(task.gold[step].arguments))
    tool = rng.choice([tool for tool in domain.decoys if len(tool.takes) == size])
    values = {name: value_of(domain.arguments[name], task.split, rng) for name in tool.values}
    return Call(tool.name, {domain.key: task.key, **values}).text


def hallucinated_argument(task: AgentTask, step: int, rng: Random) -> str:
    """An argument under a name that sounds right, or a thing that does not exist."""
    call, domain = task.gold[step], task.domain
    tool = domain.tools[call.tool]
    first, table = tool.takes[0], task.tables[step]
    if rng.random() < 0.5:
        pool = domain.arguments[first].pools[task.split]
        absent = [value for value in pool if value not in {row[first] for row in table.values()}]
        return Call(call.tool, {**call.arguments, first: rng.choice(absent)}).text
    name = rng.choice(tool.takes)
    wrong = rng.choice([w for w in domain.arguments[name].wrong_names if w not in tool.takes])
    return Call(call.tool, {wrong if a == name else a: v for a, v in call.arguments.items()}).text


def skipped_precondition(task: AgentTask, step: int, rng: Random) -> str:
    """A later call of the task; "" where there is none."""
    return rng.choice([call.text for call in task.gold[step + 1 :]] or [""])


def misread_constraint(task: AgentTask, step: int, rng: Random) -> str:
    """The right tool with another value, or for another row."""
    call, domain = task.gold[step], task.domain
    tool = domain.tools[call.tool]
    name = rng.choice(tool.takes)
    if name == tool.takes[0]:
        wrong = rng.choice([row[name] for key, row in task.tables[step].items() if key != task.key])
        if tool.needs and tool.needs not in _row_of(task, step, name, wrong) and tool.values:
            name = tool.values[0]  # the other row would be rejected all the same: no constraint is misread
    if name != tool.takes[0]:
        wrong = _another(partial(value_of, domain.arguments[name], task.split, rng), call.arguments[name])
    return Call(call.tool, {**call.arguments, name: wrong}).text


def _row_of(task: AgentTask, step: int, column: str, value: Any) -> dict[str, Any]:
    return next(row for row in task.tables[step].values() if row[column] == value)


def _another(draw: Callable[[], Any], value: Any) -> Any:
    return next(other for other in iter(draw, None) if other != value)


def malformed_call(task: AgentTask, step: int, rng: Random) -> str:
    """The right call with a slip of the pen that no parser takes."""
    text = task.gold[step].text
    slips = (text.replace('": ', '"= ', 1), text.replace("{", "", 1), text.replace('"', "", 1))
    return rng.choice(slips)


def gave_up(task: AgentTask, step: int, rng: Random) -> str:
    """A person is asked to do the rest."""
    return Call(ASK_HUMAN, {"reason": rng.choice(REASONS[task.split])}).text


WRONG: dict[str, Callable[[AgentTask, int, Random], str]] = {
    "wrong_tool": wrong_tool,
    "hallucinated_argument": hallucinated_argument,
    "skipped_precondition": skipped_precondition,
    "misread_constraint": misread_constraint,
    "malformed_call": malformed_call,
    "gave_up": gave_up,
}
"""Class of error -> a candidate of it; one for each in checker.ERRORS."""
