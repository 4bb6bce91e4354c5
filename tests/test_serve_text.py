"""Tokens to text and messages to tokens."""

import pytest
from tiny import byte_tokenizer

from serve.prompts import PromptError, plain_text, prompt_tokens
from serve.text_stream import TextStream
from serve.worker import room_for

TEXTS = ["plain words", "grüße, 漢字 und 🙂!", "a\n\nb  c", "🙂" * 5, ""]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pieces_join_to_the_whole_text_and_hold_whole_characters(text, size):
    tokenizer = byte_tokenizer()
    tokens = tokenizer(text).input_ids
    stream = TextStream(tokenizer, stop=())
    pieces = [stream.push(tokens[i : i + size]) for i in range(0, len(tokens), size)]
    assert "".join([*pieces, stream.finish()]) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("stop", "left"), [(["END"], "one "), (["ne"], "o"), (["ENDx", "zz"], None), (["E", "ND"], "one ")]
)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_text_ends_before_a_stop_string_however_it_arrives(stop, left, size):
    tokenizer = byte_tokenizer()
    text = "one END two"
    tokens = tokenizer(text).input_ids
    stream = TextStream(tokenizer, stop)
    given = ""
    for i in range(0, len(tokens), size):
        given += stream.push(tokens[i : i + size])
        if stream.stopped:
            break
    given += "" if stream.stopped else stream.finish()
    assert given == (text if left is None else left)
    assert stream.stopped == (left is not None)


def test_what_could_become_a_stop_string_is_held_back_only_so_long():
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer, ["STOP"])
    assert stream.push(tokenizer("say ST").input_ids) == "say "
    assert stream.push(tokenizer("AY").input_ids) == "STAY"


def job(**changes):
    return {"messages": None, "prompt": None, "tools": None, "tier": "fast", "new_tokens": None,
            "default_new_tokens": 10, "context_tokens": 20} | changes  # fmt: skip


def test_chat_goes_through_the_models_template_or_plainly():
    tokenizer = byte_tokenizer()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    tokens = prompt_tokens(tokenizer, job(messages=messages))
    assert tokenizer.decode(tokens) == plain_text(messages) == "System: be brief\nUser: hi\nAssistant:"
    tokenizer.chat_template = TEMPLATE
    tokens = prompt_tokens(tokenizer, job(messages=messages))
    assert tokenizer.decode(tokens) == "<system>be brief<user>hi<assistant>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [999]},
        {"messages": [{"role": "user"}], "tools": [{"type": "x"}]},
    ],
)
def test_prompts_that_cannot_be_asked_are_refused(wrong):
    with pytest.raises(PromptError):
        prompt_tokens(byte_tokenizer(), job(**wrong))


def test_a_template_that_raises_is_a_refusal():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    with pytest.raises(PromptError, match="no system message"):
        prompt_tokens(tokenizer, job(messages=[{"role": "user", "content": "x"}]))


def test_an_answer_gets_the_room_that_the_prompt_leaves():
    assert room_for(5, job()) == 10
    assert room_for(15, job()) == 5
    assert room_for(15, job(new_tokens=5)) == 5
    for prompt, asked in ((15, 6), (20, None), (21, None)):
        with pytest.raises(PromptError, match="takes 20 in all"):
            room_for(prompt, job(new_tokens=asked))
