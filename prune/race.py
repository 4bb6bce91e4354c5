"""The one number that a search minimises, `simple_nats + weight * complex_nats`, and who cannot win."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from fastpath.ablations import Ablations
from fastpath.data import Batch, item_batches
from fastpath.items.item import Item
from prune.search import Drop


@dataclass(frozen=True)
class Term:
    """One batch of the objective."""

    ablations: Ablations
    number: int
    group: int
    weight: float

    @property
    def tokens(self) -> float:
        """Answer tokens of the batch."""
        return float(self.ablations.tokens[list(self.ablations.batches[self.number].index)].sum())


class Objective:
    """Weighted rise in nats per answer token over some kinds of items, each summed and divided once.

    `suites` are (ablations, weight); `groups` say for each of them which part of the items a batch is of;
    `at_once` is how many batches to ask for at once (one for each process). Costs do not depend on that.
    """

    def __init__(
        self,
        suites: Sequence[tuple[Ablations, float]],
        *,
        groups: Sequence[Sequence[int]] | None = None,
        at_once: int = 1,
    ) -> None:
        self._at_once = at_once
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
        first = weighted_nats(terms[: self._at_once], drops)
        base = sum(float(nats[0]) for nats in weighted_nats(terms, [Drop()]))
        totals = [0.0] * len(drops)
        ahead = sorted(range(len(drops)), key=lambda i: first[0][i])[:num]
        self._run(terms, drops, ahead, totals, first=first, mark=math.inf)
        mark = max(totals[i] for i in ahead)
        behind = sorted(set(range(len(drops))) - set(ahead))
        self._run(terms, drops, behind, totals, first=first, mark=mark)
        return [total - base for total in totals]

    def _run(
        self,
        terms: Sequence[Term],
        drops: Sequence[Drop],
        rows: list[int],
        totals: list[float],
        *,
        first: Sequence[np.ndarray],
        mark: float,
    ) -> None:
        """Add the terms to the totals of these rows; inf once a total has passed the mark.

        `first`: (drops,) nats of each of the first terms. A term that was asked for together with others adds
        nothing to what has passed the mark before it, as if it had been asked for alone.
        """
        for start in range(0, len(terms), self._at_once):
            some = terms[start : start + self._at_once]
            asked = [drops[i] for i in rows]
            found = weighted_nats(some, asked) if start else [nats[rows] for nats in first]
            nats_of = [dict(zip(rows, nats.tolist(), strict=True)) for nats in found]
            for nats in nats_of:
                for i in rows:
                    totals[i] = totals[i] if totals[i] <= mark else math.inf
                rows = [i for i in rows if totals[i] < math.inf]
                for i in rows:
                    totals[i] += nats[i]
            if not rows:
                return

    def _weighed(self, first_groups: int | None) -> list[Term]:
        """The terms of the first groups, each weight over the tokens of its suite in them."""
        found = []
        for suite in self._terms:
            chosen = [term for term in suite if first_groups is None or term.group < first_groups]
            tokens = sum(term.tokens for term in chosen)
            found += [replace(term, weight=term.weight / tokens) for term in chosen]
        return found


def weighted_nats(terms: Sequence[Term], drops: Sequence[Drop]) -> list[np.ndarray]:
    """(drops,) weighted nats that each term adds; never negative."""
    found = []
    for ablations, of_one in groupby(terms, key=lambda term: term.ablations):
        some = list(of_one)
        every = ablations.nats_of([term.number for term in some], drops)
        found += [term.weight * nats.sum(1) for term, nats in zip(some, every, strict=True)]
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
