"""The complex tasks, each checked by an evaluator of the text that shares no code with its generator."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from fastpath.items import chain as chains
from fastpath.items import worked as problems
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import SPLITS

COMPLEX = ("worked", "arithmetic", "chain")
DIALS = [(task, k) for task in COMPLEX for k in TASKS[task].ks]
CHOICE_DIALS = [(task, k) for task, k in DIALS if task != "worked"]
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


def items(task, split="evaluation", *, k=None, num_items=200, seed=31):
    return generate(task, split=split, seed=seed, num_items=num_items, k=k)


# Any of the three


@pytest.mark.parametrize(("task", "k"), DIALS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_level_has_enough_distinct_items(task, split, k):
    made = items(task, split, k=k, num_items=300)
    assert len({item.id for item in made}) == 300 and {item.k for item in made} == {k}


@pytest.mark.parametrize(("task", "k"), CHOICE_DIALS)
@pytest.mark.parametrize("split", SPLITS)
def test_choices_are_of_one_length_and_gold_stands_everywhere_equally_often(task, split, k):
    made = items(task, split, k=k)
    for item in made:
        assert len(item.choices) == 4 and len({len(choice) for choice in item.choices}) == 1
    assert Counter(item.gold for item in made) == dict.fromkeys(range(4), 50)


# worked


@pytest.mark.parametrize("split", SPLITS)
def test_worked_spans_are_exactly_the_results(split):
    for item in items("worked", split):
        steps = list(STEP.finditer(item.answer))
        assert item.steps == tuple(step.span(4) for step in steps) and len(steps) == item.k
        for left, operation, right, result in (step.groups() for step in steps):
            assert OPERATIONS[operation](int(left), int(right)) == int(result)
            assert operation != "/" or int(left) % int(right) == 0


@pytest.mark.parametrize("split", SPLITS)
def test_worked_steps_need_the_step_before(split):
    for item in items("worked", split):
        assert all(before[3] == after[0] for before, after in pairwise(STEP.findall(item.answer)))


@pytest.mark.parametrize("split", SPLITS)
def test_worked_results_cannot_be_copied(split):
    for item in items("worked", split):
        results = [item.answer[start:end] for start, end in item.steps]
        shown = re.findall(r"\d+", item.prompt)
        assert len(set(results)) == item.k and not set(results) & set(shown)
        assert all(2 <= int(result) <= 99 for result in results)
        for result, (start, _) in zip(results, item.steps, strict=True):
            assert result not in re.findall(r"\d+", item.answer[:start])


def test_worked_operands_are_those_of_the_question():
    for item in items("worked"):
        written = [number for left, _, right, _ in STEP.findall(item.answer)[:1] for number in (left, right)]
        written += [right for _, _, right, _ in STEP.findall(item.answer)[1:]]
        asked = re.findall(r"\d+", item.prompt)
        assert sorted(written[:2]) == sorted(asked[:2]) and written[2:] == asked[2:]


def test_worked_prompts_are_short_and_have_no_slot_left():
    for item in (item for split in SPLITS for item in items("worked", split)):
        assert not set("{}") & set(item.prompt + item.answer)
        # words, signs and digits, and a space before a number: about SmolLM2's tokens
        assert len(re.findall(r"[A-Za-z]+|\d| (?=\d)|[^\w\s]", f"{item.prompt} {item.answer}")) <= 170


def test_worked_splits_share_no_thing():
    pools = [set(problems.THINGS[split]) for split in SPLITS]
    assert len(set.union(*pools)) == sum(map(len, pools))


# arithmetic

# Phrases that name the operation before its numbers, as the infix they mean.
REWRITES = [
    (r"add (\d+) to (\d+)", r"\2 plus \1"),
    (r"(\d+) groups of (\d+)", r"\2 times \1"),
    (r"take (\d+) from (\d+)", r"\2 minus \1"),
    (r"difference of (\d+) and (\d+)", r"\1 minus \2"),
    (r"product of (\d+) and (\d+)", r"\1 times \2"),
    (r"taken (\d+) times", r"times \1"),
]
# In this order: "decreased by" is no product, nor is "increased by"; "and multiply by" is no sum.
MEANINGS = [
    (re.compile(r"-|\b(minus|less|subtract|decreased|reduced|away|down|without)\b"), "-"),
    (re.compile(r"\+|\b(plus|add|increased|up|another)\b"), "+"),
    (re.compile(r"\*|\b(x|times|by)\b"), "*"),
    (re.compile(r"\band\b"), "+"),
]


def evaluate(line: str) -> list[int]:
    """First operand and the results after each operation of a question in words or signs."""
    for pattern, infix in REWRITES:
        line = re.sub(pattern, infix, line, flags=re.IGNORECASE)
    numbers = [int(number) for number in re.findall(r"\d+", line)]
    between = re.split(r"\d+", line)[1:-1]
    results = numbers[:1]
    for words, number in zip(between, numbers[1:], strict=True):
        operation = next(sign for meaning, sign in MEANINGS if meaning.search(words))
        results.append(OPERATIONS[operation](results[-1], number))
    return results


def questions(prompt: str) -> list[str]:
    """The three solved questions, each with its answer as the last word, and the open one."""
    lines = prompt.split("\n")
    size = len(lines) // 4
    return ["\n".join(lines[start : start + size]) for start in range(0, len(lines), size)]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("split", SPLITS)
def test_arithmetic_answers_and_examples_are_right(split, k):
    for item in items("arithmetic", split, k=k):
        *solved, asked = questions(item.prompt)
        results = evaluate(asked)
        assert len(solved) == 3 and len(results) == k + 1 and results[-1] == int(item.answer), asked
        for line in solved:
            question, _, shown = line.rpartition(" ")
            assert evaluate(question)[-1] == int(shown), line


@pytest.mark.parametrize("k", [1, 2])
def test_arithmetic_offers_the_short_cut_and_shows_no_answer(k):
    for item in items("arithmetic", k=k):
        *solved, asked = questions(item.prompt)
        assert str(evaluate(asked)[-2]) in item.choices and item.answer != str(evaluate(asked)[-2])
        assert item.answer not in re.findall(r"\d+", asked)
        assert item.answer not in [line.split()[-1] for line in solved]


def test_arithmetic_examples_of_two_splits_differ():
    shown = [
        {
            tuple(re.findall(r"\d+", line))
            for item in items("arithmetic", split)
            for line in questions(item.prompt)[:3]
        }
        for split in SPLITS
    ]
    assert not (shown[0] & shown[1] or shown[0] & shown[2] or shown[1] & shown[2])


# chain


def facts(prompt: str) -> list[tuple[str, str]]:
    """(variable, what it is given) of every assignment: all other words have more than one letter."""
    words = re.findall(r"\b\w\b", prompt.rpartition("\n")[0])
    return list(zip(words[::2], words[1::2], strict=True))


def interpret(prompt: str) -> tuple[dict[str, str], dict[str, int], str]:
    """Run the assignments: value and number of assignments behind every variable, and the asked one."""
    value, depth = {}, {}
    for name, given in facts(prompt):
        assert name not in value
        value[name] = given if given.isdigit() else value[given]
        depth[name] = 1 if given.isdigit() else depth[given] + 1
    (asked,) = re.findall(r"\b\w\b", prompt.rpartition("\n")[2])
    return value, depth, asked


@pytest.mark.parametrize("k", TASKS["chain"].ks)
@pytest.mark.parametrize("split", SPLITS)
def test_chain_answers_are_what_the_assignments_say(split, k):
    for item in items("chain", split, k=k):
        value, depth, asked = interpret(item.prompt)
        assert value[asked] == item.answer and depth[asked] == k


def test_chain_asks_every_k_about_one_context():
    levels = [items("chain", k=k) for k in TASKS["chain"].ks]
    for same in zip(*levels, strict=True):
        assert len({item.prompt.rpartition("\n")[0] for item in same}) == 1
        assert len({item.prompt for item in same}) == len(levels)
        assert len({len(item.prompt) for item in same}) == 1
        assert len({item.source for item in same}) == 1 and len({item.choices for item in same}) == 1
    assert len({item.source for item in levels[0]}) == len(levels[0])


def test_chain_short_cuts_are_at_chance():
    made = items("chain")
    place = Counter()
    for item in made:
        value, depth, _ = interpret(item.prompt)
        assert len(facts(item.prompt)) == 16 and max(depth.values()) == 4
        assert Counter(value.values()) == dict.fromkeys(item.choices, 4)
        place[[given for _, given in facts(item.prompt) if given.isdigit()].index(item.answer)] += 1
    assert place == dict.fromkeys(range(4), 50)


def test_chain_splits_share_no_variable():
    used = [{name for item in items("chain", split) for name, _ in facts(item.prompt)} for split in SPLITS]
    assert len(set.union(*used)) == sum(map(len, used)) == sum(map(len, chains.NAMES.values()))
