"""Short tasks of many kinds: different rows, right answers, none of which is a task of the catalogue."""

import inspect
import re

import pytest
from tiny import byte_tokenizer

from distill.data import ITEMS, Numbered, read_data
from distill.own_texts import NAME as TEXTS
from distill.own_texts import QUESTIONS
from distill.practice import KINDS, practice_rows
from distill.practice import NAME as PRACTICE
from distill.practice_words import THINGS, WORDS
from fastpath import config_distill
from fastpath.config_distill import DistillConfig
from fastpath.errors import UserError
from fastpath.items import catalog
from fastpath.items.catalog import TASKS, generate

NOT_IN_THE_TEXT = {"category", "relation", "purpose", "sentiment", "contains"}


def texts(num, kinds=tuple(KINDS), seed=0):
    return [(row.data["prompt"], row.data["answer"]) for row in practice_rows(num, kinds, seed=seed)]


def test_the_recipe_knows_the_kinds():
    assert tuple(KINDS) == config_distill.KINDS
    assert not KINDS.keys() & TASKS.keys()
    assert {ITEMS, TEXTS, QUESTIONS, PRACTICE} == set(config_distill.OWN_SOURCES)


@pytest.mark.parametrize(
    "keys, said",
    [
        ({"data": ({"source": "practice"},)}, "data: 'practice' is the name of a source of ours; ./practice"),
        ({"practice": 5, "practice_kinds": ("cell", "chess")}, "practice_kinds: 'chess' is none of category"),
    ],
)
def test_names_that_are_taken_or_unknown_are_one_clear_line(keys, said):
    with pytest.raises(ValueError, match=said):
        DistillConfig(**keys)


def test_rows_are_different_and_the_same_for_a_seed():
    rows = texts(6000)
    assert rows == texts(6000) != texts(6000, seed=1)
    assert len({prompt for prompt, _ in rows}) == 6000  # one answer to each
    assert rows[:100] == texts(100)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_a_few_words_after_a_prompt_that_does_not_end_in_space(kind):
    for prompt, answer in texts(300, [kind]):
        assert prompt == prompt.strip() and answer == answer.strip() and 1 <= len(answer.split()) <= 2
        assert "{" not in prompt + answer
        if kind not in NOT_IN_THE_TEXT:
            assert answer in prompt


def test_no_word_is_of_two_kinds():
    words = [word for kind in WORDS.values() for word in kind]
    assert len(set(words)) == len(words)


def test_yes_is_said_of_what_the_list_names():
    for prompt, answer in texts(200, ["contains"]):
        things = [word for word in re.findall(r"\w+", prompt) if word in THINGS]
        assert (answer == "yes") == (len(set(things)) < len(things)), prompt


def test_no_prompt_is_of_the_catalogue_nor_any_of_its_labels_an_answer():
    practised = set(texts(6000))
    items = [item for task in TASKS for item in generate(task, split="evaluation", seed=0, num_items=40)]
    assert not {prompt for prompt, _ in practised} & {item.prompt for item in items}
    labels = {answer for _, answer in practised}
    for task in ("doc_type", "routing"):
        assert not labels & set(inspect.getmodule(getattr(catalog, task)).LABELS)


def test_more_rows_than_there_are():
    with pytest.raises(UserError, match=r"distill.practice: speech have \d+ different tasks, not 99999"):
        practice_rows(99_999, ["speech"], seed=0)


def test_practice_comes_in_its_share():
    config = DistillConfig(
        tasks=("doc_type",), items_per_task=4, practice=30, practice_weight=3,
        practice_kinds=("cell", "note"), steps=50, batch_rows=4, max_tokens=512,
    )  # fmt: skip
    rows = Numbered(read_data(config, seed=0), config, byte_tokenizer(), seed=0, packed=False)
    kinds = [rows[n][1][0].kind for n in range(len(rows))]
    assert kinds.count("answer") == 150 and kinds.count("item") == 50
    assert {name.split()[0] for name in map(rows.name, range(200))} == {"answer", "item"}
