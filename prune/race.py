"""The one number that a search minimises, `simple_nats + weight * complex_nats`, and who cannot win."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastpath.data import Batch, item_batches
from fastpath.items.item import Item
from prune.objective import Ablations
from prune.search import Drop


@dataclass(frozen=True)
class Term:
    """One batch of the objective."""

    ablations: Ablations
    number: int
    group: int
    weight: float

    def nats(self, drops: Sequence[Drop]) -> np.ndarray:
        """(drops,): weighted nats that the batch adds; never negative."""
        return self.weight * self.ablations.nats(self.number, drops).sum(1)

    @property
    def tokens(self) -> float:
        """Answer tokens of the batch."""
        return float(self.ablations.tokens[list(self.ablations.batches[self.number].index)].sum())


class Objective:
    """Weighted rise in nats per answer token over some kinds of items, each summed and divided once.

    `suites` are (ablations, weight); `groups` say for each of them which part of the items a batch is of.
    """

    def __init__(
        self, suites: Sequence[tuple[Ablations, float]], *, groups: Sequence[Sequence[int]] | None = None
    ) -> None:
        self._terms = [
            [
                Term(ablations, number, groups[suite][number] if groups else 0, weight)
                for number in range(len(ablations.batches))
            ]
            for suite, (ablations, weight) in enumerate(suites)
            if weight
        ]

    def costs(self, drops: Sequence[Drop], num: int, *, first_groups: int | None = None) -> list[float]:
        """The cost of each drop set; inf for what is sure not to be among the `num` cheapest.

        Nats are never negative: what has gained more on some batches than the `num` cheapest on all of them
        has lost. Those that are cheapest on the first batch run ahead and set the mark. Exact.
        """
        terms = self._weighed(first_groups)
        first = terms[0].nats(drops)
        totals, base = {i: float(first[i]) for i in range(len(drops))}, 0.0
        for term in terms:
            base += float(term.nats([Drop()])[0])
        ahead = sorted(totals, key=lambda i: totals[i])[:num]
        self._run(terms[1:], drops, ahead, totals, mark=math.inf)
        mark = max(totals[i] for i in ahead)
        self._run(terms[1:], drops, [i for i in totals if i not in ahead], totals, mark=mark)
        return [totals[i] - base for i in range(len(drops))]

    @staticmethod
    def _run(
        terms: Sequence[Term],
        drops: Sequence[Drop],
        rows: list[int],
        totals: dict[int, float],
        *,
        mark: float,
    ) -> None:
        """Add the terms to the totals of these rows; inf once a total has passed the mark."""
        for term in terms:
            for i in rows:
                totals[i] = totals[i] if totals[i] <= mark else math.inf
            rows = [i for i in rows if totals[i] < math.inf]
            if not rows:
                return
            for i, nats in zip(rows, term.nats([drops[i] for i in rows]), strict=True):
                totals[i] += float(nats)

    def _weighed(self, first_groups: int | None) -> list[Term]:
        """The terms of the first groups, each weight over the tokens of its suite in them."""
        found = []
        for suite in self._terms:
            chosen = [term for term in suite if first_groups is None or term.group < first_groups]
            tokens = sum(term.tokens for term in chosen)
            found += [replace(term, weight=term.weight / tokens) for term in chosen]
        return found


def grouped_batches(
    groups: Sequence[Sequence[Item]], tokenizer: Any, *, batch_tokens: int
) -> list[tuple[Batch, int]]:
    """(batch, group) of items dealt to groups in turn; a batch holds items of one group.

    Item i of group g has the index i * len(groups) + g: its place before they were dealt.
    """
    found = []
    for group, items in enumerate(groups):
        for batch in item_batches(items, tokenizer, batch_tokens=batch_tokens):
            index = tuple(i * len(groups) + group for i in batch.index)
            found.append((replace(batch, index=index), group))
    return found
