"""Texts that the original writes by itself: framed by its template, all their own words learnt, kept."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import byte_tokenizer, tiny_llama

import distill.own_texts
from distill.examples import row_examples
from distill.own_data import Row
from distill.own_texts import NAME, OPENINGS, QUESTIONS, Frame, chat, own_texts, questions
from distill.self_data import Sampler
from fastpath.errors import UserError
from fastpath.own_answers import write_answers

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path))


def tokenizer(*, chats=True):
    made = byte_tokenizer()
    made.chat_template = TEMPLATE if chats else None
    return made


HOW = {"name": NAME, "weights": "w", "seed": 0, "sampler": Sampler(max_new_tokens=12), "num": 4, "at_once": 4}


def written(model, tokenizer, **changes):
    return own_texts(lambda: model, tokenizer, **{**HOW, **changes})


def never():
    raise AssertionError("the model was loaded")


def test_frame_is_what_the_template_writes_around_the_users_words():
    assert chat(tokenizer()) == Frame("<user>", "</s><assistant>")
    plain = tokenizer(chats=False)
    assert chat(plain) == Frame(plain.bos_token or plain.eos_token)


def test_all_own_words_are_learnt_and_the_header_is_not():
    made = tokenizer()
    rows = written(tiny_llama(), made)
    assert rows and all(row.data["text"].startswith("<user>") for row in rows)
    for example in row_examples(rows, made, max_tokens=64, name="own"):
        assert example.counts == (False,) * 6 + (True,) * (len(example.ids) - 6)


@torch.no_grad()
def test_a_finished_question_is_answered_and_one_cut_off_is_the_text(monkeypatch):
    said = iter([[("why?", True), ("because I", False), ("", True)], [("so.", True)]])

    def script(model, tokenizer, prompts, **how):
        turn = next(said)
        assert len(turn) == len(prompts)
        return [{"answer": text, "finished": finished} for text, finished in turn]

    monkeypatch.setattr(distill.own_texts, "sampled", script)
    rows = written(None, tokenizer(), num=3)
    assert [row.data["text"] for row in rows] == ["<user>why?</s><assistant>so.", "<user>because I"]


def test_texts_are_written_once_and_do_not_depend_on_the_batch():
    model = tiny_llama()
    together = written(model, tokenizer())
    assert own_texts(never, tokenizer(), **HOW) == together  # nothing is missing: the model is not loaded
    assert written(model, tokenizer(), num=6)[:4] == together
    assert not {r.data["text"] for r in written(model, tokenizer(), seed=1)} & {
        r.data["text"] for r in together
    }


def test_two_runs_at_once_write_them_once(caplog):
    caplog.set_level(logging.INFO, logger="fastpath")
    model, made = tiny_llama(), tokenizer()
    with ThreadPoolExecutor() as pool:
        later = []

        def load():
            if not later:
                later.append(pool.submit(own_texts, never, made, **HOW))
                until = time.monotonic() + 60  # it would load the model, did it not wait for us
                while "we wait" not in caplog.text and not later[0].done() and time.monotonic() < until:
                    time.sleep(0.01)
            return model

        assert own_texts(load, made, **HOW) == later[0].result()
    assert "another process is working there; we wait" in caplog.text


def test_a_tokenizer_that_cannot_begin_is_one_clear_line():
    made = tokenizer(chats=False)
    made.bos_token = made.eos_token = None
    with pytest.raises(UserError, match=r"distill.own_texts: .* no token to begin with; 0 works"):
        chat(made)


def test_what_was_written_is_checked_against_what_is_evaluated():
    (text,) = Row("here", "own", {"text": "<user>Why?", "start": 6}).texts
    assert text == "Why?"


@torch.no_grad()
def test_a_question_in_plain_text_ends_with_its_mark_or_line(monkeypatch):
    turns = [
        [
            (" is it? It", False),
            (" one\nmore", False),
            (" goes on", False),
            (" was it?", False),
            ("\nNo", True),
        ],
        [(" Yes. \n", True), (" No", False), ("\n", True)],
    ]
    said = iter(turns)

    def script(model, tokenizer, prompts, **how):
        return [{"answer": text, "finished": finished} for text, finished in next(said)]

    monkeypatch.setattr(distill.own_texts, "sampled", script)
    rows = written(None, tokenizer(), name=QUESTIONS, num=5, at_once=5)
    assert [row.data["text"] for row in rows] == [
        "Question: What is it?\nAnswer: Yes.", "Question: Which one\nAnswer: No", "Question: Why goes on",
        "Question: How was it?",
    ]  # fmt: skip
    assert [row.data["text"][row.data["start"] :][:4] for row in rows] == [" is ", " one", " goe", " was"]


def test_questions_begin_as_the_tokenizer_begins_a_text():
    plain = byte_tokenizer()
    begins = plain.bos_token is not None and plain.bos_token_id in plain("")["input_ids"]
    assert questions(plain)[0].header == (plain.bos_token if begins else "") + "Question: What"
    assert len(questions(plain)) == len(OPENINGS)
    rows = written(tiny_llama(), plain, name=QUESTIONS, num=len(OPENINGS) + 1)
    assert rows and {row.where for row in rows} == {QUESTIONS}
    assert {r.data["text"] for r in rows}.isdisjoint(r.data["text"] for r in written(tiny_llama(), plain))


@torch.no_grad()
def test_what_a_model_goes_on_with_is_not_stripped():
    model, made = tiny_llama(), byte_tokenizer()
    model.generation_config.eos_token_id = None
    prompts = [f"Question: {opening}" for opening in OPENINGS]
    said = write_answers(model, made, prompts, max_new_tokens=16, raw=True)
    for prompt, one in zip(prompts, said, strict=True):
        ids = made(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        after = model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1] :]
        assert one["answer"] == made.decode(after, skip_special_tokens=True)
