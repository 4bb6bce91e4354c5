"""Interpreters of the depth dials' prompts that share no code with the generators.

Each gives what one would answer after 0, 1, ... steps: the last is the answer, the one before the short cut.
"""

import ast
import re

from fastpath.items import swaps
from fastpath.items.item import SPLITS, Item
from fastpath.items.pools import FIVE_LETTERS


def parts(item: Item) -> tuple[str, str]:
    """The context, and the line with the question."""
    context, _, question = item.prompt.rpartition("\n")
    return context, question


NAME = re.compile(rf"\b({'|'.join(name for split in SPLITS for name in FIVE_LETTERS[split])})\b")
LOSSES = re.compile(
    r"loses|drops|eats|-=|pays|gives|sells|: -|cuts|discards|donates|sinks|- \d"
)  # every other verb gains
THING = re.compile(rf"\b({'|'.join(thing for split in SPLITS for thing in swaps.THINGS[split])})\b")
SECOND_IS_BELOW = re.compile(r"teaches|captain of|advises")  # "b teaches a"


def facts_of(context: str) -> list[str]:
    return [fact for fact in re.split(r"[.;,\n] ?", context) if fact]


def run_counter(item):
    context, question = parts(item)
    (asked,) = NAME.findall(question)
    mine = [fact for fact in facts_of(context) if NAME.search(fact).group() == asked]
    values = [int(re.search(r"\d", mine[0]).group())]
    for fact in mine[1:]:
        step = int(re.search(r"\d", fact).group())
        values.append(values[-1] - step if LOSSES.search(fact) else values[-1] + step)
    return [str(value) for value in values]


def run_swaps(item):
    """Forward, every person at once; who started with the thing, and where it went, gives the stops."""
    context, question = parts(item)
    facts = facts_of(context)
    start = {NAME.search(fact).group(): THING.search(fact).group() for fact in facts[:5]}
    has, moves = dict(start), {thing: [owner] for owner, thing in start.items()}
    for one, other in (NAME.findall(fact) for fact in facts[5:]):
        has[one], has[other] = has[other], has[one]
        moves[has[one]].append(one)
        moves[has[other]].append(other)
    (asked,) = NAME.findall(question)
    path = moves[has[asked]]
    assert path[-1] == asked
    return [start[person] for person in reversed(path)]


def run_boolean(item):
    context, question = parts(item)
    asked = re.search(r"\b[^\WaAI]\b", question).group()
    found = re.search(rf"\b{asked}\b[^\w(]*(?:is |to |equals |gets )?\s*(?=not|\(|True|False)(.*)", context)
    text = re.match(r"(?:not|and|or|True|False|[() ])+", found.group(1)).group().strip()
    node, operators = ast.parse(text, mode="eval").body, []
    while not isinstance(node, ast.Constant):
        operators.append(node)
        if isinstance(node, ast.UnaryOp):
            node = node.operand
        else:
            own = isinstance(node.op, ast.And)  # "and True", "or False"
            one, other = node.values
            node = other if isinstance(one, ast.Constant) and one.value == own else one
    stops = [ast.unparse(node), *map(ast.unparse, reversed(operators))]
    return [str(eval(stop)) for stop in stops]


def run_brackets(item):
    pairs = dict(zip("([{<", ")]}>", strict=True))
    stack, closed = [], []
    for bracket in re.findall(r"[][(){}<>]", item.prompt):
        if bracket in pairs:
            stack.append(bracket)
        else:
            assert pairs[stack.pop()] == bracket
            closed.append(bracket)
    assert len(stack) == 4
    return [closed[-1], pairs[stack[-1]]]


def run_hops(item):
    context, question = parts(item)
    above = {}
    for fact in facts_of(context):
        one, other = NAME.findall(fact)
        above.update({other: one} if SECOND_IS_BELOW.search(fact) else {one: other})
    people = NAME.findall(question)
    for _ in range(int(re.search(r"\d", question).group())):
        people.append(above[people[-1]])
    return people


STOPS = {
    "counter": run_counter,
    "swaps": run_swaps,
    "boolean": run_boolean,
    "brackets": run_brackets,
    "hops": run_hops,
}
