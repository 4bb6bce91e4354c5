"""Tasks in the words of the reference model embedded:depthdial: two depth dials and three simple tasks.

tiny_links: three interleaved chains of names; the first of each is given a digit, every other the name
before it; k links lie between the asked name and its digit. tiny_sums: every link adds or takes 1 to 3 too.
One context serves every k, only the asked name changes; items of one context share a `source`. The digits
stand first, the asked chain is dealt, and the links are shuffled into each other, so that the first, last and
nearest digit are at chance; in tiny_sums the answer is computed.
"""

from dataclasses import dataclass
from itertools import product
from random import Random

from fastpath.items.item import Draw, Item, digest, template_id
from fastpath.items.tiny_words import (
    DIGITS,
    FIELDS,
    LABELS,
    LAYOUTS,
    NAMES,
    QUESTIONS,
    SENTENCES,
    STEPS,
    TOPIC,
)

NUM_CHAINS = 3
MAX_LINKS = 8
"""The largest k; 3 * 9 facts in all."""


@dataclass(frozen=True)
class Fact:
    """One name and what it takes its digit from."""

    name: str
    taken: str
    """The digit itself (links = 0) or the name of an earlier fact."""
    step: str
    """What is added to the digit taken over: one of STEPS, or "" for a copy."""
    digit: int
    """What the name resolves to."""
    links: int
    """How many facts lie between the name and a digit."""


def given(name: str, digit: int) -> Fact:
    """The first fact of a chain."""
    return Fact(name, str(digit), "", digit, 0)


def link(rng: Random, name: str, source: Fact, *, summed: bool) -> Fact:
    """A fact that takes its digit from another, with a step that stays within 0 to 9 where it is summed."""
    steps = [step for step in STEPS if 0 <= source.digit + int(step) <= 9]
    step = rng.choice(steps) if summed else ""
    return Fact(name, source.name, step, source.digit + int(step or 0), source.links + 1)


def interleaved_chains(rng: Random, names: list[str], *, depth: int, summed: bool) -> list[list[Fact]]:
    """`NUM_CHAINS` chains of `depth` links each; `shuffled_together` makes one text of them."""
    chains = []
    for which, digit in enumerate(rng.sample(range(10), NUM_CHAINS)):
        mine = names[which::NUM_CHAINS][: depth + 1]
        chain = [given(mine[0], digit)]
        for name in mine[1:]:
            chain.append(link(rng, name, chain[-1], summed=summed))
        chains.append(chain)
    return chains


def shuffled_together(rng: Random, chains: list[list[Fact]]) -> list[Fact]:
    """The digits first, so that the nearest one says nothing; then the links, those of a chain in order."""
    turns = [which for which, chain in enumerate(chains) for _ in chain[1:]]
    rng.shuffle(turns)
    rest = [iter(chain[1:]) for chain in chains]
    return [chain[0] for chain in chains] + [next(rest[which]) for which in turns]


def fact_text(fact: Fact, take: str) -> str:
    """Three words: the name, "=" (or the step), and what the digit is taken from."""
    return f"{fact.name} {fact.step or take} {fact.taken}"


def tiny_links(draw: Draw) -> Item:
    """Copies: the digit of the asked chain."""
    return _dial(draw, summed=False)


def tiny_sums(draw: Draw) -> Item:
    """Sums: the digit of the asked chain after k steps; the short cut is the one after k - 1."""
    return _dial(draw, summed=True)


def _dial(draw: Draw, *, summed: bool) -> Item:
    layout, question = draw.deal("template", list(product(LAYOUTS[draw.split], QUESTIONS[draw.split])))
    names = draw.rng.sample(NAMES[draw.split], NUM_CHAINS * (MAX_LINKS + 1))
    chains = interleaved_chains(draw.rng, names, depth=MAX_LINKS, summed=summed)
    take, between = layout
    context = between.join(fact_text(fact, take) for fact in shuffled_together(draw.rng, chains))
    asked = chains[draw.deal("asked", range(NUM_CHAINS))]
    fact = asked[draw.k]
    answer = str(fact.digit)
    if summed:
        before = [str(asked[draw.k - 1].digit)] if draw.k else []
        others = [d for d in DIGITS if d not in (answer, *before)]
        wrong = [*before, *draw.rng.sample(others, 3 - len(before))]
    else:
        before, wrong = [], [str(chain[0].digit) for chain in chains if chain is not asked]
    return draw.item(
        prompt=context + "\n" + asks(question, fact.name),
        answer=answer,
        choices=draw.choices(answer, wrong),
        template=template_id("|".join(layout), "|".join(question)),
        source=digest(draw.split, context, *question, length=16),
        short_cut="".join(before),
    )


def asks(question: tuple[str, str], what: str) -> str:
    """The last line of a prompt: it ends with the word that is asked for."""
    return f"{' '.join(question)} {what}"


def tiny_lookup(draw: Draw) -> Item:
    """Six names, each with a digit of its own: the digit of one of them, three others as choices."""
    layout, question = draw.deal("template", list(product(LAYOUTS[draw.split], QUESTIONS[draw.split])))
    names, digits = draw.rng.sample(NAMES[draw.split], 6), draw.rng.sample(DIGITS, 6)
    asked = draw.rng.randrange(6)
    return _record(draw, layout, question, list(zip(names, digits, strict=True)), asked, start="")


def tiny_field(draw: Draw) -> Item:
    """Someone's record of five fields: the value of one of them; an absent one of its kind is a choice."""
    layout, question = draw.deal("template", list(product(LAYOUTS[draw.split], QUESTIONS[draw.split])))
    fields = [(name, draw.rng.choice(FIELDS[name])) for name in draw.rng.sample(list(FIELDS), 5)]
    owner = draw.rng.choice(NAMES[draw.split])
    return _record(draw, layout, question, fields, draw.rng.randrange(5), start=owner + layout[1])


def _record(
    draw: Draw,
    layout: tuple[str, str],
    question: tuple[str, str],
    fields: list[tuple[str, str]],
    asked: int,
    *,
    start: str,
) -> Item:
    take, between = layout
    key, answer = fields[asked]
    others = [value for _, value in fields if value != answer]
    absent = [value for value in FIELDS.get(key, []) if value != answer]
    wrong = [draw.rng.choice(absent), *draw.rng.sample(others, 2)] if absent else draw.rng.sample(others, 3)
    context = start + between.join(f"{name} {take} {value}" for name, value in fields)
    return draw.item(
        prompt=context + "\n" + asks(question, key),
        answer=answer,
        choices=draw.choices(answer, wrong),
        template=template_id("|".join(layout), "|".join(question)),
    )


def tiny_label(draw: Draw) -> Item:
    """A sentence with one word of a label: which label?"""
    sentence, question = draw.deal("template", list(product(SENTENCES[draw.split], QUESTIONS[draw.split])))
    answer = draw.deal("label", list(LABELS))
    text = " ".join(sentence).format(n=draw.rng.choice(NAMES[draw.split]), w=draw.rng.choice(LABELS[answer]))
    return draw.item(
        prompt=text + "\n" + asks(question, TOPIC),
        answer=answer,
        choices=draw.choices(answer, [label for label in LABELS if label != answer]),
        template=template_id("|".join(sentence), "|".join(question)),
    )
