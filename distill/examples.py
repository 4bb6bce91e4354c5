"""What is learnt from: token ids and which of them count, of our items and of the user's own rows."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jinja2 import TemplateError

from distill.own_data import Row
from fastpath.data import encode, encode_spans
from fastpath.errors import UserError
from fastpath.items.item import Item

log = logging.getLogger("fastpath")

Encoded = tuple[Sequence[int], Sequence[bool]]
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Example:
    """One sequence of tokens; `counts` marks those that are learnt, never the first."""

    ids: tuple[int, ...]
    counts: tuple[bool, ...]
    kind: str
    """"item", or the form of the row: "text", "chat", "completion", "answer", "own"."""
    key: str = field(init=False)
    """sha256 of ids and counts: what a cache of the teacher's outputs knows it by."""

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.counts) and any(self.counts) and not self.counts[0]
        content = np.asarray(self.ids, dtype="<i8").tobytes() + bytes(self.counts)
        object.__setattr__(self, "key", hashlib.sha256(content).hexdigest())

    @property
    def num_learnt(self) -> int:
        """Tokens that count."""
        return sum(self.counts)


def item_examples(items: Sequence[Item], tokenizer: Any, *, max_tokens: int) -> list[Example]:
    """An example for each item, whose whole answer counts (of a worked one, not its results alone)."""
    encoded = (("item", [encode(_whole(item), tokenizer)]) for item in items)
    return _usable(encoded, max_tokens=max_tokens, name="items")


def row_examples(rows: Sequence[Row], tokenizer: Any, *, max_tokens: int, name: str) -> list[Example]:
    """The examples of rows: a text is cut into pieces of `max_tokens`, what else is longer is left out.

    Raises UserError for a chat that the template refuses, and naming the dataset if nothing is usable.
    """
    if any(row.form == "chat" for row in rows) and not tokenizer.chat_template:
        raise UserError(
            f"{name}: has chats, and the tokenizer has no chat template; give prompt and completion, or text"
        )
    encoded = ((row.form, _ENCODERS[row.form](row, tokenizer, max_tokens)) for row in rows)
    return _usable(encoded, max_tokens=max_tokens, name=name)


def _whole(item: Item) -> Item:
    return replace(item, steps=((0, len(item.answer)),)) if item.steps else item


def _usable(encoded: Iterable[tuple[str, Sequence[Encoded]]], *, max_tokens: int, name: str) -> list[Example]:
    made: list[Example] = []
    left_out: Counter[str] = Counter()
    for kind, sequences in encoded:
        for ids, counts in sequences or [((), ())]:
            if not any(counts):
                left_out["without a token to learn"] += 1
            elif len(ids) > max_tokens:
                left_out[f"longer than max_tokens={max_tokens}"] += 1
            else:
                made.append(Example(tuple(ids), tuple(counts), kind))
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it is empty"
    if not made:
        raise UserError(f"{name}: no usable example: {reasons}")
    if left_out:
        log.warning("%s: %d examples; left out are %s", name, len(made), reasons)
    return made


def _text(row: Row, tokenizer: Any, max_tokens: int) -> list[Encoded]:
    """Pieces of a text, each with the tokenizer's begin token, if it has one: all other tokens count."""
    ids = tokenizer(row.data["text"])["input_ids"] if row.data["text"].strip() else []
    begin = ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []
    body, room = ids[len(begin) :], max_tokens - len(begin)
    pieces = [begin + body[start : start + room] for start in range(0, len(body), room)]
    return [(piece, [False] + [True] * (len(piece) - 1)) for piece in pieces]


def _answer(row: Row, tokenizer: Any, max_tokens: int) -> list[Encoded]:
    prompt, answer = row.data["prompt"].rstrip(), row.data["answer"].strip()
    text = f"{prompt} {answer}"
    return [encode_spans(text, [(len(prompt), len(text))], tokenizer)] if answer else []


def _completion(row: Row, tokenizer: Any, max_tokens: int) -> list[Encoded]:
    """The completion counts, and the end token after it, where the tokenizer has one."""
    prompt, completion = row.data["prompt"], row.data["completion"]
    if not completion.strip():
        return []
    text = prompt + completion
    ids, counts = encode_spans(text, [(len(prompt), len(text))], tokenizer)
    end = tokenizer.eos_token_id
    if end is None or ids[-1] == end:
        return [(ids, [*counts[:-1], True])]
    return [([*ids, end], [*counts, True])]


def _chat(row: Row, tokenizer: Any, max_tokens: int) -> list[Encoded]:
    """The assistant's turns count: as the template marks them, else as its prefixes show."""
    messages = [dict(message) for message in row.data["messages"]]
    if not any(message["role"] == "assistant" for message in messages):
        return []
    try:
        if GENERATION.search(tokenizer.get_chat_template()):
            marked = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True)
            counts = [number > 0 and bool(mark) for number, mark in enumerate(marked["assistant_masks"])]
            return [(marked["input_ids"], counts)]
        text, spans = _assistant_spans(messages, tokenizer)
    except (TemplateError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{row.where}: the tokenizer's chat template refuses it: {reason}") from None
    return [encode_spans(text, spans, tokenizer, special=False)]


def _own(row: Row, tokenizer: Any, max_tokens: int) -> list[Encoded]:
    """What the original wrote by itself: all after the header counts, as far as there is room."""
    text, start = row.data["text"], row.data["start"]
    ids, counts = encode_spans(text, [(start, len(text))], tokenizer, special=False)
    return [(ids[:max_tokens], counts[:max_tokens])]


def _assistant_spans(messages: list[dict[str, Any]], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The whole chat as text, and where in it the assistant's turns stand, headers and final space aside.

    A turn is what its message adds to the text of those before it and the generation prompt. One that the
    template writes differently there (some drop the thoughts of earlier turns) does not count.
    """

    def text_of(messages: list[dict[str, Any]], *, ask: bool = False) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)

    whole, spans = text_of(messages), []
    for number, message in enumerate(messages):
        if message["role"] == "assistant" and number > 0:
            before = text_of(messages[:number], ask=True)
            after = text_of(messages[: number + 1])
            if whole.startswith(after) and after.startswith(before):
                spans.append((len(before), len(after.rstrip())))
    return whole, spans


_ENCODERS: dict[str, Callable[[Row, Any, int], list[Encoded]]] = {
    "chat": _chat,
    "completion": _completion,
    "answer": _answer,
    "text": _text,
    "own": _own,
}
