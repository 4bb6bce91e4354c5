"""boolean: two nested expressions with six operators together; the asked one is k operators deep.

Of the six operators four are `not`, two are `and True` or `or False`: all of them pass on what is inside, so
no operator can be skipped (`and False` would decide without a look inside). The outermost of the asked
expression is `not`: the short cut, its value after k - 1 operators, is always the other choice. Of the four
literals two are True and two are False. For k > 1 the innermost literal is the answer in half of the items.
"""

from random import Random

from fastpath.items.chain import LAYOUTS, NAMES
from fastpath.items.item import Draw, Item, template_id

NUM_OPERATORS = 6
NUM_LITERALS = 2
"""Operators with a literal of their own, `and True` or `or False`."""

QUESTIONS = {
    "evaluation": [
        "So {v} is", "The value of {v} is", "At the end {v} is", "Therefore {v} equals",
        "The truth value of {v} is", "True or False? {v} is",
    ],
    "calibration": ["Value of {v}:", "Here the value of {v} is", "Hence {v} is", "We see that {v} ="],
    "distillation": ["Thus {v} =", "What is {v}? It is", "Print {v}:"],
}  # fmt: skip


def boolean(draw: Draw) -> Item:
    """Two variables, each an expression, and the question for the one of depth k."""
    layouts, questions = LAYOUTS[draw.split], QUESTIONS[draw.split]
    layout = draw.deal("layout", layouts)
    question = draw.deal("question", questions, turn=draw.index // len(layouts))
    answer, is_even = draw.deal(
        "answer", [(value, even) for value in (True, False) for even in (True, False)]
    )
    names = draw.rng.sample(NAMES[draw.split], 2)
    kinds = _kinds(draw.rng, draw.k, is_even=is_even)
    innermost = [answer ^ (kinds[0].count("not") % 2 == 1), draw.rng.choice((True, False))]
    # As many True as False in the text: `and` brings a True, `or` a False.
    fill = ["or", "or"] if all(innermost) else ["and", "or"] if any(innermost) else ["and", "and"]
    draw.rng.shuffle(fill)
    facts = [
        layout[0].format(v=name, x=_nested(draw.rng, value, [kind or fill.pop() for kind in levels]))
        for name, value, levels in zip(names, innermost, kinds, strict=True)
    ]
    if draw.deal("place", (True, False), turn=draw.index // 4):
        facts.reverse()
    context = layout[1].join(facts) + ("" if layout[1] == "\n" else ".")
    wrong = str(not answer)
    return draw.item(
        prompt=f"{context}\n{question.format(v=names[0])}",
        answer=str(answer),
        choices=draw.choices(str(answer), [wrong]),
        template=template_id("".join(layout), question),
        short_cut=wrong,
    )


def _kinds(rng: Random, k: int, *, is_even: bool) -> tuple[list[str], list[str]]:
    """Operators from the inside out, "not" or "" for one with a literal: k asked ones, and the others.

    is_even: whether the asked ones hold an even number of `not` (for k = 1 it is always one).
    """
    counts = [n for n in range(min(NUM_LITERALS, k - 1) + 1) if ((k - n) % 2 == 0) == is_even or k == 1]
    num_literals = rng.choice(counts)
    inner = ["not"] * (k - 1 - num_literals) + [""] * num_literals
    others = ["not"] * (NUM_OPERATORS - NUM_LITERALS - (k - num_literals)) + [""] * (
        NUM_LITERALS - num_literals
    )
    rng.shuffle(inner)
    rng.shuffle(others)
    return [*inner, "not"], others


def _nested(rng: Random, innermost: bool, operators: list[str]) -> str:
    """The expression, every operator but the outermost in brackets of its own."""
    text = str(innermost)
    for number, operator in enumerate(operators):
        inside = f"({text})" if number else text
        if operator == "not":
            text = f"not {inside}"
        else:
            sides = [inside, str(operator == "and")]
            rng.shuffle(sides)
            text = f" {operator} ".join(sides)
    return text
