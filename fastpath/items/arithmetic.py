"""arithmetic: a sum, difference or small product (k = 1), or one and one more step (k = 2), nothing written.

All choices of an item have the same number of digits: digits are tokens, and a longer answer is less likely.
The short cut, always a choice, is the result after k - 1 operations: the first operand for k = 1.
"""

from random import Random

from fastpath.items.item import Draw, Item, template_id

# How a first operation is said and how a second one is added to it.
STYLES = {
    "evaluation": [
        {"+": "{a} + {b}", "-": "{a} - {b}", "*": "{a} * {b}", "then +": " + {c}", "then -": " - {c}"},
        {"+": "{a} plus {b}", "-": "{a} minus {b}", "*": "{a} times {b}",
         "then +": " plus {c}", "then -": " minus {c}"},
        {"+": "start with {a}, add {b}", "-": "start with {a}, subtract {b}",
         "*": "start with {a}, multiply by {b}", "then +": ", add {c}", "then -": ", subtract {c}"},
        {"+": "the sum of {a} and {b}", "-": "the difference of {a} and {b}",
         "*": "the product of {a} and {b}", "then +": ", plus {c}", "then -": ", minus {c}"},
        {"+": "add {b} to {a}", "-": "take {b} from {a}", "*": "multiply {a} by {b}",
         "then +": ", then add {c}", "then -": ", then take away {c}"},
        {"+": "{a} increased by {b}", "-": "{a} decreased by {b}", "*": "{a} multiplied by {b}",
         "then +": ", increased by {c}", "then -": ", decreased by {c}"},
        {"+": "{a} apples plus {b} apples", "-": "{a} apples minus {b} apples", "*": "{a} apples times {b}",
         "then +": " plus {c} apples", "then -": " minus {c} apples"},
    ],
    "calibration": [
        {"+": "{a}+{b}", "-": "{a}-{b}", "*": "{a}*{b}", "then +": "+{c}", "then -": "-{c}"},
        {"+": "take {a} and add {b}", "-": "take {a} and subtract {b}", "*": "take {a} and multiply by {b}",
         "then +": " and then add {c}", "then -": " and then subtract {c}"},
        {"+": "the total of {a} and {b}", "-": "{a} reduced by {b}", "*": "{b} groups of {a}",
         "then +": " and another {c}", "then -": " reduced by {c}"},
        {"+": "{a} dollars plus {b} dollars", "-": "{a} dollars minus {b} dollars",
         "*": "{a} dollars times {b}", "then +": " plus {c} dollars", "then -": " minus {c} dollars"},
    ],
    "distillation": [
        {"+": "({a} + {b})", "-": "({a} - {b})", "*": "({a} x {b})",
         "then +": " + ({c})", "then -": " - ({c})"},
        {"+": "{a} and {b} together", "-": "{a} without {b}", "*": "{a} taken {b} times",
         "then +": " and {c}", "then -": " without {c}"},
        {"+": "begin at {a}, go up {b}", "-": "begin at {a}, go down {b}", "*": "begin at {a}, scale by {b}",
         "then +": ", go up {c}", "then -": ", go down {c}"},
    ],
}  # fmt: skip

# {e} is the expression, {E} the same with a capital.
LAYOUTS = {
    "evaluation": [
        "{e} =", "{E} is equal to", "What is {e}? It is", "Problem: {e}. Solution:", "Calculate {e}. Answer:",
        "Evaluate {e}. The result is",
    ],
    "calibration": ["{E} equals", "Solve this: {e}. It gives", "Question: {e}\nAnswer:",
                    "Work out {e}. You get"],
    "distillation": ["{e} ->", "How much is {e}?", "Task: {e}\nOutcome:"],
}  # fmt: skip

# Solved lines before the question, by k: (operands, operations); no two splits share one.
EXAMPLES: dict[str, dict[int, list[tuple[tuple[int, ...], str]]]] = {
    "evaluation": {
        1: [((21, 6), "+"), ((8, 5), "-"), ((4, 2), "*")],
        2: [((21, 6, 3), "+-"), ((8, 5, 1), "-+"), ((4, 6, 5), "*-")],
    },
    "calibration": {
        1: [((6, 3), "-"), ((31, 5), "+"), ((2, 3), "*")],
        2: [((6, 3, 2), "-+"), ((31, 5, 4), "+-"), ((3, 8, 2), "*+")],
    },
    "distillation": {
        1: [((3, 3), "*"), ((7, 2), "-"), ((41, 7), "+")],
        2: [((3, 3, 4), "*-"), ((7, 2, 3), "-+"), ((41, 7, 2), "+-")],
    },
}
RANGES = {1: range(2, 10), 2: range(11, 30)}
"""First operands by the number of digits that all choices of the item have."""


def arithmetic(draw: Draw) -> Item:
    """One expression of k operations after three solved ones in the same words; choices are near misses."""
    styles, layouts = STYLES[draw.split], LAYOUTS[draw.split]
    style = draw.deal("style", styles)
    layout = draw.deal("layout", layouts, turn=draw.index // len(styles))
    solved = EXAMPLES[draw.split][draw.k]
    operations = (draw.deal("first", "++--*") + draw.deal("second", "+-"))[: draw.k]
    # two digits are rarer: the smallest models are at chance there even for k = 1
    num_digits = draw.deal("digits", (1, 1, 2))
    shown = [_results(*line)[-1] for line in solved]
    operands, results = _numbers(draw.rng, operations, num_digits=num_digits, avoid=shown)
    lines = [f"{_line(layout, style, *line)} {result}" for line, result in zip(solved, shown, strict=True)]
    lines.append(_line(layout, style, operands, operations))
    answer, short_cut = str(results[-1]), str(results[-2])
    near = [str(results[-1] + sign * miss) for miss in range(1, 3 * len(answer) + 1) for sign in (-1, 1)]
    near = [text for text in near if len(text) == len(answer) and text not in (short_cut, "0")]
    wrong = [short_cut, *draw.rng.sample(near, 2)]
    return draw.item(
        prompt="\n".join(lines),
        answer=answer,
        choices=draw.choices(answer, wrong),
        template=template_id(" ".join(style.values()), layout),
        short_cut=short_cut,
    )


def _results(operands: tuple[int, ...], operations: str) -> list[int]:
    """The first operand, then the result after each operation, from left to right."""
    results = [operands[0]]
    for operation, right in zip(operations, operands[1:], strict=True):
        left = results[-1]
        results.append({"+": left + right, "-": left - right, "*": left * right}[operation])
    return results


def _numbers(
    rng: Random, operations: str, *, num_digits: int, avoid: list[int]
) -> tuple[tuple[int, ...], list[int]]:
    """Operands and results of one length in digits; the last result is no operand and none to avoid."""
    low, high = (1, 9) if num_digits == 1 else (10, 99)
    while True:
        operands = (rng.choice(RANGES[num_digits]), *(rng.randrange(2, 10) for _ in operations))
        results = _results(operands, operations)
        fresh = results[-1] not in (*operands, *avoid, results[-2])
        if fresh and all(low <= result <= high for result in results):
            return operands, results


def _line(layout: str, style: dict[str, str], operands: tuple[int, ...], operations: str) -> str:
    """The question in the words of the style and layout, without its result."""
    text = style[operations[0]].format(a=operands[0], b=operands[1])
    for operation, operand in zip(operations[1:], operands[2:], strict=True):
        text += style[f"then {operation}"].format(c=operand)
    return layout.format(e=text, E=text[0].upper() + text[1:])
