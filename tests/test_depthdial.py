"""The reference model embedded:depthdial: its tasks, tokenizer, training, and what its weights get right."""

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch

from benchmarks.depthdial_model import UNKNOWN, exits, new_model, new_tokenizer, part, read_facts
from benchmarks.depthdial_practice import TOKEN, practice
from benchmarks.depthdial_score import DIALS, SIMPLE, num_right
from benchmarks.train_depthdial import Recipe, loss, train
from fastpath.data import encode
from fastpath.errors import RunError
from fastpath.items.catalog import TASKS, generate
from fastpath.items.item import SPLITS
from fastpath.items.tiny import MAX_LINKS
from fastpath.items.tiny_words import DIGITS, FIELDS, LABELS, NAMES, all_names, vocabulary
from fastpath.models import load_model, load_tokenizer
from fastpath.sources import locate

EVERY_NAME = frozenset(all_names())
LEVELS = [(task, k) for task in DIALS for k in (0, 1, 2, MAX_LINKS)]
QUICK = Recipe(max_links=2, batch_size=4, warmup_steps=2, last_steps=4, apart_steps=2, max_steps=400)


@cache
def items(task, split="evaluation", k=None, num_items=40):
    return tuple(generate(task, split=split, seed=5, num_items=num_items, k=k))


def interpret(prompt):
    """Name -> (digit, links), word by word: a name opens a fact, a digit or a known name ends it."""
    known, place, facts, step = {}, None, prompt.rsplit("\n", 1)[0].split(), 0
    for word in facts:
        if place is None:
            place, step = (word, 0) if word in EVERY_NAME else (None, 0)
        elif word in DIGITS:
            known[place], place = (int(word), 0), None
        elif word in known:
            digit, links = known[word]
            known[place], place = (digit + step, links + 1), None
        elif word[0] in "+-" and word[1:] in DIGITS:
            step = int(word)
    return known


@pytest.mark.parametrize(("task", "k"), LEVELS)
@pytest.mark.parametrize("split", SPLITS)
def test_an_interpreter_finds_the_answer_after_k_links(task, k, split):
    for item in items(task, split, k):
        known = interpret(item.prompt)
        assert len(known) == 3 * (MAX_LINKS + 1)
        assert known[item.prompt.split()[-1]] == (int(item.answer), k)


@pytest.mark.parametrize("split", SPLITS)
def test_simple_answers_are_stated(split):
    for item in items("tiny_lookup", split):
        assert interpret(item.prompt)[item.prompt.split()[-1]] == (int(item.answer), 0)
    for item in items("tiny_field", split):
        context, question = item.prompt.rsplit("\n", 1)
        asked = question.split()[-1]
        assert [word for word in context.split() if word in FIELDS[asked]] == [item.answer]
    for item in items("tiny_label", split):
        told = [label for label, pool in LABELS.items() for word in item.prompt.split() if word in pool]
        assert told == [item.answer] and set(item.choices) == set(LABELS)


def test_splits_share_no_name_and_each_uses_its_own_alone():
    for one, other in combinations(SPLITS, 2):
        assert not set(NAMES[one]) & set(NAMES[other])
    for task in SIMPLE + DIALS:
        for split in SPLITS:
            said = {word for item in items(task, split) for word in item.prompt.split()}
            assert said & EVERY_NAME <= set(NAMES[split])


def test_every_word_but_the_names_was_seen_in_training():
    def said(split):
        made = [item for task in SIMPLE + DIALS for item in items(task, split, num_items=200)]
        return {word for item in made for word in (*item.prompt.split(), *item.choices)} - EVERY_NAME

    assert said("evaluation") | said("calibration") <= said("distillation")


@pytest.mark.parametrize("task", SIMPLE + DIALS)
def test_the_tokenizer_has_one_token_for_every_word(task):
    tokenizer = new_tokenizer()
    assert len(tokenizer) == len(vocabulary()) == len(set(vocabulary()))
    for split in SPLITS:
        for item in items(task, split):
            ids, counts = encode(item, tokenizer)
            assert tokenizer.unk_token_id not in ids and ids[0] == tokenizer.bos_token_id
            assert counts == [False] * (len(ids) - 1) + [True]
            assert tokenizer.decode(ids[-1:]) == item.answer
            assert ids == [TOKEN[word] for word in f"<s> {item.prompt} {item.answer}".split()]


@pytest.mark.parametrize("task", DIALS)
def test_no_short_cut_by_place_or_frequency_answers_a_dial(task):
    for k in (1, MAX_LINKS):
        made = items(task, k=k, num_items=300)
        rates = Counter()
        for item in made:
            digits = [word for word in item.prompt.split() if word in DIGITS]
            asked = item.prompt.split()[-1]
            before = item.prompt.split()[: item.prompt.split().index(asked)]
            guesses = {
                "first": digits[0],
                "last": digits[-1],
                "most frequent": Counter(digits).most_common(1)[0][0],
                "nearest": [word for word in before if word in DIGITS][-1],
            }
            rates.update(name for name, digit in guesses.items() if digit == item.answer)
        chance = len(made) / len(made[0].choices)
        assert all(rates[name] < chance + 4 * (chance * 2 / 3) ** 0.5 for name in guesses), rates


