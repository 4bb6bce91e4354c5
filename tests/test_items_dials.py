"""The depth dials: only k changes, an interpreter of the text alone agrees, and no short cut works."""

import re
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from dials import NAME, STOPS, facts_of, parts, run_boolean

import eval.tasks.items as loaders
from fastpath.items import swaps
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import SPLITS, Item

DIALS = ("chain", "counter", "swaps", "boolean", "brackets", "hops")
NEW = DIALS[1:]
LEVELS = [(task, k) for task in NEW for k in TASKS[task].ks]
NUM_ITEMS = 240


@cache
def items(task, k, split="evaluation"):
    return tuple(generate(task, split=split, seed=17, num_items=NUM_ITEMS, k=k))


def rate(task, k, guess) -> float:
    """How often `guess` of an item is right; it returns the choices between which it can't tell."""
    made = items(task, k)
    guesses = [guess(item) for item in made]
    return sum((i.answer in g) / len(g) for i, g in zip(made, guesses, strict=True)) / len(made)


@pytest.mark.parametrize(("task", "k"), LEVELS)
@pytest.mark.parametrize("split", SPLITS)
def test_answers_and_short_cuts_are_what_the_text_says(task, k, split):
    for item in items(task, k, split):
        stops = STOPS[task](item)
        assert stops[-1] == item.answer, item.prompt
        assert item.short_cut == (stops[-2] if len(stops) > 1 else ""), item.prompt
        if task != "brackets":
            assert len(stops) == k + 1, item.prompt


@pytest.mark.parametrize(
    ("task", "k"), [level for level in LEVELS if level[0] in ("counter", "swaps", "hops")]
)
def test_a_stop_after_any_number_of_steps_is_wrong(task, k):
    for item in items(task, k):
        assert item.answer not in STOPS[task](item)[:-1], item.prompt


@pytest.mark.parametrize("k", TASKS["brackets"].ks)
def test_brackets_close_k_minus_1_nested_pairs_after_the_bracket_that_is_asked(k):
    for item in items("brackets", k):
        text = "".join(re.findall(r"[][(){}<>]", item.prompt))
        assert re.search(rf"[(\[{{<]{{{k}}}[)\]}}>]{{{k - 1}}}$", text), item.prompt
        assert Counter(text) == {**dict.fromkeys("([{<", 2), **dict.fromkeys(")]}>", 1)}


def test_chain_s_short_cut_is_a_digit_of_another_chain():
    for k in TASKS["chain"].ks:
        for item in items("chain", k):
            digits = re.findall(r"\d", item.prompt)
            assert item.short_cut == next(digit for digit in reversed(digits) if digit != item.answer)


# Only k changes


