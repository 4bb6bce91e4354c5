"""A conversation with tools -> the text that a model reads, whether or not its chat template knows tools.

A template that drops `tools` leaves a model with no idea of them, and says nothing. There they go into the
system message, in the format on which Hermes and Qwen were trained and which small models can be shown:
https://github.com/NousResearch/Hermes-Function-Calling
"""

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

Message = dict[str, Any]
Tool = dict[str, Any]

# Templates are programs of strangers: they raise whatever they stumble over.
TEMPLATE_ERRORS = (TemplateError, TypeError, KeyError, ValueError, AttributeError)

PROBE = "qzx_probe"

HERMES = """You are a function calling AI model. You are provided with function signatures within \
<tools></tools> XML tags. You may call one or more functions to assist with the user query. Don't make \
assumptions about what values to plug into functions. Here are the available tools: <tools> {tools} </tools>
For each function call return a json object with function name and arguments within \
<tool_call></tool_call> XML tags as follows:
<tool_call>
{{"name": <function-name>, "arguments": <args-dict>}}
</tool_call>"""


def chat_text(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Tool] | None) -> str:
    """Messages and tools in OpenAI's format, up to where the model's answer begins.

    By the tokenizer's chat template, which it must have; raises TEMPLATE_ERRORS where that refuses them.
    """
    told = [_with_objects(message) for message in messages]
    calls = any(message["role"] == "tool" or message.get("tool_calls") for message in told)
    if (tools or calls) and not shows_tools(tokenizer):
        return _render(tokenizer, as_text(told, tools or ()), None)
    return _render(tokenizer, told, tools)


def shows_tools(tokenizer: Any) -> bool:
    """Whether the chat template writes the tools that it is given: tried with one of a name like no other."""
    function = {"name": PROBE, "description": PROBE, "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    try:
        return PROBE in _render(tokenizer, [{"role": "user", "content": "?"}], tools)
    except TEMPLATE_ERRORS:
        return False


def as_text(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The same with nothing but texts of system, user and assistant: tools, calls and results written out."""
    rest, written = list(messages), []
    if tools:
        own = [rest.pop(0)["content"]] if rest and rest[0]["role"] == "system" else []
        signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        system = "\n\n".join([*own, HERMES.format(tools=signatures)])
        written.append({"role": "system", "content": system})
    previous = ""
    for message in rest:
        role = message["role"]
        if role == "tool" == previous:  # results of one answer's calls are one message of the user
            written[-1]["content"] += f"\n{_response(message)}"
        elif role == "tool":
            written.append({"role": "user", "content": _response(message)})
        else:
            written.append({"role": role, "content": _with_calls(message)})
        previous = role
    return written


def call_text(name: str, arguments: Any) -> str:
    """A call as Hermes writes it; `arguments`: an object, or text that is none."""
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {shown}}}\n</tool_call>'


def _with_calls(message: Message) -> str:
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    calls = [call_text(function["name"], function.get("arguments", {})) for function in functions]
    return "\n".join([message["content"], *calls] if message["content"] else calls)


def _response(message: Message) -> str:
    return f"<tool_response>\n{message['content']}\n</tool_response>"


def _with_objects(message: Message) -> Message:
    """Arguments of calls as the objects that templates write as JSON, not as OpenAI's text of them."""
    told = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        told["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _object(call["function"])}}
            for call in message["tool_calls"]
        ]
    return told


def _object(function: dict[str, Any]) -> Any:
    given = function.get("arguments") or {}
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def _render(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Tool] | None) -> str:
    return str(
        tokenizer.apply_chat_template(
            list(messages), tools=list(tools) if tools else None, add_generation_prompt=True, tokenize=False
        )
    )
