"""Log-probabilities of an answer's tokens: their mean, and OpenAI's two ways to write them."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from serve.engine import Piece, TokenLogprob
from serve.text_stream import HALF_A_CHARACTER

Data = dict[str, Any]


def tokens_of(pieces: Iterable[Piece]) -> tuple[TokenLogprob, ...]:
    """The tokens of some pieces of an answer."""
    return tuple(token for piece in pieces for token in piece.logprobs)


def mean_logprob(tokens: Sequence[TokenLogprob]) -> float | None:
    """Nats a token; None if nothing is known of any."""
    return sum(logprob for _, logprob in tokens) / len(tokens) if tokens else None


def of_chat(tokens: Iterable[TokenLogprob]) -> Data:
    """As chat completions tell them; a part of a character has no bytes of its own here."""
    content = [
        {
            "token": text,
            "logprob": logprob,
            "bytes": None if HALF_A_CHARACTER in text else list(text.encode()),
            "top_logprobs": [],
        }
        for text, logprob in tokens
    ]
    return {"content": content, "refusal": None}


def of_text(tokens: Sequence[TokenLogprob], start: int) -> Data:
    """As completions tell them; the first token begins at character `start` of the answer."""
    texts = [text for text, _ in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [logprob for _, logprob in tokens],
        "top_logprobs": None,
        "text_offset": list(accumulate(map(len, texts[:-1]), initial=start)) if texts else [],
    }