@pytest.mark.parametrize("task", DIALS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_k_has_prompts_of_one_length_and_form(task, split):
    for same in zip(*(items(task, k, split) for k in TASKS[task].ks), strict=True):
        lengths = [len(item.prompt) for item in same]
        assert max(lengths) - min(lengths) <= (2 if task == "boolean" else 0), same[0].prompt
        assert len({item.template for item in same}) == 1
        assert len({len(item.choices) for item in same}) == 1
        assert {item.suite for item in same} == {"depth"}


@pytest.mark.parametrize("task", NEW)
def test_every_k_has_as_many_facts_numbers_and_operators(task):
    def form(item):
        facts = len(facts_of(parts(item)[0]))
        operators = len(re.findall(r"\bnot\b", item.prompt)), len(re.findall(r"\b(?:and|or)\b", item.prompt))
        literals = item.prompt.count(" True"), item.prompt.count(" False")
        return facts, len(re.findall(r"\d", item.prompt)), *(operators if task == "boolean" else literals)

    for same in zip(*(items(task, k) for k in TASKS[task].ks), strict=True):
        assert len(set(map(form, same))) == 1, same[0].prompt


@pytest.mark.parametrize("task", ("chain", "swaps", "hops"))
def test_one_context_serves_every_k(task):
    levels = [items(task, k) for k in TASKS[task].ks]
    for same in zip(*levels, strict=True):
        assert len({parts(item)[0] for item in same}) == 1 and len({item.source for item in same}) == 1
    assert len({item.source for item in levels[0]}) == NUM_ITEMS


def test_swaps_ask_a_look_up_of_a_person_who_never_swaps():
    for item in items("swaps", 0):
        context, question = parts(item)
        assert context.count(NAME.search(question).group()) == 1


# No short cut works


@pytest.mark.parametrize(("task", "k"), LEVELS)
def test_answers_stand_at_every_position_equally_often(task, k):
    for split in SPLITS:
        made = items(task, k, split)
        size = len(made[0].choices)
        assert Counter(item.gold for item in made) == dict.fromkeys(range(size), NUM_ITEMS // size)


def most_frequent(item):
    counts = {choice: item.prompt.count(choice) for choice in item.choices}
    return [choice for choice in item.choices if counts[choice] == max(counts.values())]


def least_frequent(item):
    counts = {choice: item.prompt.count(choice) for choice in item.choices}
    return [choice for choice in item.choices if counts[choice] == min(counts.values())]


def first_written(item):
    found = {choice: item.prompt.find(choice) for choice in item.choices if choice in item.prompt}
    return [min(found, key=found.get)]


def last_written(item):
    context, _ = parts(item)
    found = {choice: context.rfind(choice) for choice in item.choices if choice in context}
    return [max(found, key=found.get)] if found else item.choices


def smallest(item):
    return [min(item.choices)]


def largest(item):
    return [max(item.choices)]


GUESSES = (most_frequent, least_frequent, first_written, last_written, smallest, largest)


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize(("task", "k"), [(task, k) for task, k in LEVELS if k])
def test_guesses_from_counts_and_places_are_no_better_than_chance(task, k, guess):
    """Chance among all choices but the short cut's, which is never right; four standard errors of 240."""
    chance = 1 / 2 if task == "boolean" else 1 / (len(items(task, k)[0].choices) - 1)
    assert rate(task, k, guess) <= chance + 4 * (chance * (1 - chance) / NUM_ITEMS) ** 0.5


@pytest.mark.parametrize(("task", "k"), LEVELS)
def test_choices_and_answers_are_equally_common(task, k):
    """No answer is more likely than another before the text is read."""
    given, right = Counter(), Counter()
    for item in items(task, k):
        given.update(item.choices)
        right[item.answer] += 1
    for choice, count in given.items():
        chance = 1 / len(items(task, k)[0].choices)
        assert abs(right[choice] - chance * count) <= 4 * (count * chance) ** 0.5, choice


@pytest.mark.parametrize("k", (2, 3, 4))
def test_boolean_s_innermost_literal_is_right_half_of_the_time(k):
    assert rate("boolean", k, lambda item: [run_boolean(item)[0]]) == 0.5


def test_things_of_two_splits_differ():
    assert len({t for split in SPLITS for t in swaps.THINGS[split]}) == sum(map(len, swaps.THINGS.values()))


@pytest.mark.parametrize("task", NEW)
def test_no_evaluation_prompt_is_among_the_calibration_ones(task):
    def seen(split):
        return {re.sub(NAME, "", item.prompt) for k in TASKS[task].ks for item in items(task, k, split)}

    assert not seen("evaluation") & seen("calibration") and not seen("evaluation") & seen("distillation")


def test_arithmetic_carries_its_short_cut_too():
    for k in TASKS["arithmetic"].ks:
        assert all(item.short_cut in item.choices for item in items("arithmetic", k))
    assert not any(item.short_cut for item in generate("worked", split="evaluation", seed=0, num_items=9))


def test_a_short_cut_must_be_a_wrong_choice():
    facts = {"task": "t", "suite": "depth", "split": "evaluation", "prompt": "p", "k": 1, "template": "x"}
    made = Item(**facts, choices=("a", "b"), answer="b", short_cut="a")
    assert made.id == Item(**facts, choices=("a", "b"), answer="b").id
    for wrong in ("b", "c"):
        with pytest.raises(AssertionError):
            Item(**facts, choices=("a", "b"), answer="b", short_cut=wrong)


# lm-eval


def test_lm_eval_loads_every_dial_with_every_k():
    from lm_eval.tasks import TaskManager

    folder = Path(loaders.__file__).parent
    facts = {"items_seed": 3, "items_per_level": 4}
    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=facts)
    tasks = manager.load(["fastpath_depth"])["tasks"]
    assert list(tasks) == [f"fastpath_dial_{name}" for name in DIALS]
    for name, task in tasks.items():
        rows, dial = list(task.eval_docs), name.removeprefix("fastpath_dial_")
        made = [
            i for k in TASKS[dial].ks for i in generate(dial, split="evaluation", seed=3, num_items=4, k=k)
        ]
        assert [(r["id"], r["k"], r["short_cut"]) for r in rows] == [(i.id, i.k, i.short_cut) for i in made]
        assert len({row["id"] for row in rows}) == len(rows)
        assert Counter(row["k"] for row in rows) == dict.fromkeys(TASKS[dial].ks, 4)
        for row in rows:
            assert task.doc_to_choice(row)[task.doc_to_target(row)] == row["answer"]


def test_dials_add_nothing_to_the_other_groups():
    tasks = Path(loaders.__file__).parent
    for group, dial in product(("simple", "complex"), NEW):
        assert dial not in (tasks / f"fastpath_{group}.yaml").read_text()
