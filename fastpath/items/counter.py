"""counter: two people start with a number each; of six gains and losses k are the asked person's.

k = 0 is a look-up of the start. Prompts have one length for every k: a gain is said in as many letters as a
loss. All numbers are digits from 2 to 9. The answer differs from every earlier value, so each early stop is
wrong; the value after k - 1 steps (the short cut), the start, and the end of the other counter are choices.
The answer is the smallest, second, third and largest choice equally often.
"""

from random import Random

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import FIVE_LETTERS

NUM_STEPS = 6
DIGITS = range(2, 10)
"""Of every value: a start is followed by a plural."""

# (start, gain, loss, what stands between two facts)
LAYOUTS = {
    "evaluation": [
        ("{p} has {x} coins", "{p} finds {d}", "{p} loses {d}", ". "),
        ("{p} starts with {x} points", "{p} gains {d}", "{p} drops {d}", ". "),
        ("{p} owns {x} apples", "{p} buys {d}", "{p} eats {d}", ". "),
        ("{p} = {x}", "{p} += {d}", "{p} -= {d}", "\n"),
        ("balance of {p}: {x} dollars", "{p} gets {d}", "{p} pays {d}", "\n"),
        ("{p} has {x} marbles", "{p} receives {d}", "{p} gives up {d}", ". "),
        ("{p} holds {x} cards", "{p} draws {d}", "{p} sells {d}", ", "),
    ],
    "calibration": [
        ("{p} keeps {x} tickets", "{p} takes {d}", "{p} gives {d}", ". "),
        ("{p}: {x}", "{p}: +{d}", "{p}: -{d}", "\n"),
        ("score of {p}: {x}", "{p} adds {d}", "{p} cuts {d}", ", "),
        ("there are {x} shells with {p}", "{p} collects {d}", "{p} discards {d}", ". "),
    ],
    "distillation": [
        ("{p} has got {x} stamps", "{p} obtains {d}", "{p} donates {d}", ". "),
        ("level of {p}: {x}", "{p} rises {d}", "{p} sinks {d}", "\n"),
        ("{p} <- {x}", "{p} <- {p} + {d}", "{p} <- {p} - {d}", "\n"),
    ],
}
QUESTIONS = {
    "evaluation": [
        "At the end {p} has", "So {p} now has", "The final number for {p} is", "Now {p} is left with",
        "After all this, {p} has", "How many does {p} have? Exactly",
    ],
    "calibration": ["In the end {p} has", "The last value of {p} is", "Result for {p}:", "Finally {p} has"],
    "distillation": ["Total of {p}:", "What has {p} now?", "Count for {p} ="],
}  # fmt: skip


def counter(draw: Draw) -> Item:
    """Two counters and the question for the one that k of the steps change."""
    layouts, questions = LAYOUTS[draw.split], QUESTIONS[draw.split]
    layout = draw.deal("layout", layouts)
    question = draw.deal("question", questions, turn=draw.index // len(layouts))
    rank = draw.deal("rank", range(4))
    people = draw.rng.sample(FIVE_LETTERS[draw.split], 2)
    while True:
        values = [_walk(draw.rng, draw.k), _walk(draw.rng, NUM_STEPS - draw.k)]
        wrong = _wrong(draw.rng, *values)
        if sum(number < values[0][-1] for number in wrong) == rank and values[0][-1] not in values[0][:-1]:
            break
    answer = str(values[0][-1])
    return draw.item(
        prompt=f"{_told(draw.rng, layout, people, values)}\n{question.format(p=people[0])}",
        answer=answer,
        choices=draw.choices(answer, [str(number) for number in wrong]),
        template=template_id(" ".join(layout), question),
        short_cut=str(values[0][-2]) if draw.k else "",
    )


def _walk(rng: Random, num_steps: int) -> list[int]:
    """A start and the value after each step of 1, 2 or 3."""
    values = [rng.choice(DIGITS)]
    for _ in range(num_steps):
        values.append(rng.choice([v for v in DIGITS if 1 <= abs(v - values[-1]) <= 3]))
    return values


def _wrong(rng: Random, mine: list[int], other: list[int]) -> list[int]:
    """Three wrong numbers: where an early stop ends, where one that skips all ends, the other's end, any."""
    likely = [*mine[-2:-1], mine[0], other[-1], *rng.sample(DIGITS, len(DIGITS))]
    return [number for number in dict.fromkeys(likely) if number != mine[-1]][:3]


def _told(rng: Random, layout: tuple[str, ...], people: list[str], values: list[list[int]]) -> str:
    """Both starts, then the steps of both in random order, each person's in their own."""
    start, gain, loss, between = layout
    facts = [start.format(p=name, x=walk[0]) for name, walk in zip(people, values, strict=True)]
    rng.shuffle(facts)
    order = [which for which, walk in enumerate(values) for _ in walk[1:]]
    rng.shuffle(order)
    at = [0, 0]
    for which in order:
        at[which] += 1
        change = values[which][at[which]] - values[which][at[which] - 1]
        facts.append((gain if change > 0 else loss).format(p=people[which], d=abs(change)))
    lines = [fact[0].upper() + fact[1:] for fact in facts] if between in (". ", "\n") else facts
    return between.join(lines) + ("" if between == "\n" else ".")
