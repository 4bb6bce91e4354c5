"""swaps: five people with a thing each, five swaps; k of them decide what the asked person ends up with.

k is the length of the backward path: the asked person's last swap, the partner's last one before it, and so
on to whoever had the thing at the start (the number of swaps that name the asked person would understate it).
Every context has one person for each k from 0 (never swaps: a look-up) to 4, so one context serves every k
and only the name in the question changes; items of one context share a `source`. All five things are choices.
The start of no person met before on the path is the answer, so every early stop is wrong: the short cut is
what the person after k - 1 of the swaps had at the start.
"""

from random import Random

from fastpath.items.item import Draw, Item, digest, template_id
from fastpath.items.pools import FIVE_LETTERS, words

NUM_PEOPLE = 5
NUM_SWAPS = 5  # each is on the path of two people: 0 + 1 + 2 + 3 + 4 = 2 * 5

# One token each after a space in the SmolLM2 tokenizer, because they are choices.
THINGS = {
    "calibration": words("ball bell belt card cup drum flag fork map pen"),
    "evaluation": words("book coin hat key lamp ring rope shoe spoon watch"),
    "distillation": words("bag bowl box brush chair clock doll knife pipe vase"),
}
# (start, swap, what stands between two facts)
LAYOUTS = {
    "evaluation": [
        ("{p} has the {x}", "{p} and {q} swap", ". "), ("{p} holds the {x}", "{p} trades with {q}", ". "),
        ("{p} owns the {x}", "{p} and {q} exchange what they own", ". "),
        ("{p}: {x}", "{p} <-> {q}", "\n"), ("the {x} is with {p}", "{p} and {q} switch things", ". "),
        ("{p} starts with the {x}", "then {p} swaps with {q}", ", "),
        ("{p} took the {x}", "{p} and {q} trade what they hold", "\n"),
    ],
    "calibration": [
        ("{p} brought the {x}", "{p} swaps gifts with {q}", ". "), ("{p} = {x}", "swap {p} and {q}", "\n"),
        ("{p} carries the {x}", "{p} and {q} trade loads", ". "),
        ("{p} got the {x}", "{p} and {q} make a swap", "; "),
    ],
    "distillation": [
        ("{p} keeps the {x}", "{p} trades goods with {q}", ". "), ("{p} with {x}", "{p} / {q}", "\n"),
        ("{p} picked the {x}", "{p} and {q} barter", ", "),
    ],
}  # fmt: skip
QUESTIONS = {
    "evaluation": [
        "At the end {p} has the", "Now {p} has the", "So {p} is left with the", "Finally {p} holds the",
        "After all this {p} owns the", "What does {p} have now? It is the",
    ],
    "calibration": ["In the end {p} has the", "Thus {p} goes home with the", "The thing of {p} is the",
                    "Last with {p} is the"],
    "distillation": ["By now {p} has the", "Who checks {p} finds the", "With {p} there is the"],
}  # fmt: skip


def swaps(draw: Draw) -> Item:
    """One context and the question for its person with a backward path of k swaps."""
    layouts, questions = LAYOUTS[draw.split], QUESTIONS[draw.split]
    layout = draw.deal("layout", layouts)
    question = draw.deal("question", questions, turn=draw.index // len(layouts))
    people = draw.rng.sample(FIVE_LETTERS[draw.split], NUM_PEOPLE)
    things = draw.rng.sample(THINGS[draw.split], NUM_PEOPLE)
    events, paths = _events(draw.rng)
    start, swap, between = layout
    facts = [start.format(p=name, x=thing) for name, thing in zip(people, things, strict=True)]
    facts += [swap.format(p=people[one], q=people[other]) for one, other in events]
    if between != ", ":
        facts = [fact[0].upper() + fact[1:] for fact in facts]
    context = between.join(facts) + ("" if between == "\n" else ".")
    path = paths[draw.k]
    answer = things[path[-1]]
    return draw.item(
        prompt=f"{context}\n{question.format(p=people[path[0]])}",
        answer=answer,
        choices=draw.choices(answer, [thing for thing in things if thing != answer]),
        template=template_id(" ".join(layout), question),
        source=digest(draw.split, context, question, length=16),
        short_cut=things[path[-2]] if draw.k else "",
    )


def _events(rng: Random) -> tuple[list[list[int]], list[list[int]]]:
    """Swaps of which person goes with whom, and five backward paths, the one of k swaps at index k.

    About one draw in ninety has a path of each length and none that comes back to where it ends.
    """
    while True:
        events = [rng.sample(range(NUM_PEOPLE), 2) for _ in range(NUM_SWAPS)]
        paths = sorted((_path(events, person) for person in range(NUM_PEOPLE)), key=len)
        every_length = [len(path) for path in paths] == list(range(1, NUM_PEOPLE + 1))
        if every_length and all(path[-1] not in path[:-1] for path in paths):
            return events, paths


def _path(events: list[list[int]], person: int) -> list[int]:
    """Who had the person's last thing, backward in time, from the person to its first owner."""
    path = [person]
    for one, other in reversed(events):
        if path[-1] in (one, other):
            path.append(other if path[-1] == one else one)
    return path
