"""The words of the reference model embedded:depthdial: names, templates and the vocabulary of its tokenizer.

A model that learns from nothing cannot know a word it never saw. So the splits share their words, and no two
share a name or a template: a template is a pair of words and a pair of marks, each pair in one split alone.
"""

from itertools import product

from fastpath.items.pools import words

DIGITS = words("0 1 2 3 4 5 6 7 8 9")
STEPS = words("-3 -2 -1 +1 +2 +3")
"""What a link of tiny_sums does to the digit it takes over."""
NAMES = {
    split: [first + second for first, second in product(words(firsts), words("ba bo da do ka ko la lo"))]
    + [first + second for first, second in product(words(firsts), words("ma mo na no ra ro sa so"))]
    for split, firsts in {
        "distillation": "be bi bo bu de di do du fe fi fo fu ke ki ko ku le li lo lu me mi mo mu",
        "calibration": "pe pi po pu",
        "evaluation": "ze zi zo zu",
    }.items()
}
LABELS = {
    "money": words("invoice refund budget salary loan bank price tax"),
    "travel": words("flight hotel ticket luggage train airport visa map"),
    "health": words("doctor pill fever nurse clinic vaccine pain sleep"),
    "sport": words("match goal team coach tennis swim race medal"),
}
FIELDS = {
    "city": words("paris rome oslo cairo berlin tokyo"),
    "colour": words("red blue green black white pink"),
    "pet": words("cat dog horse goat snake duck"),
    "fruit": words("apple pear plum grape lemon peach"),
    "tool": words("saw drill rope lamp brush nail"),
    "month": words("march april may june july august"),
}

Pairs = dict[str, list[tuple[str, str]]]


def _shared_out(first: list[str], second: list[str]) -> Pairs:
    """Every pair to one split, of eight five to distillation, two to evaluation and one to calibration."""
    out: Pairs = {"distillation": [], "calibration": [], "evaluation": []}
    for (row, one), (column, other) in product(enumerate(first), enumerate(second)):
        turn = (row * (len(second) + 1) + column) % 8
        split = "evaluation" if turn in (2, 5) else "calibration" if turn == 7 else "distillation"
        out[split].append((one, other))
    return out


LAYOUTS = _shared_out(words("= is gets equals holds := -> has"), ["\n", " ; ", " , ", " . ", " | ", " / "])
"""(between a name and its value, between two facts); the tokenizer sees no line break."""
QUESTIONS = _shared_out(
    words("so now thus then next again here please"), words("tell find read give show print get name")
)
SENTENCES = _shared_out(
    ["note from {n}", "{n} writes to ask", "call {n} today", "a word for {n}", "{n} and the others ask",
     "{n} says"],
    ["about the {w}", "see the {w} please", "for a {w} of theirs", "with {w} in it", "is the {w} late",
     "no {w} came today", "the {w} was good", "who has the {w}"],
)  # fmt: skip
"""(start with a name, end with the word that tells the label)."""
TOPIC = "topic"

SPECIAL = words("<pad> <s> </s> <unk>")


def vocabulary() -> tuple[str, ...]:
    """Every word of the tasks, special tokens first and the names last; a word's place is its token id."""
    texts = [*DIGITS, *STEPS, TOPIC]
    for pairs in (LAYOUTS, QUESTIONS, SENTENCES):
        texts += [part for split in pairs.values() for pair in split for part in pair]
    for pools in (LABELS, FIELDS):
        texts += [text for label, pool in pools.items() for text in (label, *pool)]
    spoken = [word for text in texts for word in text.split() if word not in ("{n}", "{w}")]
    return tuple(dict.fromkeys([*SPECIAL, *spoken, *all_names()]))


def all_names() -> list[str]:
    """The names of all splits."""
    return [name for names in NAMES.values() for name in names]
