"""What attempts, retries and mistakes cost on average, in closed form; the report measures, this explains.

p: chance that an attempt is right. A wrong one is noticed with chance d and tried again, up to R attempts;
then a person does it. One that is not noticed is accepted and wrong. Sums before ratios: the cost of a
success is all that was spent over all that succeeded (cost of pass, Erol et al. 2025, arXiv 2504.13359).
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Attempts:
    """One step that is tried until it is accepted, at most `limit` times."""

    p: float
    limit: int
    detection: float = 1.0

    @property
    def accepted(self) -> float:
        """Chance that an attempt is accepted, right or wrong."""
        return self.p + (1 - self.p) * (1 - self.detection)

    @property
    def expected(self) -> float:
        """Mean number of attempts: (1 - (1 - q)^R) / q with q the chance to be accepted."""
        q = self.accepted
        return (1 - (1 - q) ** self.limit) / q if q else float(self.limit)

    @property
    def retries(self) -> float:
        """Mean number of attempts after the first."""
        return self.expected - 1

    @property
    def right(self) -> float:
        """Chance that the step ends right without a person: its completion rate."""
        return self.p * self.expected

    @property
    def wrong(self) -> float:
        """Chance that a wrong call is accepted."""
        return (1 - self.p) * (1 - self.detection) * self.expected

    @property
    def handed_over(self) -> float:
        """Chance that a person has to do it."""
        return (1 - self.accepted) ** self.limit

    def cost(self, *, attempt: float, fix: float, loss: float = 0.0) -> float:
        """Mean cost: of every attempt (model and check), of a person, of a wrong call that was accepted."""
        return attempt * self.expected + fix * self.handed_over + loss * self.wrong

    def cost_per_success(self, *, attempt: float, fix: float, loss: float = 0.0) -> float:
        """Mean cost over the chance that the outcome is right, by model or person. Never right: infinite."""
        right = 1 - self.wrong
        return self.cost(attempt=attempt, fix=fix, loss=loss) / right if right else math.inf


def cascade_cost(p_fast: float, p_standard_then: float, *, fast: float, standard: float, fix: float) -> float:
    """Mean cost of fast, then standard where fast failed, then a person; attempts cost `fast`, `standard`.

    p_standard_then is standard's chance where fast has failed: what is hard for one is hard for the other.
    """
    return fast + (1 - p_fast) * (standard + (1 - p_standard_then) * fix)


def commit_threshold(
    p_standard: float, p_fast: float, *, extra_cost: float, extra_seconds: float, dollars_per_second: float
) -> float:
    """The loss of a wrong call above which the standard tier should make it; infinite where none is.

    Use standard iff (p_standard - p_fast) * loss > extra cost + worth of the extra time. p: the chance that
    the call does no harm.
    """
    extra = extra_cost + dollars_per_second * extra_seconds
    if extra <= 0:
        return 0.0 if p_standard > p_fast or (p_standard == p_fast and extra < 0) else math.inf
    return extra / (p_standard - p_fast) if p_standard > p_fast else math.inf


def pass_at(trials: int, successes: int, k: int) -> float:
    """Unbiased chance that one of k trials succeeds (Chen et al. 2021, arXiv 2107.03374)."""
    return 1 - math.comb(trials - successes, k) / math.comb(trials, k)


def pass_hat(trials: int, successes: int, k: int) -> float:
    """Unbiased chance that all of k trials succeed: pass^k (Yao et al. 2024, arXiv 2406.12045)."""
    return math.comb(successes, k) / math.comb(trials, k)
