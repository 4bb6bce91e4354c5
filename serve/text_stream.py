"""Tokens to text as they come: whole characters only, ending before a stop string."""

from collections.abc import Sequence
from typing import Any

HALF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of one answer."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.stopped = False
        """A stop string was met; nothing comes after it."""
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._tokens: list[int] = []
        self._start = 0  # tokens from here on are decoded again: a token's text depends on the one before
        self._end = 0  # tokens up to here were given out
        self._held = ""

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens add, so far as it is certain."""
        self._tokens += tokens
        given = self._decode(self._start, self._end)
        whole = self._decode(self._start, len(self._tokens))
        if len(whole) <= len(given) or whole.endswith(HALF_A_CHARACTER):
            return ""
        self._start, self._end = self._end, len(self._tokens)
        return self._without_stop(whole[len(given) :])

    def finish(self) -> str:
        """What was held back, now that no token follows."""
        rest = self._decode(self._start, len(self._tokens))[len(self._decode(self._start, self._end)) :]
        self._end = len(self._tokens)
        text = self._without_stop(rest)
        held, self._held = ("" if self.stopped else self._held), ""
        return text + held

    def _decode(self, start: int, end: int) -> str:
        return self._tokenizer.decode(self._tokens[start:end], skip_special_tokens=True)

    def _without_stop(self, text: str) -> str:
        text = self._held + text
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        hold = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]


def token_text(tokenizer: Any, before: int | None, token: int) -> str:
    """What one token adds to a text that ends with the token `before`; of an end token nothing."""
    start = [] if before is None else [before]
    given, whole = (tokenizer.decode(tokens, skip_special_tokens=True) for tokens in (start, [*start, token]))
    return whole[len(given) :]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if stop.startswith(text[len(text) - n :])), 0)
