"""Fast models think, slow models commit: a call that cannot be taken back is not the fast tier's to make."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from serve.engine import Piece, TokenLogprob
from serve.logprobs import tokens_of
from serve.tools import Call, same_calls, split_calls


@dataclass(frozen=True)
class Reply:
    """An answer with its calls of tools told apart."""

    text: str
    calls: list[Call]
    last: Piece
    note: dict[str, Any] = field(default_factory=dict)
    """What the policies did; empty: nothing."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of every token, if they were asked for."""

    @property
    def reason(self) -> str | None:
        """Why the answer ends, in OpenAI's words."""
        return "tool_calls" if self.calls else self.last.reason


def read_reply(parts: Collection[Piece], names: Collection[str]) -> Reply:
    """The whole answer of some pieces."""
    pieces = list(parts)
    text, calls = split_calls("".join(piece.text for piece in pieces), names)
    return Reply(text, calls, pieces[-1], logprobs=tokens_of(pieces))


async def apply_policy(
    reply: Reply, policy: str, reversible: Collection[str], confirm: Callable[[], Awaitable[Reply]] | None
) -> Reply:
    """The fast tier's reply as it may go out; `confirm` asks the standard tier the same, if it may be asked.

    annotate marks calls that cannot be taken back as proposed. gate has standard decide: the same calls are
    confirmed, with any others nothing is called, and the answer says what each tier would have done; nor is
    anything called that nobody may confirm.
    """
    serious = [call for call in reply.calls if call["function"]["name"] not in reversible]
    if policy == "off" or not serious:
        return reply
    if policy == "annotate":
        marked = [{**call, "status": "proposed"} if call in serious else call for call in reply.calls]
        return replace(reply, calls=marked, note={**reply.note, "policy": policy, "verdict": "proposed"})
    if confirm is None:
        words = "Nothing was called: this key may not use the standard tier, which would have to confirm it."
        return _stopped(reply, words, {"policy": policy, "verdict": "unconfirmed", "proposed": reply.calls})
    other = await confirm()
    note = {"policy": policy, "confirmation_tokens": other.last.prompt_tokens + other.last.new_tokens}
    if same_calls(reply.calls, other.calls):
        confirmed = [{**call, "status": "confirmed"} for call in reply.calls]
        return replace(reply, calls=confirmed, note={**reply.note, **note, "verdict": "confirmed"})
    stopped = {"verdict": "disagreed", "proposed": reply.calls, "standard": other.calls}
    words = "Nothing was called: the fast and the standard tier do not agree on it."
    return _stopped(reply, words, {**note, **stopped})


def _stopped(reply: Reply, words: str, note: dict[str, Any]) -> Reply:
    text = f"{reply.text}\n\n{words}" if reply.text else words
    return replace(reply, text=text, calls=[], note={**reply.note, **note})
