"""How many tokens of a long prompt the next step may take, told from how long the last steps took.

A step of N tokens that attend to K (all of its requests', themselves included) takes a + b N + c N K seconds:
what every step costs, the layers, attention. The speed of the last step alone tells too little: after a short
prompt, which is fast, the next chunk of one that has 20,000 tokens behind it would be many times too long.
"""

import math
from collections import defaultdict, deque

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Row = NDArray[np.float64]

LEAST = 16  # tokens; fewer cost as much as these
WORTH = (
    3  # a step takes at least so many times what the emptiest step costs: else prompts are mostly overhead
)
ALIKE = 4  # steps that are remembered of each size, in powers of two of N and of K
FADING = 0.85  # weight of a step in that of the next one: other processes come and go
LANDMARK = 0.05  # weight of an old step of another size: what tells layers from attention


class StepTimes:
    """Times of an engine's last steps, and what they tell of the next one."""

    def __init__(self) -> None:
        Steps = deque[tuple[int, int, float, int]]
        self._steps: defaultdict[tuple[int, int], Steps] = defaultdict(lambda: deque(maxlen=ALIKE))
        self._count = 0
        self._costs: tuple[float, float, float] | None = None  # until the next step ends

    def add(self, num_tokens: int, num_attended: int, seconds: float) -> None:
        """A step has ended."""
        self._count += 1
        self._costs = None
        size = num_tokens.bit_length(), num_attended.bit_length()
        self._steps[size].append((num_tokens, num_attended, seconds, self._count))

    def chunk(self, seconds: float, *, others: int, attended: int) -> float:
        """Tokens of a prompt that fit beside `others` in a step of so many seconds, or of WORTH empty ones.

        `attended`: tokens that the step's requests have in the cache. At most twice as many as a step had
        before: times are not told from much smaller ones. Infinite if nothing was measured.
        """
        if not self._steps:
            return math.inf
        if self._costs is None:
            tokens, seen, times, numbers = np.array([s for steps in self._steps.values() for s in steps]).T
            self._costs = _fit(tokens, seen, times, ages=self._count - numbers)
        each, token, pair = self._costs
        linear = token + pair * attended  # a step of N tokens takes each + linear N + pair N^2
        # Of steps alike `each` cannot be told: it is at most what the shortest one took.
        emptiest = min(step[2] for steps in self._steps.values() for step in steps)
        left = max(seconds, WORTH * min(each, emptiest)) - each
        if left <= 0:
            return LEAST
        if pair > 0:
            fitting = (math.sqrt(linear**2 + 4 * pair * left) - linear) / (2 * pair)
        else:
            fitting = left / linear if linear > 0 else math.inf
        longest = 2 ** max(length for length, _ in self._steps)  # up to twice as many as any had
        return max(LEAST, min(fitting - others, longest))


def _fit(tokens: Row, attended: Row, seconds: Row, *, ages: Row) -> tuple[float, float, float]:
    """a, b and c, none negative, by least squares of relative errors: slow strays hardly count."""
    weights = np.maximum(LANDMARK, FADING**ages)
    terms = np.stack([np.ones_like(tokens), tokens, tokens * attended], axis=1)
    terms *= (weights / seconds)[:, None]
    scale = terms.max(axis=0)
    each, token, pair = nnls(terms / scale, weights)[0] / scale
    return float(each), float(token), float(pair)
