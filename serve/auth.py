"""API keys: who may ask, up to which tier, how often."""

import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from fastpath.config_serve import TIERS, ServeConfig, TierName
from fastpath.errors import ConfigError
from fastpath.recipe_file import parse_yaml
from fastpath.section import Section
from serve.errors import RateLimited, TierForbidden, WrongKey

VARIABLE = "FASTPATH_API_KEYS"
BURST_SECONDS = 10.0  # of a key's rate may be used at once


class KeyEntry(Section):
    """One entry of the file of keys."""

    key: Annotated[str, Field(min_length=16)]
    name: str
    tier: TierName = "deep"
    """Highest tier that the key may use."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """None: as many as the queues take."""


@dataclass
class Caller:
    """Who sent a request."""

    name: str
    tier: TierName = "deep"
    per_second: float | None = None
    _left: float = field(default=0.0, init=False)
    _seen: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self._left = self._burst

    @property
    def _burst(self) -> float:
        return max(1.0, BURST_SECONDS * (self.per_second or 0.0))

    def may_use(self, tier: str) -> bool:
        """Whether the tier is within this caller's ceiling."""
        return tier in self._allowed

    @property
    def _allowed(self) -> tuple[str, ...]:
        return TIERS[: TIERS.index(self.tier) + 1]

    def check_tier(self, tier: str) -> None:
        """Raise TierForbidden if the tier is above this caller's ceiling."""
        if not self.may_use(tier):
            raise TierForbidden(
                f"this key may use {', '.join(self._allowed)}, not {tier}", param="service_tier"
            )

    def count(self) -> None:
        """Count one request; raise RateLimited if the caller's rate is used up (a token bucket)."""
        if self.per_second is None:
            return
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._seen) * self.per_second)
        self._seen = now
        if self._left < 1:
            wait = (1 - self._left) / self.per_second
            raise RateLimited(
                f"this key may send {60 * self.per_second:g} requests a minute", retry_seconds=wait
            )
        self._left -= 1


class Keyring:
    """The known keys; without any everybody may ask."""

    def __init__(self, entries: list[KeyEntry]) -> None:
        self._callers = [
            (_digest(entry.key), Caller(entry.name, entry.tier, _a_second(entry.requests_per_minute)))
            for entry in entries
        ]
        self._anybody = Caller("anybody")

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return not self._callers

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this Authorization header. Raises WrongKey."""
        if self.is_open:
            return self._anybody
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        # Every key is compared, each in constant time: an answer's delay tells nothing.
        known = [caller for digest, caller in self._callers if hmac.compare_digest(digest, given)]
        if scheme.lower() != "bearer" or not known:
            raise WrongKey("send a known API key: Authorization: Bearer KEY")
        return known[0]


def load_keys(config: ServeConfig) -> Keyring:
    """The keys of the recipe's file and of $FASTPATH_API_KEYS.

    Raises ConfigError if the file is wrong, or if others could reach a server without keys.
    """
    entries = _from_file(Path(config.keys)) if config.keys else []
    given = [key for key in os.environ.get(VARIABLE, "").split(",") if key.strip()]
    entries += [_entry({"key": key.strip(), "name": f"${VARIABLE} {n}"}) for n, key in enumerate(given, 1)]
    if not entries and not config.is_local:
        raise ConfigError(
            f"serve.host: {config.host} can be reached by others; give serve.keys or ${VARIABLE}, "
            "or listen on 127.0.0.1"
        )
    return Keyring(entries)


def _from_file(path: Path) -> list[KeyEntry]:
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"serve.keys: {path} cannot be read ({error})") from None
    if not isinstance(data, list) or not data:
        raise ConfigError(f"serve.keys: {path} should hold a list of {{key, name}}")
    return [_entry(entry) for entry in data]


def _entry(data: object) -> KeyEntry:
    try:
        return TypeAdapter(KeyEntry).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # the input is a secret
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"serve.keys: {where or 'entry'}: {first['msg']}") from None


def _a_second(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
