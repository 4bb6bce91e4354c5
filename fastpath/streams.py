"""Where residual streams are held, within a budget of bytes: kept, offloaded to the host, or recomputed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prefix = tuple[int, ...]
"""The blocks that were computed, rising: all that a stream depends on, the batch aside."""


@dataclass(frozen=True)
class Allowance:
    """How many streams of one batch may be held, and where."""

    num_streams: int
    how: Literal["kept", "offloaded", "recomputed"]
    """recomputed: held during one call only, so that the batches share the room."""


def allowances(
    sizes: Sequence[int], *, depth: int, device_bytes: int, host_bytes: int, rounds: bool = False
) -> list[Allowance]:
    """The allowance of each batch, whose streams have `sizes` bytes; a model of `depth` blocks has depth - 1.

    The streams of all batches stay where they fit, with `rounds` so many more as one round of single blocks
    computes. Else the device keeps room for one batch at a time, and what is left there, then the host, keeps
    as many whole batches as it can.
    """
    most = depth - 1
    if most * sum(sizes) <= device_bytes:
        more = min(device_bytes // sum(sizes) - most, depth * most // 2) if rounds else 0
        return [Allowance(most + more, "kept") for _ in sizes]
    shared = min(device_bytes, most * max(sizes))
    on_device, on_host = device_bytes - shared, host_bytes
    found = []
    for size in sizes:
        if most * size <= on_device:
            on_device -= most * size
            found.append(Allowance(most, "kept"))
        elif most * size <= on_host:
            on_host -= most * size
            found.append(Allowance(most, "offloaded"))
        else:
            found.append(Allowance(min(most, shared // size), "recomputed"))
    return found


def describe(sizes: Sequence[int], allowed: Sequence[Allowance], *, depth: int) -> str:
    """What happens to the streams, in a line."""
    parts = []
    for how, words in (("kept", "kept"), ("offloaded", "offloaded to host memory")):
        if num_bytes := sum(s * a.num_streams for s, a in zip(sizes, allowed, strict=True) if a.how == how):
            parts.append(f"{sum(a.how == how for a in allowed)} {words} ({num_bytes / 2**20:,.0f} MiB)")
    if again := [a for a in allowed if a.how == "recomputed"]:
        fewest = min(a.num_streams for a in again)
        room = max(s * a.num_streams for s, a in zip(sizes, allowed, strict=True) if a.how == "recomputed")
        parts.append(f"{len(again)} recomputed ({room / 2**20:,.0f} MiB, {fewest} of {depth - 1} at once)")
    batches = "1 batch" if len(sizes) == 1 else f"{len(sizes)} batches"
    return f"streams of {batches}: {', '.join(parts)}"


class Shelf:
    """The streams of one batch by prefix, where its allowance says."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._streams: dict[Prefix, tuple[Tensor, torch.device]] = {}

    def call_begins(self, leaves: Collection[Prefix]) -> None:
        """What leads to none of these leaves is the first to go: what was dropped stays dropped."""
        leading = {leaf[:length] for leaf in leaves for length in range(len(leaf) + 1)}
        self._streams = dict(sorted(self._streams.items(), key=lambda item: item[0] in leading))

    def longest(self, kept: Prefix) -> Prefix:
        """The longest prefix of `kept` that is held; () if none."""
        return max((p for p in self._streams if p == kept[: len(p)]), key=len, default=())

    def make_room(self, start: Prefix, later: Sequence[Prefix], spare: Sequence[Prefix] = ()) -> list[Prefix]:
        """Which prefixes to put: those `later` beyond `start`, evenly spaced where not all fit, then spare.

        What neither is asked for later nor is the start itself goes where its room is needed.
        """
        needed = {start, *later}
        new = [p for p in later if len(p) > len(start) and p not in self._streams]
        room = max(0, self.allowance.num_streams - sum(p in needed for p in self._streams))
        if len(new) > room:
            new = [new[(2 * i + 1) * len(new) // (2 * room)] for i in range(room)]
            spare = ()
        known = {*new, *self._streams}
        new += [p for p in spare if p not in known][: room - len(new)]
        excess = len(self._streams) + len(new) - self.allowance.num_streams
        for prefix in [p for p in self._streams if p not in needed][: max(0, excess)]:
            del self._streams[prefix]
        return new

    def put(self, prefix: Prefix, x_BTD: Tensor) -> None:
        """Hold a stream for which there is room."""
        assert len(self._streams) < self.allowance.num_streams
        offloaded = self.allowance.how == "offloaded"
        self._streams[prefix] = x_BTD.cpu() if offloaded else x_BTD, x_BTD.device

    def get(self, prefix: Prefix) -> Tensor:
        """A stream, where it was computed."""
        x_BTD, device = self._streams[prefix] = self._streams.pop(prefix)  # now the last to go
        return x_BTD.to(device)

    def call_ends(self) -> None:
        """Give back room that is shared with other batches."""
        if self.allowance.how == "recomputed":
            self._streams.clear()

    @property
    def num_bytes(self) -> int:
        """Memory that is held."""
        return sum(x.numel() * x.element_size() for x, _ in self._streams.values())
