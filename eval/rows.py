"""lm-eval's requests as trees of tokens: what many sequences begin with stands once, and is run once."""

# B rows of a batch, T tokens of a row, P tokens of the prefix that is run already

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""lm-eval's own: ((context, continuation), context tokens, continuation tokens)."""

NEVER = 2**62


@dataclass
class Row:
    """A tree of tokens, depth first: a context, and the continuations that branch off after it."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    """Position of each token in its own sequence."""
    ends: list[int] = field(default_factory=list)
    """Where the tokens that come after this one in its sequences end: the first index that does not."""
    reads: list[tuple[int, list[int], list[int]]] = field(default_factory=list)
    """(request number, indices whose logits predict its continuation, the continuation's tokens)."""
    path: list[int] = field(default_factory=list)
    """Indices of the sequence that was added last."""

    def add(self, sequence: list[int], shared: int, request: int, continuation: list[int]) -> None:
        """A sequence that has its first `shared` tokens in common with the one added before."""
        for left in self.path[shared:]:
            self.ends[left] = len(self.tokens)
        del self.path[shared:]
        self.path += range(len(self.tokens), len(self.tokens) + len(sequence) - shared)
        self.tokens += sequence[shared:]
        self.depths += range(shared, len(sequence))
        self.ends += [NEVER] * (len(sequence) - shared)
        self.reads.append((request, self.path[len(sequence) - len(continuation) :], continuation))

    @property
    def trunk(self) -> int:
        """How many tokens come before the first that is read: they belong to every sequence."""
        return min(at[0] for _, at, _ in self.reads)

    @property
    def branches(self) -> bool:
        """Whether it is more than one sequence and its beginnings."""
        return any(end < len(self.tokens) for end in self.ends)


def merge(requests: Sequence[Request], *, max_length: int, branching: bool = True) -> list[Row]:
    """The fewest rows that hold every request, largest first.

    A request joins a row that holds its whole context already, or a context that its own goes on from, as the
    steps of a dialogue do (without `branching`: its whole sequence, so that every row is one sequence and its
    beginnings). Contexts are cut from the left as lm-eval does, and a row takes no more than `max_length`
    tokens, however many continuations it has.
    """
    sequences = []
    for number, (_, context, continuation) in enumerate(requests):
        whole = (context + continuation)[-(max_length + 1) :]
        sequences.append((whole[:-1], number, continuation))
    contexts = [sequence[: max(0, len(sequence) - len(after) + 1)] for sequence, _, after in sequences]
    first = _first_contexts(contexts)
    rows: list[Row] = []
    last: list[int] = []
    for sequence, number, continuation in sorted(sequences, reverse=True):  # neighbours share the most
        shared = _common(last, sequence)
        needed = first[number] if branching else len(sequence)
        if not rows or shared < needed or len(rows[-1].tokens) + len(sequence) - shared > max_length:
            rows.append(Row())
            shared = 0
        rows[-1].add(sequence, shared, number, continuation)
        last = sequence
    return sorted(rows, key=lambda row: (-len(row.tokens), row.tokens))


def _first_contexts(contexts: Sequence[list[int]]) -> list[int]:
    """Length of the shortest of the contexts that each one begins with, which may be itself."""
    lengths = [0] * len(contexts)
    root: list[int] = []
    for number in sorted(range(len(contexts)), key=lambda n: contexts[n]):  # after all it begins with
        if not root or contexts[number][: len(root)] != root:
            root = contexts[number]
        lengths[number] = len(root)
    return lengths


def shared_prefix(rows: Sequence[Row]) -> list[int]:
    """The tokens that all rows begin with, before any of them branches or is read."""
    first, last = min(row.tokens for row in rows), max(row.tokens for row in rows)
    return first[: min(_common(first, last), *(row.trunk for row in rows))]


def batches(rows: Sequence[Row], *, batch_size: int, alone: int) -> Iterator[list[Row]]:
    """Rows in order, as many at a time as hold no more tokens than `batch_size` sequences would.

    The sequences are the longest of each batch. A branching row of more than `alone` tokens stands alone: it
    is cheaper to run its trunk by itself than to write out its mask.
    """
    start = 0
    while start < len(rows):
        budget = batch_size * (max(rows[start].depths) + 1)
        stop = start + max(1, budget // len(rows[start].tokens))
        if rows[start].branches and len(rows[start].tokens) > alone:
            stop = start + 1
        yield list(rows[start:stop])
        start = stop


@dataclass(frozen=True)
class Batch:
    """Rows as tensors, without the first P tokens."""

    ids_BT: Tensor
    depths_BT: Tensor
    ends_BT: Tensor
    at_BT: Tensor
    """bool: where the head is applied."""
    branches: bool

    def mask(self, prefix: int, dtype: torch.dtype) -> Tensor:
        """(B, 1, T, P + T) to add to attention scores: a token sees the prefix and its own sequence."""
        index_T = torch.arange(self.ids_BT.shape[1], device=self.ids_BT.device)
        before_TT = index_T[None, :] <= index_T[:, None]
        seen_BTT = before_TT & (index_T[:, None] < self.ends_BT[:, None, :])
        mask = torch.zeros((*seen_BTT.shape[:2], prefix + len(index_T)), dtype=dtype, device=seen_BTT.device)
        mask[:, :, prefix:].masked_fill_(~seen_BTT, torch.finfo(dtype).min)
        return mask[:, None]


def collate(rows: Sequence[Row], *, prefix: int, device: torch.device | str) -> Batch:
    """The rows after their first `prefix` tokens, padded on the right, where no real token sees a pad."""
    width = max(len(row.tokens) for row in rows) - prefix
    ids_BT, depths_BT = torch.zeros((2, len(rows), width), dtype=torch.long)
    ends_BT = torch.full_like(ids_BT, NEVER)
    at_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for number, row in enumerate(rows):
        length = len(row.tokens) - prefix
        ids_BT[number, :length] = torch.tensor(row.tokens[prefix:])
        depths_BT[number, :length] = torch.tensor(row.depths[prefix:])
        ends_BT[number, :length] = torch.tensor(row.ends[prefix:]) - prefix
        at_BT[number, [i - prefix for _, at, _ in row.reads for i in at]] = True
    branches = any(row.branches for row in rows)
    return Batch(ids_BT.to(device), depths_BT.to(device), ends_BT.to(device), at_BT.to(device), branches)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many elements two sequences have in common from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
