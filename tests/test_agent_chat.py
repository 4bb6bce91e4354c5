"""The same items as free tool calls: OpenAI's format there, and what a model answers back."""

import json

import pytest

from eval.agent.chat import Written, judge, messages, read_answer, schemas
from eval.agent.choices import choice_steps
from eval.agent.tasks import DOMAINS, generate_tasks
from eval.agent.tools import ASK_HUMAN, TYPES, parse_call

TASKS = generate_tasks(split="evaluation", seed=2, num_tasks=32)


def as_openai(text):
    """A call as a server answers it."""
    call = parse_call(text)
    function = {"name": call.tool, "arguments": json.dumps(dict(call.arguments))}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": function}]}


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=lambda domain: domain.name)
def test_schemas_name_every_tool_with_its_types(domain):
    made = {schema["function"]["name"]: schema["function"]["parameters"] for schema in schemas(domain)}
    assert set(made) == {*domain.tools, ASK_HUMAN}
    for name, tool in domain.tools.items():
        assert made[name]["required"] == list(tool.takes)
        assert set(made[name]["properties"]) == set(tool.takes) and not made[name]["additionalProperties"]
        for facts in made[name]["properties"].values():
            assert facts["type"] in TYPES


def test_a_choice_and_the_same_call_in_openai_s_format_are_judged_alike():
    for task in TASKS:
        for step in choice_steps(task):
            for choice in step.choices:
                if parse_call(choice.text) is not None:
                    found = judge(task, step.step, read_answer(task, as_openai(choice.text)))
                    assert (found["error"], found["executes"], found["reversible"]) == (
                        choice.error,
                        choice.executes,
                        choice.reversible,
                    )


def test_messages_hold_the_right_calls_so_far_and_their_results():
    task = next(task for task in TASKS if task.k == 5)
    said = messages(task, 3)
    assert [message["role"] for message in said] == ["system", "user"] + ["assistant", "tool"] * 3
    assert task.goal in said[1]["content"]
    for number in range(3):
        call, result = said[2 + 2 * number], said[3 + 2 * number]
        (made,) = call["tool_calls"]
        assert json.loads(made["function"]["arguments"]) == dict(task.gold[number].arguments)
        assert result["tool_call_id"] == made["id"] and result["content"] == task.observations[number]
    json.dumps(said)


@pytest.mark.parametrize(
    ("content", "calls", "attempted"),
    [
        ('<tool_call>{"name": "a", "arguments": {"x": 1}}</tool_call>', True, True),
        ('{"name": "a", "arguments": "{\\"x\\": 1}"}', True, True),
        ('a {"x": 1}', True, True),
        ('<tool_call>{"name": "a", "arguments": {"x": 1}', False, True),
        ("I would have to guess.", False, False),
        ("", False, False),
        (None, False, False),
        ("[1, 2]", False, False),
        ("3", False, False),
    ],
)
def test_calls_are_found_in_text_too(content, calls, attempted):
    written = read_answer(TASKS[0], {"role": "assistant", "content": content})
    assert (written.call is not None, written.attempted) == (calls, attempted)
    if calls:
        assert (written.call.tool, dict(written.call.arguments)) == ("a", {"x": 1})


@pytest.mark.parametrize(
    "function", [{}, {"name": 3}, {"name": "a", "arguments": "{"}, {"name": "a", "arguments": [1]}]
)
def test_broken_tool_calls_are_malformed(function):
    written = read_answer(TASKS[0], {"tool_calls": [{"function": function}]})
    assert written == Written(None, True)
    assert judge(TASKS[0], 0, written)["error"] == "malformed_call"
