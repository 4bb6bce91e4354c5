"""Calls of tools in a model's text, and which of them could be taken back."""

import json
import re
import uuid
from collections.abc import Collection, Iterable
from typing import Any

from serve.api import Tool

# As Hermes, Qwen and SmolLM write calls: a JSON object of name and arguments between these marks.
CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
ESCAPED = r"\u003c"  # < in a JSON string

Call = dict[str, Any]


def split_calls(text: str, names: Collection[str]) -> tuple[str, list[Call]]:
    """(the text without them, the calls of known tools in OpenAI's shape); what is not whole stays text."""
    calls: list[Call] = []

    def take(match: re.Match[str]) -> str:
        call = _call(match[1], names)
        if call is None:
            return match[0]
        calls.append(call)
        return ""

    rest = CALL.sub(take, text)
    return (rest.strip() if calls else text), calls


def written_calls(deltas: Iterable[dict[str, Any]]) -> str:
    """Calls that a server has told from the text and streamed in parts, as a model writes them.

    `deltas`: OpenAI's `tool_calls` of the chunks, in order; those of one call have its index.
    """
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for delta in deltas:
        index, part = delta.get("index", 0), delta.get("function") or {}
        names[index] = names.get(index, "") + (part.get("name") or "")
        arguments[index] = arguments.get(index, "") + (part.get("arguments") or "")
    written = [
        f'{{"name": {json.dumps(name)}, "arguments": {arguments[index] or "{}"}}}'
        for index, name in names.items()
    ]
    # In JSON a < can only be part of a string; there it may not look like a mark.
    return "".join(f"<tool_call>{call.replace('<', ESCAPED)}</tool_call>" for call in written)


def _call(text: str, names: Collection[str]) -> Call | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    name, arguments = data.get("name"), data.get("arguments", {})
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def reversible_names(tools: Collection[Tool], allowed: Collection[str]) -> set[str]:
    """Names of tools whose calls can be taken back: on the operator's list, or marked as only reading.

    The marks are MCP's annotations, which the client vouches for: readOnlyHint, and no destructiveHint.
    """
    names = set(allowed)
    for tool in tools:
        extra = {**(tool.model_extra or {}), **(tool.function.model_extra or {})}
        hints = extra.get("annotations")
        if isinstance(hints, dict) and hints.get("readOnlyHint") is True and not hints.get("destructiveHint"):
            names.add(tool.function.name)
    return names


def same_calls(some: Collection[Call], others: Collection[Call]) -> bool:
    """Whether these are the same tools with the same arguments in the same order."""
    return _essence(some) == _essence(others)


def _essence(calls: Collection[Call]) -> list[tuple[str, Any]]:
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
