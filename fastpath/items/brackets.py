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

# The brackets stand last, as in text that goes on with the answer: with the question after them SmolLM2-135M
# is at chance even for k = 1 (0.25 of 40 calibration items); as here it falls from 0.96 to chance at k = 3.
INSTRUCTIONS = {
    "evaluation": [
        "Close the brackets in the right order.", "Every bracket is closed by its own kind, the last first.",
        "The brackets must match.", "Write the missing closing brackets.", "A string of nested brackets:",
        "Add the brackets that are still open.", "Here is a well-formed sequence of brackets.",
    ],
    "calibration": ["Balance the brackets.", "Complete the brackets.", "Finish what is open.",
                    "All that opens must close."],
    "distillation": ["Match them.", "Continue correctly.", "Nested pairs:"],
}  # fmt: skip
LABELS = {
    "evaluation": ["{s}", "Sequence: {s}", "Input and output: {s}", "Answer: {s}", "Brackets: {s}",
                   "Balanced: {s}"],
    "calibration": ["Text: {s}", "It goes: {s}", "Solution: {s}", "All of it: {s}"],
    "distillation": ["Result: {s}", "Line: {s}", "Code: {s}"],
}  # fmt: skip


def brackets(draw: Draw) -> Item:
    """A sequence that goes on with a closing bracket, k - 1 pairs after the one it closes."""
    instructions, labels = INSTRUCTIONS[draw.split], LABELS[draw.split]
    instruction = draw.deal("instruction", instructions)
    label = draw.deal("label", labels, turn=draw.index // len(instructions))
    asked = draw.deal("asked", list(CLOSES))
    answer = CLOSES[asked]
    while True:
        text = _sequence(draw.rng, asked, draw.k)
        short_cut = next(bracket for bracket in reversed(text) if bracket in CLOSES.values())
        if short_cut != answer:
            break
    return draw.item(
        prompt=f"{instruction}\n{label.format(s=' '.join(text))}",
        answer=answer,
        choices=draw.choices(answer, [bracket for bracket in CLOSES.values() if bracket != answer]),
        template=template_id(instruction, label),
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
