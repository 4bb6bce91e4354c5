"""The endless order of the examples: a function of seed and index, with every source's share kept."""

from collections import Counter

import pytest

from distill.examples import Example
from distill.mixture import Mixture
from fastpath.errors import ConfigError


def made_of(name, size):
    return [Example((ord(name), number), (False, True), name) for number in range(size)]


def test_order_is_a_function_of_seed_and_index():
    sources, weights = {"a": made_of("a", 7), "b": made_of("b", 300)}, {"a": 1, "b": 3}
    first, again = (Mixture(sources, weights, seed=0) for _ in range(2))
    order = [first[i] for i in range(1000)]
    assert [again[i] for i in reversed(range(1000))] == order[::-1], "no state: any index, in any order"
    other = Mixture(sources, weights, seed=1)
    assert [other[i] for i in range(1000)] != order


def test_shares_are_kept_and_none_comes_again_before_all_have_come():
    weights = {"a": 0.2, "b": 0.7, "c": 0.1}
    sources = {name: made_of(name, size) for name, size in zip(weights, (5, 64, 1000), strict=True)}
    mixture = Mixture(sources, weights, seed=3)
    order = [mixture[i] for i in range(2000)]
    for end in range(100, 2001, 100):
        given = Counter(example.kind for example in order[:end])
        assert all(abs(given[name] - share * end) <= 1 for name, share in weights.items())
    for name, source in sources.items():
        drawn = [example.ids[1] for example in order if example.kind == name]
        for start in range(0, len(drawn) - len(source) + 1, len(source)):
            assert sorted(drawn[start : start + len(source)]) == list(range(len(source)))
    assert len(set(tuple(e.kind for e in order[s : s + 100]) for s in range(0, 2000, 100))) == 20


def test_shares_of_tokens_are_told():
    long = [Example(tuple(range(10)), (False,) * 5 + (True,) * 5, "long")]
    mixture = Mixture({"a": made_of("a", 3), "long": long}, {"a": 1, "long": 1}, seed=0)
    shares = mixture.shares()
    assert mixture.told().startswith("a: 50% of the examples, 17% of the tokens, 17% of those learnt; long: ")
    assert shares["a"] == {"examples": 1 / 2, "tokens": 2 / 12, "learnt_tokens": 1 / 6}
    assert all(sum(share[unit] for share in shares.values()) == 1 for unit in shares["a"])


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        ({"a": 3}, {"a": 1, "b": 1}, "'b' has no data"),
        ({"a": 3, "b": 3}, {"a": 1}, "'b' has no weight"),
        ({"a": 3}, {"a": 0}, "the weight of 'a' must be positive, got 0"),
        ({"a": 3}, {"a": float("nan")}, "the weight of 'a' must be positive"),
        ({"a": 0}, {"a": 1}, "'a' has no examples"),
        ({}, {}, "no data to learn from"),
    ],
)
def test_wrong_weights_are_named(sources, weights, message):
    with pytest.raises(ConfigError, match=message):
        Mixture({name: made_of(name, size) for name, size in sources.items()}, weights, seed=0)
