"""worked: word problems with a written solution; scored is every step's result (GSM8K, arXiv 2110.14168).

An item is a scene, which gives the first step, and k - 1 later steps in one style. Each step takes the result
of the one before, and the expression stands before its result ("12 - 5 = 7"): the result has to be
computed, while the prose and the operands around it are only copied and so are the control. No number of the
question is a result and no two results are equal, so no result can be found by copying.
"""

from random import Random

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import MEN, WOMEN

THINGS = {
    "calibration": ("pens", "eggs", "coins", "plants", "toys", "shells", "forks", "bricks"),
    "evaluation": ("books", "apples", "cards", "stamps", "stones", "cups", "balls", "boxes", "keys"),
    "distillation": ("shirts", "nuts", "plates", "beads", "maps", "flowers", "hats"),
}

# (operation, sentence of the question, sentence of the solution); {n} name, {t} things, {e} expression
SCENES = {
    "evaluation": [
        ("*", "{n} buys {a} bags with {b} {t} in each bag.", "The bags hold {e} {t}."),
        ("+", "{n} has {a} old {t} and {b} new {t}.", "{n} starts with {e} {t}."),
        ("-", "{n} had {a} {t}, but {b} of them broke.", "That leaves {e} {t}."),
        ("*", "{n} fills {a} shelves with {b} {t} on every shelf.", "On the shelves are {e} {t}."),
        ("+", "{n} got {a} {t} on Monday and {b} {t} on Tuesday.", "In both days {n} got {e} {t}."),
        ("-", "A shop had {a} {t} and sold {b}. {n} took the rest.", "{n} took {e} {t}."),
        ("*", "Each of {a} aunts sends {n} {b} {t}.", "The aunts send {e} {t}."),
        ("+", "{n} keeps {a} {t} at home and {b} {t} at work.", "Together that makes {e} {t}."),
    ],
    "calibration": [
        ("*", "{n} opens {a} packs of {b} {t}.", "The packs have {e} {t} in them."),
        ("+", "{n} owns {a} large {t} and {b} small {t}.", "At first {n} owns {e} {t}."),
        ("-", "There were {a} {t} in a drawer until {n} threw away {b}.", "The drawer has {e} {t} now."),
        ("*", "{n} earns {b} {t} a day for {a} days.", "Over these days {n} earns {e} {t}."),
    ],
    "distillation": [
        ("*", "{n} sets out {a} rows of {b} {t}.", "The rows come to {e} {t}."),
        ("+", "{n} brings {a} {t} and Dad brings {b} {t} for {n}.", "Both bring {e} {t}."),
        ("-", "{n} took {a} {t} on a trip and lost {b}.", "{n} came home with {e} {t}."),
    ],
}

