"""Ablation of drop sets: exact, each shared prefix of blocks computed once, within a budget of bytes.

Skipping a block changes nothing before it. So the stream that enters a block depends on the kept blocks
before it alone, its PREFIX, and the drop sets of one call form a tree of prefixes. The tree is walked depth
first: every edge (one block on one stream) is computed once, and a stream is held while a later drop set
branches off there. What is left is used by the next call: a greedy round computes nothing before the last
change. With `rounds`, spare room holds streams of the drop sets themselves too: when a round has dropped
block d, every other candidate i < d goes on from (nearly) d.
"""

# B sequences of a batch, T tokens, D width

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fastpath.blocks import Streams, find_blocks, recording, replaying
from fastpath.data import Batch
from fastpath.nll import answer_nll
from fastpath.streams import Prefix, Shelf, allowances, describe


def answer_nats(model: Any, batch: Batch) -> np.ndarray:
    """(sequences,): summed nats of the answers."""
    return answer_nll(model, batch).nats.numpy()


class Ablations:
    """Nats gained by drop sets on fixed batches of one list of items.

    `device_bytes` bound the streams held where the model is, `host_bytes` those moved to host memory; results
    do not depend on either. What does not fit is computed again. `mine`: whether this process is ever asked
    for a batch of this number. `rounds`: the next call will ask for these drop sets with one more block.
    `read` runs the model on a batch and says what is wanted of each sequence; of every batch it reads the
    whole model first.
    """

    def __init__(
        self,
        model: Any,
        batches: Sequence[Batch],
        *,
        device_bytes: int,
        host_bytes: int = 0,
        mine: Callable[[int], bool] = lambda number: True,
        rounds: bool = False,
        read: Callable[[Any, Batch], np.ndarray] = answer_nats,
    ) -> None:
        self._read = read
        self.model = model
        self.depth = len(find_blocks(model)[1])
        self.batches = [batch.to(model.device) for batch in batches]
        self.num_items = sum(len(batch.index) for batch in batches)
        self.tokens = np.zeros(self.num_items)
        """(items,): answer tokens of each item."""
        self.block_runs = 0
        """Blocks computed so far, each counted once a batch."""
        self.peak_stream_bytes = 0
        """Most bytes of streams held at once."""
        numbers = [number for number in range(len(batches)) if mine(number)]
        sizes = [self._stream_bytes(batches[number]) for number in numbers]
        allowed = allowances(
            sizes, depth=self.depth, device_bytes=device_bytes, host_bytes=host_bytes, rounds=rounds
        )
        self.plan = describe(sizes, allowed, depth=self.depth)
        """What happens to the streams, in a line."""
        self._shelves = {n: Shelf(allowance) for n, allowance in zip(numbers, allowed, strict=True)}
        self._base: list[np.ndarray | None] = [None] * len(batches)
        self._rests: list[Streams] = [{} for _ in batches]
        for batch in batches:
            self.tokens[list(batch.index)] = batch.answer.sum(1).cpu().numpy()

    def gains(self, drop_sets: Sequence[Collection[int]]) -> np.ndarray:
        """(drop sets, items): nats by which each item's answer gets less likely, summed over its tokens."""
        out = np.empty((len(drop_sets), self.num_items))
        every = self.nats_of(range(len(self.batches)), [*drop_sets, ()])
        for batch, nats in zip(self.batches, every, strict=True):
            out[:, list(batch.index)] = nats[:-1] - nats[-1]
        return out

    def rises(self, drop_sets: Sequence[Collection[int]]) -> np.ndarray:
        """(drop sets, items): nats per answer token gained over the base."""
        return self.gains(drop_sets) / self.tokens

    def nats_of(self, numbers: Sequence[int], drop_sets: Sequence[Collection[int]]) -> list[np.ndarray]:
        """(drop sets, sequences) of each of these batches: summed nats of the answers."""
        return [self.nats(number, drop_sets) for number in numbers]

    def nats(self, number: int, drop_sets: Sequence[Collection[int]]) -> np.ndarray:
        """(drop sets, sequences): summed nats of the answers of one batch."""
        kept = [tuple(i for i in range(self.depth) if i not in drop) for drop in drop_sets]
        found = self._walk(number, set(kept))
        return np.stack([found[k] for k in kept])

    def _walk(self, number: int, leaves: set[Prefix]) -> dict[Prefix, np.ndarray]:
        """Summed nats of each sequence of a batch for every leaf, a whole list of kept blocks."""
        whole, base = tuple(range(self.depth)), self._base[number]
        leaves = leaves | {whole} if base is None else leaves - {whole}
        # With an end mark the base comes first, and neighbours share their longest prefixes.
        order = sorted(leaves, key=lambda kept: (*kept, self.depth))
        branches = [shared_prefix(a, b) for a, b in pairwise(order)]
        found = {} if base is None else {whole: base}
        self._shelves[number].call_begins(order)
        for position, kept in enumerate(order):
            found[kept] = self._leaf(number, kept, later=_on_path(branches[position:]))
        self._shelves[number].call_ends()
        return found

    def _leaf(self, number: int, kept: Prefix, *, later: list[Prefix]) -> np.ndarray:
        """Compute one leaf from its longest known prefix on, and hold the streams that `later` asks for."""
        shelf, batch, base_known = self._shelves[number], self.batches[number], self._base[number] is not None
        start = shelf.longest(kept)
        every = self._every(number)
        spare = [kept[:n] for n in range(len(start) + 1, len(kept)) if n % every == 0]
        new = {_enters(prefix): prefix for prefix in shelf.make_room(start, later, spare)}
        replayed: Any = nullcontext()
        if base_known:
            streams, first = dict(self._rests[number]), _enters(start)
            if start:
                streams[first] = shelf.get(start), streams[first][1]
            drop = set(range(self.depth)) - set(kept)
            replayed = replaying(self.model, streams, start=first, drop=drop)
        with replayed, recording(self.model, at=new) as seen:
            nats = self._read(self.model, batch)
        self.block_runs += len(kept) - len(start)
        if not base_known:
            self._base[number] = nats
            self._rests[number] = {i: (None, rest) for i, (_, rest) in seen.items()}
        for block, prefix in new.items():
            shelf.put(prefix, cast(Tensor, seen[block][0]))
        self.peak_stream_bytes = max(self.peak_stream_bytes, sum(s.num_bytes for s in self._shelves.values()))
        return nats

    def _every(self, number: int) -> int:
        """How far apart the spare streams of a batch are held, so that those of a whole round fit."""
        room = self._shelves[number].allowance.num_streams - (self.depth - 1)
        return -(-self.depth * (self.depth - 1) // (2 * room)) if room > 0 else self.depth

    def _stream_bytes(self, batch: Batch) -> int:
        width = self.model.config.get_text_config(decoder=True).hidden_size
        return batch.ids.numel() * width * torch.finfo(self.model.dtype).bits // 8


def shared_prefix(a: Prefix, b: Prefix) -> Prefix:
    """The longest common beginning of two lists of kept blocks."""
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:length]


def _on_path(branches: Sequence[Prefix]) -> list[Prefix]:
    """The branches that lie on the way to the leaf before them, the longest first."""
    found: list[Prefix] = []
    for prefix in branches:
        if not prefix:
            break
        if not found or len(prefix) < len(found[-1]):
            found.append(prefix)
    return found


def _enters(prefix: Prefix) -> int:
    """The block that a prefix's stream enters."""
    return prefix[-1] + 1 if prefix else 0
