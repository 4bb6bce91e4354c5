"""Several lists of examples -> one endless order: example i is a function of the seed and i alone."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from random import Random

from distill.examples import Example
from fastpath.errors import ConfigError

BLOCK = 100
"""Indices in which every source gets its share, to the nearest example."""


class Mixture:
    """An endless sequence of examples: `mixture[i]`, i = 0, 1, ...; no state, so it resumes at any index.

    After every BLOCK examples each source has given its share, to within one example. A source is gone
    through in a new random order each time: none of its examples comes again before all others have come.
    """

    def __init__(
        self, sources: Mapping[str, Sequence[Example]], weights: Mapping[str, float], *, seed: int
    ) -> None:
        """`weights` are shares of the number of examples (not of tokens), in any unit.

        Raises ConfigError for weights that do not name exactly the sources, or are not positive.
        """
        check_weights(weights, sources)
        self.sources = {name: sources[name] for name in weights}
        self.weights = dict(weights)
        self._seed = seed

    def __getitem__(self, index: int) -> Example:
        if index < 0:
            raise IndexError(index)  # there is no end to count from
        name, turn = self.draw(index)
        source = self.sources[name]
        turn, position = divmod(turn, len(source))
        return source[_order(f"{self._seed}/{name}/{turn}", len(source))[position]]

    def draw(self, index: int) -> tuple[str, int]:
        """The source of example `index`, and how many of that source came before it."""
        block, offset = divmod(index, BLOCK)
        plan = self._plan(block)
        name = plan[offset]
        return name, self._given(name, block * BLOCK) + plan[:offset].count(name)

    def _plan(self, block: int) -> list[str]:
        """The sources of one block, in random order."""
        start = block * BLOCK
        plan = [
            name
            for name in self.sources
            for _ in range(self._given(name, start + BLOCK) - self._given(name, start))
        ]
        Random(f"{self._seed}/sources/{block}").shuffle(plan)
        return plan

    def _given(self, name: str, num: int) -> int:
        """Examples of a source among the first `num`, whole blocks: over all sources they sum to `num`."""
        low, high = self._borders[name]
        return int(high * num + 0.5) - int(low * num + 0.5)

    @cached_property
    def _borders(self) -> dict[str, tuple[float, float]]:
        """Where each source's share begins and ends on the way from 0 to 1."""
        total = sum(self.weights.values())
        borders = [0.0, *(end / total for end in accumulate(self.weights.values()))]
        borders[-1] = 1.0  # whatever the sums were rounded to
        return dict(zip(self.weights, pairwise(borders), strict=True))

    def shares(self) -> dict[str, dict[str, float]]:
        """For each source its share of examples, of tokens and of learnt tokens, as the weights make them."""
        means = {
            name: {
                "examples": 1.0,
                "tokens": sum(len(example.ids) for example in source) / len(source),
                "learnt_tokens": sum(example.num_learnt for example in source) / len(source),
            }
            for name, source in self.sources.items()
        }
        totals = {
            unit: sum(self.weights[name] * mean[unit] for name, mean in means.items())
            for unit in ("examples", "tokens", "learnt_tokens")
        }
        return {
            name: {unit: self.weights[name] * mean[unit] / totals[unit] for unit in totals}
            for name, mean in means.items()
        }

    def told(self) -> str:
        """The shares in words."""
        return "; ".join(
            f"{name}: {of['examples']:.0%} of the examples, {of['tokens']:.0%} of the tokens,"
            f" {of['learnt_tokens']:.0%} of those learnt"
            for name, of in self.shares().items()
        )


@lru_cache(maxsize=16)
def _order(stream: str, size: int) -> list[int]:
    order = list(range(size))
    Random(stream).shuffle(order)
    return order


def check_weights(weights: Mapping[str, float], sources: Mapping[str, Sequence[Example]]) -> None:
    """Raise ConfigError unless there is one positive weight for each source, and sources are not empty."""
    for name in weights.keys() ^ sources.keys():
        lacks = "weight" if name in sources else "data"
        raise ConfigError(f"distill: {name!r} has no {lacks}; weights and data must have the same names")
    if not sources:
        raise ConfigError("distill: no data to learn from; name items or data")
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise ConfigError(f"distill: the weight of {name!r} must be positive, got {weight}")
        if not sources[name]:
            raise ConfigError(f"distill: {name!r} has no examples")
