"""chain: four interleaved chains of variables, each a digit copied on and on; k assignments give the answer.

k = 1 is a look-up: the asked variable is itself assigned its digit. k = 4: a copy of a copy of a copy of one.
One context serves every k, only the name in the question changes; items of one context share a `source`. All
four digits are choices and each is the value of four variables. The asked chain's digit is the first, second,
third or last in the text equally often. So the short cuts (answer with the first digit, the last, or the most
frequent) are at chance, and their answers are always choices.

The short cut of an item is the last digit written that is not the answer. Assumption: who stops at a copy has
no digit, only a name, and says the digit nearest to the copies, which all stand after the four digits.
"""

from random import Random

from fastpath.items.item import Draw, Item, digest, template_id

NUM_CHAINS = 4
DEPTH = 4
"""Variables in a chain, the largest k; 16 facts in all."""

NAMES = {
    "calibration": "cfioruxzBEHLORUX",
    "evaluation": "behknqtwCFJMPSVY",
    "distillation": "dgjmpsvyDGKNQTWZ",
}
"""Exactly the variables of one item; without a, A and I, which are words."""
# (one assignment, what stands between two)
LAYOUTS = {
    "evaluation": [
        ("{v} = {x}", "; "), ("{v} := {x}", "\n"), ("let {v} = {x}", ", "), ("{v} is {x}", ". "),
        ("define {v} = {x}", "\n"), ("set {v} to {x}", ". "), ("{v} equals {x}", ", "),
    ],
    "calibration": [
        ("{v} = {x}", "\n"), ("{v}: {x}", ", "), ("var {v} = {x}", "; "), ("fix {v} = {x}", ". "),
    ],
    "distillation": [("{v}={x}", " "), ("put {v} = {x}", "\n"), ("{v} gets {x}", ", ")],
}  # fmt: skip
QUESTIONS = {
    "evaluation": [
        "So {v} =", "The value of {v} is", "At the end {v} is", "Now {v} equals", "Therefore {v} =",
        "The number stored in {v} is",
    ],
    "calibration": ["Value of {v}:", "Here the value of {v} is", "Hence {v} is", "We see that {v} ="],
    "distillation": ["Thus {v} =", "What is {v}? It is", "Print {v}:"],
}  # fmt: skip


def chain(draw: Draw) -> Item:
    """One context and the question for the k-th variable of its asked chain."""
    layouts, questions = LAYOUTS[draw.split], QUESTIONS[draw.split]
    layout = draw.deal("layout", layouts)
    question = draw.deal("question", questions, turn=draw.index // len(layouts))
    names = draw.rng.sample(NAMES[draw.split], NUM_CHAINS * DEPTH)
    chains = [names[start : start + DEPTH] for start in range(0, len(names), DEPTH)]
    digits = [str(digit) for digit in draw.rng.sample(range(1, 10), NUM_CHAINS)]
    asked = draw.deal("asked", range(NUM_CHAINS))
    context = _sentence(layout, _facts(draw.rng, chains, digits))
    wrong = [digit for digit in digits if digit != digits[asked]]  # in the order of the text
    return draw.item(
        prompt=f"{context}\n{question.format(v=chains[asked][draw.k - 1])}",
        answer=digits[asked],
        choices=draw.choices(digits[asked], wrong),
        template=template_id("".join(layout), question),
        source=digest(draw.split, context, question, length=16),
        short_cut=wrong[-1],
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
