"""Tool-calling data of somebody else as an outside check: JSON lines in the format of BFCL (Apache-2.0).

A line has `question` (messages), `function` (schemas) and `ground_truth` (function -> argument -> values that
are accepted, "" where it may be left out). Calls are judged by the same classes of errors as ours; here too
the right call stands beside one wrong call of each class that the item allows.
https://github.com/ShishirPatil/gorilla/tree/main/berkeley-function-call-leaderboard
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from eval.agent.tools import Call, parse_call
from fastpath.errors import ConfigError

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "float": (int, float), "number": (int, float), "boolean": (bool,),
    "array": (list,), "tuple": (list,), "dict": (dict,), "object": (dict,),
}  # fmt: skip


@dataclass(frozen=True)
class OutsideItem:
    """One question with one right call."""

    id: str
    question: str
    functions: Mapping[str, Mapping[str, Any]]
    """Name -> schema."""
    name: str
    accepted: Mapping[str, Sequence[Any]]

    @property
    def right(self) -> Call:
        """A right call: every argument that it must have, with the first value that is accepted."""
        must = {name: values[0] for name, values in self.accepted.items() if "" not in values}
        return Call(self.name, must)


def read_bfcl(path: str, *, limit: int) -> list[OutsideItem]:
    """The first items of a file that ask for exactly one call of flat arguments; others have no choices.

    Raises ConfigError for a file that is not there, is in another format, or has no such item.
    """
    try:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        items = [item for row in rows if (item := _item(row)) is not None]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"eval.agent.bfcl: {path}: {type(error).__name__}: {error!s:.80}") from None
    if not items:
        raise ConfigError(f"eval.agent.bfcl: {path}: no item asks for exactly one call")
    return items[:limit]


def _item(row: Mapping[str, Any]) -> OutsideItem | None:
    truth = row.get("ground_truth") or []
    if len(truth) != 1:
        return None
    ((name, accepted),) = truth[0].items()
    if not all(accepted.values()) or any(isinstance(v, dict) for values in accepted.values() for v in values):
        return None
    (turn,) = row["question"]
    functions = {function["name"]: function["parameters"] for function in row["function"]}
    question = "\n".join(message["content"] for message in turn)
    item = OutsideItem(row["id"], question, functions, name, accepted)
    return None if judge_call(item, item.right) else item  # a truth that its own schema refuses


def judge_call(item: OutsideItem, call: Call | None) -> str:
    """ "" for a right call, else the class of the error (checker.ERRORS)."""
    if call is None:
        return "malformed_call"
    if call.tool != item.name:
        return "wrong_tool"
    schema = item.functions.get(call.tool, {})
    known = schema.get("properties", {})
    if set(call.arguments) - set(known):
        return "hallucinated_argument"
    if set(schema.get("required", ())) - set(call.arguments):
        return "malformed_call"
    for name, value in call.arguments.items():
        if not _fits(value, TYPES.get(known[name].get("type", ""), (object,))):
            return "malformed_call"
    for name, values in item.accepted.items():
        if name not in call.arguments:
            if "" not in values:
                return "misread_constraint"
        elif not any(_same(call.arguments[name], value) for value in values):
            return "misread_constraint"
    return ""


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether it is of one of the types; True is no number."""
    if isinstance(value, bool):
        return bool in kinds or object in kinds
    return isinstance(value, kinds)


def _same(given: Any, value: Any) -> bool:
    """Equal as BFCL sees it: of texts, case, blanks and some marks do not count."""
    if isinstance(given, str) and isinstance(value, str):
        return _plain(given) == _plain(value)
    if isinstance(given, list) and isinstance(value, list):
        return len(given) == len(value) and all(map(_same, given, value))
    return bool(given == value)


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


def outside_choices(item: OutsideItem) -> list[tuple[str, str]]:
    """[(text, class of error)] in random order; "" is the right one."""
    rng = Random(f"bfcl/{item.id}")
    texts = [item.right.text]
    for make in (_other_function, _other_name, _other_value, _slip):
        if text := make(item, rng):
            texts.append(text)
    made = {text: judge_call(item, parse_outside(text)) for text in texts}
    rng.shuffle(texts)
    return [(text, made[text]) for text in dict.fromkeys(texts)]


def _other_function(item: OutsideItem, rng: Random) -> str:
    others = [name for name in item.functions if name != item.name]
    return Call(rng.choice(others), item.right.arguments).text if others else ""


def _other_name(item: OutsideItem, rng: Random) -> str:
    arguments = item.right.arguments
    if not arguments:
        return ""
    name = rng.choice(list(arguments))
    return Call(item.name, {f"{k}_value" if k == name else k: v for k, v in arguments.items()}).text


def _other_value(item: OutsideItem, rng: Random) -> str:
    """A number that is off; texts are left alone, for nothing says what else might be meant."""
    numbers = [
        name
        for name, value in item.right.arguments.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not numbers:
        return ""
    name = rng.choice(numbers)
    arguments = item.right.arguments
    call = Call(item.name, {**arguments, name: arguments[name] + rng.choice((1, 2, 10))})
    return call.text if judge_call(item, call) else ""


def _slip(item: OutsideItem, rng: Random) -> str:
    return item.right.text.replace("{", "", 1)


OUTSIDE_CALL: Callable[[str], re.Match[str] | None] = re.compile(
    r"\s*([\w.]+)\s*(\{.*\})\s*", re.DOTALL
).fullmatch


def parse_outside(text: str) -> Call | None:
    """As parse_call, with dots in names of functions."""
    match = OUTSIDE_CALL(text)
    if match is None:
        return None
    call = parse_call(f"f {match.group(2)}")
    return Call(match.group(1), call.arguments) if call else None


def outside_prompt(item: OutsideItem) -> str:
    """The functions, and what is asked."""
    lines = [f"{name} {json.dumps(_types(schema))}" for name, schema in item.functions.items()]
    return "\n".join(["Tools:", *lines, "", f"Task: {item.question}", ">"])


def _types(schema: Mapping[str, Any]) -> dict[str, str]:
    return {name: facts.get("type", "any") for name, facts in schema.get("properties", {}).items()}
