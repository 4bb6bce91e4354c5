"""When a draft model pays: the expected speedup of speculative decoding, in closed form. No torch.

Leviathan et al. 2023 (arXiv 2211.17192), with the cost of checking several tokens at once left free: on an
idle GPU it is that of one token, on a CPU it grows with every token.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MOST_TOKENS = 8
"""Longest guess that is considered."""
WORTH_IT = 1.05
"""Least predicted speedup: the prediction leaves out what is done between the models."""


@dataclass(frozen=True)
class Speculation:
    """How to use a draft model."""

    tokens: int
    """Guessed in each round, before the target checks them (k); 0: off, it would not pay."""
    speedup: float
    """Predicted, over the target alone: of the best k, also where that is below 1 and it is off."""


def expected_tokens(acceptance: float, tokens: int) -> float:
    """Tokens that a round of `tokens` guesses yields: the accepted ones and the target's own (equation 1).

    `acceptance`: probability that the target would have said a guess too, given that those before it stood.
    """
    return sum(acceptance**i for i in range(tokens + 1))  # (1 - a^(k+1)) / (1 - a), for a = 1 as well


def predicted_speedup(acceptance: float, *, tokens: int, cost_ratio: float, verify_cost: float) -> float:
    """Speed over the target alone (theorem 3.8 is the case verify_cost = 1).

    `cost_ratio`: time of a token of the draft, `verify_cost`: time in which the target checks the guesses,
    both over the time of a token of the target.
    """
    return expected_tokens(acceptance, tokens) / (tokens * cost_ratio + verify_cost)


def choose_tokens(acceptance: float, *, cost_ratio: float, verify_costs: Mapping[int, float]) -> Speculation:
    """The k of `verify_costs` with the highest predicted speedup; off where that is below WORTH_IT."""
    speedups = {
        k: predicted_speedup(acceptance, tokens=k, cost_ratio=cost_ratio, verify_cost=cost)
        for k, cost in verify_costs.items()
    }
    best = max(speedups, key=lambda k: (speedups[k], -k))
    return Speculation(best if speedups[best] >= WORTH_IT else 0, speedups[best])