@pytest.mark.parametrize("task", DIALS)
def test_one_context_serves_every_k(task):
    for same in zip(*(items(task, k=k) for k in TASKS[task].ks), strict=True):
        assert len({item.source for item in same}) == 1
        assert len({item.prompt.rsplit("\n", 1)[0] for item in same}) == 1


def test_the_short_cut_of_a_sum_is_the_digit_one_step_before():
    for k in range(1, MAX_LINKS + 1):
        for one, other in zip(items("tiny_sums", k=k), items("tiny_sums", k=k - 1), strict=True):
            assert one.short_cut == other.answer and one.short_cut in one.choices


def test_a_target_is_what_the_interpreter_resolves_and_is_not_in_the_input():
    batch = practice(seed=0, step=3, level=2, max_links=4, batch_size=40)
    answers, hops = iter(batch.answer.tolist()), iter(batch.hops.tolist())
    for ids, at in zip(batch.ids.tolist(), batch.at.tolist(), strict=True):
        words = [vocabulary()[token] for token in ids if token]
        marked = [place for place, is_target in enumerate(at) if is_target]
        told = [(next(answers), next(hops)) for _ in marked]
        known = interpret(" ".join(words[1:-3]) + "\n")
        if len(marked) == 1:  # a simple task: the question alone
            continue
        *links, question = [known[words[place - 2]] for place in marked[:-1]] + [known[words[-1]]]
        assert [(TOKEN[str(digit)], count) for digit, count in links] == told[:-1]
        assert (TOKEN[str(question[0])], question[1] + 1) == told[-1]


def test_a_batch_is_a_function_of_its_step_alone():
    one, same, other = (practice(seed=0, step=s, level=1, max_links=3, batch_size=6) for s in (7, 7, 8))
    assert torch.equal(one.ids, same.ids) and torch.equal(one.answer, same.answer)
    assert one.ids.shape != other.ids.shape or not torch.equal(one.ids, other.ids)


def test_an_exit_is_the_model_that_ends_there_and_parting_changes_nothing():
    model = new_model(seed=0, num_blocks=4).eval()
    batch = practice(seed=0, step=0, level=1, max_links=2, batch_size=4)
    with torch.no_grad():
        shared = exits(model, batch.ids, batch.at)
        part(model)
        apart = exits(model, batch.ids, batch.at)
        whole = model(batch.ids, use_cache=False).logits[batch.at]
    assert len(apart) == 3 and len(set(model.model.layers)) == 4
    assert all(torch.equal(a, b) for a, b in zip(shared, apart, strict=True))
    assert torch.allclose(apart[-1], whole, atol=1e-5)


def test_a_hop_that_cannot_have_happened_yet_has_the_target_unknown():
    batch = practice(seed=0, step=0, level=2, max_links=3, batch_size=4)
    perfect = []
    for block in (1, 2):
        token = batch.answer.where(batch.hops <= block, UNKNOWN)
        perfect.append(torch.nn.functional.one_hot(token, len(vocabulary())) * 100.0)
    assert loss(perfect, batch) < 1e-6 < loss(perfect[::-1], batch)


def test_training_that_was_stopped_goes_on_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.train_depthdial.WINDOW", 2)
    monkeypatch.setattr("benchmarks.train_depthdial.PASS", -1.0)  # every level passes: grow, then part
    whole = train(QUICK, tmp_path / "whole")
    for stop in (3, 5, 6):
        train(QUICK, tmp_path / "parts", stop_at=stop)
    parts = train(QUICK, tmp_path / "parts")
    facts = read_facts(tmp_path / "parts/state.safetensors")
    assert facts["state"]["is_apart"] and len(whole.model.layers) == QUICK.max_links + 2
    assert facts == read_facts(tmp_path / "whole/state.safetensors")
    one, other = whole.state_dict(), parts.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_recipe_refuses_the_folder(tmp_path):
    train(QUICK, tmp_path, stop_at=1)
    with pytest.raises(RunError, match="another recipe"):
        train(replace(QUICK, seed=1), tmp_path, stop_at=2)


@cache
def shipped():
    folder = locate("embedded:depthdial").folder
    return load_model(folder, dtype=torch.float32), load_tokenizer(folder)


def test_the_shipped_model_is_a_small_stock_llama():
    model, tokenizer = shipped()
    folder = locate("embedded:depthdial").folder
    assert model.config.model_type == "llama" and 10 <= len(model.model.layers) <= 16
    assert 1e6 <= sum(p.numel() for p in model.parameters()) <= 5e6
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    assert tokenizer.get_vocab() == TOKEN


@pytest.mark.parametrize("task", SIMPLE)
def test_shipped_weights_know_the_simple_tasks(task):
    assert num_right(*shipped(), task=task, k=None, num_items=100, seed=9) >= 98


@pytest.mark.parametrize("k", range(MAX_LINKS + 1))
def test_shipped_weights_follow_every_link(k):
    for task in DIALS:
        assert num_right(*shipped(), task=task, k=k, num_items=50, seed=9) >= (47 if k < MAX_LINKS else 44)