# One style: what is asked last, and the later operations, each (question, solution); {x} the operand
STYLES = {
    "evaluation": [
        (
            "How many {t} does {n} have now?",
            {
                "+": ("Then {n} finds {x} more.", "After finding more, {n} has {e} {t}."),
                "-": ("Then {n} gives {x} to a friend.", "After the gift, {n} has {e} {t}."),
                "*": ("Then the number grows to {x} times as many.", "After growing, there are {e} {t}."),
                "/": ("Then {n} makes {x} equal piles and keeps one pile.", "One pile has {e} {t}."),
            },
        ),
        (
            "How many {t} are there for {n}?",
            {
                "+": ("Next, {x} {t} arrive by mail.", "With the mail, there are {e} {t}."),
                "-": ("Next, {n} loses {x} {t}.", "Without the lost ones, there are {e} {t}."),
                "*": ("Next, a rich uncle makes it {x} times as many.", "Thanks to him, there are {e} {t}."),
                "/": (
                    "Next, {n} shares them equally in a group of {x} people.",
                    "The share of {n} is {e} {t}.",
                ),
            },
        ),
        (
            "What is the final number of {t}?",
            {
                "+": ("Mom adds {x}.", "Mom brings the number to {e}."),
                "-": ("A thief steals {x}.", "The thief brings the number down to {e}."),
                "*": ("A wizard multiplies the {t} by {x}.", "The wizard brings the number to {e}."),
                "/": ("A fire leaves only one {t} in {x}.", "The fire brings the number down to {e}."),
            },
        ),
        (
            "How many {t} does {n} end up with?",
            {
                "+": ("Later {n} buys another {x} {t}.", "Buying gives {e} {t}."),
                "-": ("Later {n} sells {x} {t}.", "Selling leaves {e} {t}."),
                "*": ("Later {n} trades each one for {x} {t}.", "Trading gives {e} {t}."),
                "/": (
                    "Later {n} splits them among {x} boxes and takes one box.",
                    "Splitting leaves {e} {t}.",
                ),
            },
        ),
        (
            "How many {t} remain?",
            {
                "+": ("A neighbor lends {n} {x} {t}.", "So now it is {e} {t}."),
                "-": ("A dog eats {x} of them.", "So only {e} {t} remain."),
                "*": ("A prize makes the total {x} times as big.", "So the prize makes it {e} {t}."),
                "/": ("Only one of every {x} {t} is kept.", "So {n} keeps {e} {t}."),
            },
        ),
        (
            "What is the total of {n} at the end?",
            {
                "+": ("In May {n} collects {x} {t}.", "The new total is {e}."),
                "-": ("In June {n} donates {x} {t}.", "The total falls to {e}."),
                "*": ("In July the collection becomes {x} times larger.", "The total rises to {e}."),
                "/": ("In August {n} divides the {t} by {x} and stores one part.", "The stored part is {e}."),
            },
        ),
    ],
    "calibration": [
        (
            "How many {t} is that?",
            {
                "+": ("After that {n} receives {x} {t}.", "Adding these, we get {e} {t}."),
                "-": ("After that {n} drops {x} {t}.", "Taking these away, we get {e} {t}."),
                "*": ("After that the amount is multiplied by {x}.", "Multiplying, we get {e} {t}."),
                "/": ("After that the amount is divided by {x}.", "Dividing, we get {e} {t}."),
            },
        ),
        (
            "How many {t} does {n} hold?",
            {
                "+": ("Grandma hands {n} {x} extra {t}.", "Including those, it is {e}."),
                "-": ("{n} uses up {x} {t}.", "Minus the used ones, it is {e}."),
                "*": ("{n} wins a game and now has {x} times as many.", "Following the win, it is {e}."),
                "/": (
                    "{n} deals them out to {x} players, one of them {n}.",
                    "Following the deal, it is {e}.",
                ),
            },
        ),
        (
            "Count the {t} at last.",
            {
                "+": ("{x} more {t} are delivered.", "The delivery makes {e} {t}."),
                "-": ("{x} {t} are returned.", "The return leaves {e} {t}."),
                "*": ("A machine makes {x} {t} out of every one.", "The machine makes {e} {t}."),
                "/": (
                    "The {t} are packed in sets of {x}, and one {t} of each set is free.",
                    "Free are {e} {t}.",
                ),
            },
        ),
        (
            "With how many {t} does {n} finish?",
            {
                "+": ("{n} borrows {x}.", "Then {n} has {e}."),
                "-": ("{n} forgets {x} on the bus.", "Then {n} is down to {e}."),
                "*": ("{n} multiplies that by {x}.", "Then {n} is up to {e}."),
                "/": ("{n} cuts that by a factor of {x}.", "Then {n} is left with {e}."),
            },
        ),
    ],
    "distillation": [
        (
            "How many {t} do we count?",
            {
                "+": ("Soon {x} {t} more turn up.", "Now we count {e} {t}."),
                "-": ("Soon {x} {t} are missing.", "Now we count just {e} {t}."),
                "*": ("Soon there are {x} times as many.", "Now we count all {e} {t}."),
                "/": ("Soon {n} has only one of every {x} left.", "Now we count no more than {e} {t}."),
            },
        ),
        (
            "What number of {t} is left for {n}?",
            {
                "+": ("{n} asks for {x} {t} and gets them.", "This raises it to {e}."),
                "-": ("{n} pays with {x} {t}.", "This lowers it to {e}."),
                "*": ("{n} is lucky and gets {x} times that number.", "Luck raises it to {e}."),
                "/": ("{n} and others, {x} people in all, take equal parts.", "Sharing lowers it to {e}."),
            },
        ),
        (
            "Give the number of {t} for {n}.",
            {
                "+": ("On Friday a visitor leaves {x} {t}.", "That day ends with {e} {t}."),
                "-": ("On Saturday a child takes {x} {t}.", "This day ends with {e} {t}."),
                "*": ("On Sunday a gift makes it {x} times as much.", "The gift ends with {e} {t}."),
                "/": (
                    "At night {n} puts them in {x} equal jars and picks one jar.",
                    "One jar contains {e} {t}.",
                ),
            },
        ),
    ],
}
LATER = "+-*/"


