"""Tools reach the model: by its chat template, or written out where that drops them."""

import json

import pytest
from tiny import byte_tokenizer

from fastpath.tool_prompt import chat_text, shows_tools
from serve.prompts import PromptError
from serve.prompts import chat_text as serve_text
from serve.tools import split_calls

DROPS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHOWS = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}"
    "{% for call in m.tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}{% endfor %}"
)
NAMES = ("look_up", "pay")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in NAMES]


def call(name, arguments):
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Pay Ann."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("look_up", '{"who": "Ann"}'), call("pay", {"to": "é<b>"})],
    },
    {"role": "tool", "tool_call_id": "x", "content": "found"},
    {"role": "tool", "tool_call_id": "x", "content": "paid"},
    {"role": "user", "content": "Thanks."},
]


def tokenizer(template):
    made = byte_tokenizer()
    made.chat_template = template
    return made


def test_a_template_that_drops_tools_is_told_from_one_that_shows_them():
    assert shows_tools(tokenizer(SHOWS)) and not shows_tools(tokenizer(DROPS))
    assert not shows_tools(tokenizer("{{ raise_exception('no') }}"))


def test_dropped_tools_calls_and_results_are_written_out():
    text = chat_text(tokenizer(DROPS), TALK, TOOLS)
    parts = [part.split("|>") for part in text.split("<|")[1:]]
    roles, (system, _, calls, results, *_) = zip(*parts, strict=True)
    assert roles == ("system", "user", "assistant", "user", "user", "assistant")
    assert system.startswith("Be brief.\n\nYou are a function calling AI model.")
    for tool in TOOLS:
        assert json.dumps(tool) in system
    rest, found = split_calls(calls, NAMES)
    assert not rest
    assert [json.loads(one["function"]["arguments"]) for one in found] == [{"who": "Ann"}, {"to": "é<b>"}]
    assert results.count("<tool_response>") == 2 and "found" in results and "paid" in results


def test_a_template_that_shows_tools_does_it_itself_and_reads_arguments_as_objects():
    text = chat_text(tokenizer(SHOWS), TALK, TOOLS)
    assert "function calling" not in text and '{"who": "Ann"}' in text


def test_without_tools_a_chat_is_the_template_s_own():
    plain = [TALK[0], TALK[1]]
    want = tokenizer(DROPS).apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    assert chat_text(tokenizer(DROPS), plain, None) == want
    assert chat_text(tokenizer(DROPS), plain, []) == want


def test_earlier_calls_are_shown_where_no_tool_may_be_called_now():
    text = chat_text(tokenizer(DROPS), TALK, None)
    assert "function calling" not in text and text.count("<tool_call>") == 2


def test_serve_shows_dropped_tools_too_and_refuses_in_one_line():
    assert serve_text(tokenizer(DROPS), TALK, TOOLS) == chat_text(tokenizer(DROPS), TALK, TOOLS)
    with pytest.raises(PromptError, match="chat template refuses"):
        serve_text(tokenizer("{{ raise_exception('no') }}"), TALK, TOOLS)
