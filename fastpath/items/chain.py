"""chain: four interleaved chains of variables, each a digit copied on and on; k assignments lead to the asked one.

k = 1 is a look-up: the asked variable is itself assigned its digit. k = 4 asks for a copy of a copy of a copy. One
context serves every k (its id is the item's `source`): only the name in the question changes. All four digits are
choices, each is the final value of exactly four variables, and the asked chain is first, second, third or last in
the text equally often: neither how often a digit is held nor where it stands (the short cuts) tells the answer.
"""

from random import Random

from fastpath.items.item import Draw, Item, digest, template_id

DEPTH = 4
"""Variables in a chain; there are as many chains as choices, so 16 facts in all."""

NAMES = {
    "calibration": "a b c d e f g h i j k l m n o p q r s t u v w x y z".split(),
    "evaluation": "a b c d e f g h i j k l m n o p q r s t u v w x y z".split(),
    "distillation": "a b c d e f g h i j k l m n o p q r s t u v w x y z".split(),
}
# (one assignment, what stands between two)
LAYOUTS = {
    "evaluation": [
        ("{v} = {x}", "; "), ("{v} := {x}", "\n"), ("let {v} = {x}", ", "), ("{v} is {x}", ". "),
        ("{v} <- {x}", "\n"), ("set {v} to {x}", ". "), ("{v} equals {x}", ", "),
    ],
    "calibration": [("{v} = {x}", "\n"), ("{v}: {x}", ", "), ("var {v} = {x}", "; "), ("make {v} {x}", ". ")],
    "distillation": [("{v}={x}", " "), ("put {v} = {x}", "\n"), ("{v} gets {x}", ", ")],
}  # fmt: skip
QUESTIONS = {
    "evaluation": [
        "So {v} =", "The value of {v} is", "At the end {v} is", "Now {v} equals", "Result for {v}:", "Variable {v} holds",
    ],
    "calibration": ["Value of {v}:", "Finally {v} =", "In the end, {v} has the value", "We see that {v} is"],
    "distillation": ["Thus {v} =", "What is {v}? It is", "Print {v}:"],
}  # fmt: skip


def chain(draw: Draw) -> Item:
    """One context and the question for the k-th variable of its asked chain."""
    layouts, questions = LAYOUTS[draw.split], QUESTIONS[draw.split]
    layout = draw.deal("layout", layouts)
    question = draw.deal("question", questions, turn=draw.index // len(layouts))
    names = draw.rng.sample(NAMES[draw.split], 4 * DEPTH)
    chains = [names[start : start + DEPTH] for start in range(0, len(names), DEPTH)]
    digits = [str(digit) for digit in draw.rng.sample(range(1, 10), len(chains))]
    asked = draw.deal("asked", range(len(chains)))
    context = _sentence(layout, _facts(draw.rng, chains, digits))
    wrong = [digit for digit in digits if digit != digits[asked]]
    return draw.item(
        prompt=f"{context}\n{question.format(v=chains[asked][draw.k - 1])}",
        answer=digits[asked],
        choices=draw.choices(digits[asked], wrong),
        template=template_id("".join(layout), question),
        source=digest(draw.split, context, question, length=16),
    )


def _facts(rng: Random, chains: list[list[str]], digits: list[str]) -> list[tuple[str, str]]:
    """(variable, digit or variable) of every assignment: the digits first, then the copies at random."""
    facts = [(names[0], digit) for names, digit in zip(chains, digits, strict=True)]
    order = [which for which in range(len(chains)) for _ in range(DEPTH - 1)]
    rng.shuffle(order)
    depth = [0] * len(chains)
    for which in order:
        depth[which] += 1
        facts.append((chains[which][depth[which]], chains[which][depth[which] - 1]))
    return facts


def _sentence(layout: tuple[str, str], facts: list[tuple[str, str]]) -> str:
    """The assignments in one layout, ended by its separator's mark or a full stop."""
    line, between = layout
    end = "" if between == "\n" else "."
    return between.join(line.format(v=name, x=value) for name, value in facts) + end
