"""hops: six people, each with one boss, in one cycle; the asked person is k hops before the answer.

k = 1 is a look-up: the fact about the asked person names the answer. One cycle and one answer serve every k,
only the name and the digit in the question change; items of one cycle share a `source`. Every name stands
twice in the facts, so the most frequent, first and last name are at chance. The short cut, always a choice,
is who is k - 1 hops away: for k = 1 the asked person, who for every k is one of the choices.
"""

from fastpath.items.item import Draw, Item, digest, template_id
from fastpath.items.pools import FIVE_LETTERS

NUM_PEOPLE = 6

# (the fact that b is one hop from a, what stands between two facts, what b is to a)
LAYOUTS = {
    "evaluation": [
        ("{a}'s boss is {b}", ". ", "boss"), ("{a} reports to {b}", ". ", "manager"),
        ("{b} teaches {a}", ". ", "teacher"), ("{a} -> {b}", "\n", "leader"),
        ("The mentor of {a} is {b}", "\n", "mentor"), ("{a} is trained by {b}", ", ", "trainer"),
        ("{b} is captain of {a}", "; ", "captain"),
    ],
    "calibration": [
        ("{a}'s supervisor is {b}", ". ", "supervisor"), ("{a} works for {b}", "; ", "employer"),
        ("{b} advises {a}", ". ", "adviser"), ("{a}: {b}", "\n", "chief"),
    ],
    "distillation": [
        ("{a} answers to {b}", ". ", "head"), ("{a} => {b}", "\n", "director"),
        ("{a} learns from {b}", ", ", "tutor"),
    ],
}  # fmt: skip
QUESTIONS = {
    "evaluation": [
        "The level {k} {r} of {a} is", "Going up from {a}, {r} number {k} is",
        "{r} number {k} above {a}:", "Starting at {a} and counting up, {r} {k} is",
        "Level {k} above {a} is the {r}", "Above {a}, at step {k}, the {r} is",
    ],
    "calibration": [
        "The {r} at level {k} over {a} is", "Counting from {a}, {r} number {k} is",
        "Over {a}, {r} {k} is", "Up from {a}, at level {k}, we find",
    ],
    "distillation": ["{r} {k} of {a}:", "Who is {k} above {a}? It is", "Climbing {k} from {a} leads to"],
}  # fmt: skip


def hops(draw: Draw) -> Item:
    """One cycle, and the question for the k-th boss of the person k hops before the answer."""
    layouts, questions = LAYOUTS[draw.split], QUESTIONS[draw.split]
    layout = draw.deal("layout", layouts)
    question = draw.deal("question", questions, turn=draw.index // len(layouts))
    fact, between, relation = layout
    # Each is one hop from the next in this list: the answer is the first, the asked person the k-th after it.
    people = draw.rng.sample(FIVE_LETTERS[draw.split], NUM_PEOPLE)
    facts = [fact.format(a=a, b=b) for a, b in zip(people[1:] + people[:1], people, strict=True)]
    draw.rng.shuffle(facts)
    context = between.join(facts) + ("" if between == "\n" else ".")
    answer, short_cut, asked = people[0], people[1], people[draw.k]
    others = draw.rng.sample([name for name in people if name not in (answer, short_cut, asked)], 2)
    wrong = list(dict.fromkeys([short_cut, asked, *others]))[:3]
    line = question.format(k=draw.k, a=asked, r=relation)
    return draw.item(
        prompt=f"{context}\n{line[0].upper()}{line[1:]}",
        answer=answer,
        choices=draw.choices(answer, wrong),
        template=template_id("".join(layout), question),
        source=digest(draw.split, context, question, length=16),
        short_cut=short_cut,
    )
