"""Which tier a request asks for."""

import math
from collections.abc import Mapping

from serve.api import Request
from serve.errors import BadRequest, TooLong, UnknownModel
from serve.tiers import ALIASES, DEFAULTS, Tier

DEADLINE_HEADER = "x-request-deadline-ms"
BYTES_PER_TOKEN = 16  # no text of any language needs more on average: longer prompts are refused unread


def asked_tier(asked: Request, model: str, tiers: Mapping[str, Tier], default: str) -> Tier:
    """The tier of `service_tier`, `mode` or the model's suffix. Raises BadRequest, UnknownModel.

    Two of them that name different tiers are an error; auto and default name none.
    """
    words = {
        "model": suffix(asked.model, model, tiers),
        "service_tier": asked.service_tier,
        "mode": asked.mode,
    }
    named = {}
    for where, word in words.items():
        if word is None or word in DEFAULTS:
            continue
        name = ALIASES.get(word, word)
        if name not in tiers:
            raise BadRequest(f"{where}: no tier {word[:64]!r} here; tiers: {', '.join(tiers)}", param=where)
        named[where] = name
    if len(set(named.values())) > 1:
        said = " and ".join(f"{where} says {name}" for where, name in named.items())
        raise BadRequest(f"{said}; name one tier", param="service_tier")
    return tiers[next(iter(named.values()), default)]


def suffix(asked: str, model: str, tiers: Mapping[str, Tier]) -> str | None:
    """The tier in `NAME:tier`. Raises UnknownModel unless NAME is served."""
    if asked == model:
        return None
    name, colon, word = asked.rpartition(":")
    if name != model or not colon:
        known = ", ".join([model, *(f"{model}:{tier}" for tier in tiers)])
        raise UnknownModel(f"no model {asked[:128]!r} here; models: {known}", param="model")
    return word


def deadline_seconds(headers: Mapping[str, str]) -> float | None:
    """The client's own deadline, if it sends one. Raises BadRequest."""
    given = headers.get(DEADLINE_HEADER)
    if given is None:
        return None
    try:
        seconds = float(given) / 1000
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadRequest(f"{DEADLINE_HEADER}: a positive number of milliseconds, got {given[:40]!r}")
    return seconds


def check_bounds(asked: Request, tier: Tier) -> None:
    """Raise BadRequest for sizes that no tokenizer needs to see."""
    limit, new_tokens = tier.max_new_tokens, asked.new_tokens()
    if new_tokens is not None and new_tokens > limit:
        raise BadRequest(
            f"max_tokens: tier {tier.name} writes at most {limit}, got {new_tokens}", param="max_tokens"
        )
    if (size := asked.prompt_bytes()) > BYTES_PER_TOKEN * tier.context_tokens:
        raise TooLong(f"the prompt has {size} bytes; tier {tier.name} takes {tier.context_tokens} tokens")
