"""brackets: twelve brackets, four of them still open; which closing one comes next?

The bracket to close is followed by a nest of k - 1 pairs, closed again, which have to be matched to see that
it is the last one open; k = 1 is a look-up: it is the last bracket of all. For every k the text holds each of
the four kinds of bracket twice opened and once closed, in 4 closed pairs: those of no nest stand before. So
no count of brackets tells the answer. All four closing brackets are choices, each the answer equally often.
The short cut is the last closing bracket written: the answer of who doesn't see what it has closed.
"""

from random import Random

from fastpath.items.item import Draw, Item, template_id

CLOSES = {"(": ")", "[": "]", "{": "}", "<": ">"}

# What is said before the brackets and after them.
OPENINGS = {
    "evaluation": [
        "Brackets so far: {s}", "Sequence: {s}", "Close the brackets in the right order.\n{s}",
        "A program prints {s}", "The brackets must match: {s}", "Input: {s}",
        "Every bracket is closed by its own kind, the last opened first.\n{s}",
    ],
    "calibration": [
        "Unfinished brackets: {s}", "Complete this: {s}", "Balance the brackets.\n{s}", "Text: {s}",
    ],
    "distillation": ["Given {s}", "Match them:\n{s}", "Brackets: {s}"],
}  # fmt: skip
QUESTIONS = {
    "evaluation": [
        "The next closing bracket is", "To close next:", "The bracket that must be closed next needs",
        "Next comes the closing bracket", "Output:", "The first bracket still missing is",
    ],
    "calibration": ["Next bracket to write:", "It goes on with", "The next one to close it is",
                    "Closing bracket:"],
    "distillation": ["Continue with", "Missing next:", "Now write"],
}  # fmt: skip


def brackets(draw: Draw) -> Item:
    """A sequence and the question for its next closing bracket, k - 1 pairs after the one it closes."""
    openings, questions = OPENINGS[draw.split], QUESTIONS[draw.split]
    opening = draw.deal("opening", openings)
    question = draw.deal("question", questions, turn=draw.index // len(openings))
    asked = draw.deal("asked", list(CLOSES))
    answer = CLOSES[asked]
    while True:
        text = _sequence(draw.rng, asked, draw.k)
        short_cut = next(bracket for bracket in reversed(text) if bracket in CLOSES.values())
        if short_cut != answer:
            break
    return draw.item(
        prompt=f"{opening.format(s=' '.join(text))}\n{question}",
        answer=answer,
        choices=draw.choices(answer, [bracket for bracket in CLOSES.values() if bracket != answer]),
        template=template_id(opening, question),
        short_cut=short_cut,
    )


def _sequence(rng: Random, asked: str, k: int) -> list[str]:
    """Twelve brackets: open ones with closed pairs between them, `asked`, and a closed nest of k - 1."""
    kinds = rng.sample(list(CLOSES), len(CLOSES))
    nest, pairs = kinds[: k - 1], kinds[k - 1 :]
    parts = [[kind] for kind in CLOSES if kind != asked] + [[kind, CLOSES[kind]] for kind in pairs]
    rng.shuffle(parts)
    before = [bracket for part in parts for bracket in part]
    return [*before, asked, *nest, *(CLOSES[kind] for kind in reversed(nest))]