def worked(draw: Draw) -> Item:
    """One problem of k steps (first the scene's, then k - 1 different ones of the style) and its solution."""
    scenes, styles = SCENES[draw.split], STYLES[draw.split]
    scene = draw.deal("scene", scenes)
    ask, style = draw.deal("style", styles, turn=draw.index // len(scenes))
    names = WOMEN[draw.split] + MEN[draw.split]
    words = {"n": draw.rng.choice(names), "t": draw.rng.choice(THINGS[draw.split])}
    operations = [scene[0], *draw.rng.sample(LATER, len(LATER))[: draw.k - 1]]
    operands, results = _numbers(draw.rng, operations)
    question = [scene[1].format(a=operands[0], b=operands[1], **words)]
    solution = scene[2].format(e="{e}", **words)
    for operation, operand in zip(operations[1:], operands[2:], strict=True):
        asked, told = style[operation]
        question.append(asked.format(x=operand, **words))
        solution += " " + told.format(e="{e}", **words)
    question.append(ask.format(**words))
    answer, steps = _write_steps(solution, operations, operands, results)
    return draw.item(
        prompt=f"Question: {' '.join(question)}\nAnswer:",
        answer=answer,
        steps=steps,
        template=template_id(
            " ".join(scene), " ".join([ask, *(" ".join(texts) for texts in style.values())])
        ),
    )


def compute(left: int, operation: str, right: int) -> int:
    """Result of one step; -1 where the step is not allowed (a remainder)."""
    if operation == "/":
        return left // right if left % right == 0 else -1
    return {"+": left + right, "-": left - right, "*": left * right}[operation]


def _numbers(rng: Random, operations: list[str]) -> tuple[list[int], list[int]]:
    """Operands (one more than operations) and results, all different, results of 2 to 99."""
    while True:  # about one try in 16 succeeds for k = 4
        operands = [rng.randrange(3, 10) if operations[0] == "*" else rng.randrange(5, 50)]
        results: list[int] = []
        for operation in operations:
            left = results[-1] if results else operands[0]
            limit = 30 if operation in "+-" else 6 if results else 10
            operands.append(rng.randrange(2, limit))
            results.append(compute(left, operation, operands[-1]))
        numbers = operands + results
        if all(2 <= result <= 99 for result in results) and len(set(numbers)) == len(numbers):
            return operands, results


def _write_steps(
    solution: str, operations: list[str], operands: list[int], results: list[int]
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The solution with "left operation right = result" for each {e}, and where the results stand in it."""
    text, steps = "", []
    parts = solution.split("{e}")
    for index, operation in enumerate(operations):
        left = results[index - 1] if index else operands[0]
        text += parts[index] + f"{left} {operation} {operands[index + 1]} = "
        steps.append((len(text), len(text) + len(str(results[index]))))
        text += str(results[index])
    return text + parts[-1], tuple(steps)
