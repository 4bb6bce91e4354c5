"""What benchmarks/plans.py found: means over families, differences with intervals, a table for each size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastpath.bootstrap import interval_of

BLOCK_INFLUENCE, ANGULAR = "cosine_lowest", "angular_span"
DRAWS = 4000
Plans = dict[str, dict[str, Any]]
"""method -> {"seconds", "drops": {number of blocks: drop set}}."""


def name_of(drop: Sequence[int]) -> str:
    """A drop set as text."""
    return " ".join(map(str, drop))


class Result:
    """What the folds answered, by method and number of dropped blocks."""

    def __init__(self, folds: Mapping[str, tuple[Plans, dict[str, Any]]]) -> None:
        self.folds = folds

    def outcomes(self, method: str, size: int, suite: str) -> dict[str, np.ndarray]:
        """family -> (3, items) of correct, nats, tokens; a family that both folds are asked is joined."""
        parts: dict[str, list[np.ndarray]] = {}
        for plans, families in self.folds.values():
            drop = name_of(plans[method]["drops"][str(size)]) if method else ""
            for family, facts in families.items():
                if facts["suite"] == suite:
                    parts.setdefault(family, []).append(np.array(facts["answers"][drop]))
        return {family: np.concatenate(arrays, 1) for family, arrays in sorted(parts.items())}

    def summary(self, method: str, size: int) -> dict[str, Any]:
        """Accuracy and nats per answer token, means over families, beside the base and Block Influence."""
        facts: dict[str, Any] = {}
        for suite in ("simple", "complex"):
            mine, base = self.outcomes(method, size, suite), self.outcomes("", size, suite)
            facts[f"{suite}_accuracy"] = float(np.mean([m[0].mean() for m in mine.values()]))
            facts[f"{suite}_nats"] = float(np.mean([m[1].sum() / m[2].sum() for m in mine.values()]))
            lost = {family: float(base[family][0].mean() - m[0].mean()) for family, m in mine.items()}
            facts[f"{suite}_worst_family"] = max(lost, key=lambda family: lost[family])
            facts[f"{suite}_worst_loss"] = max(lost.values())
            for name, reference in (("block_influence", BLOCK_INFLUENCE), ("angular", ANGULAR)):
                if method and all(reference in plans for plans, _ in self.folds.values()):
                    other = self.outcomes(reference, size, suite)
                    facts[f"{suite}_over_{name}"] = difference(
                        [m[0] - other[family][0] for family, m in mine.items()]
                    )
        return facts


def difference(families: Sequence[np.ndarray]) -> list[float]:
    """[mean over families of the mean of each, 95 % low, high]: families resampled, then their items."""
    random, num = np.random.default_rng(0), len(families)
    means = np.stack([random.choice(f, (DRAWS, num, len(f))).mean(2) for f in families])  # (F, draws, slot)
    chosen = random.integers(num, size=(DRAWS, num))
    drawn = means[chosen, np.arange(DRAWS)[:, None], np.arange(num)].mean(1)
    (low,), (high,) = interval_of(drawn[:, None], freedom=num - 1)
    return [float(np.mean([f.mean() for f in families])), float(low), float(high)]


def report(result: Result, methods: Sequence[str], sizes: Sequence[int], *, default: str) -> dict[str, Any]:
    """Print a table for every number of dropped blocks, and return the facts."""
    base = result.summary("", sizes[0])
    families = result.outcomes("", sizes[0], "simple") | result.outcomes("", sizes[0], "complex")
    counts = ", ".join(f"{name} {outcome.shape[1]}" for name, outcome in families.items())
    print(f"\nheld-out items: {counts}")
    print(f"base: accuracy simple {base['simple_accuracy']:.3f}, complex {base['complex_accuracy']:.3f}; "
          f"nats {base['simple_nats']:.2f}, {base['complex_nats']:.2f}")  # fmt: skip
    facts: dict[str, Any] = {"base": base, "drops": {}}
    for size in sizes:
        print(f"\n{size} blocks dropped{'':8}simple   over Block Influence     over angular span      complex"
              "   nats s/c     worst family     search s")  # fmt: skip
        rows = facts["drops"][str(size)] = {}
        for method in methods:
            row = rows[method] = result.summary(method, size)
            row["seconds"] = sum(plans[method]["seconds"] for plans, _ in result.folds.values())
            over = "".join(
                f"{v:+.3f} [{low:+.3f},{high:+.3f}] ".rjust(24)
                for v, low, high in (row["simple_over_block_influence"], row["simple_over_angular"])
            )
            print(
                f"{method:22}{row['simple_accuracy']:8.3f} {over}{row['complex_accuracy']:8.3f}"
                f"{row['simple_nats']:8.2f}{row['complex_nats']:6.2f}  -{row['simple_worst_loss']:.2f} "
                f"{row['simple_worst_family']:13}{row['seconds']:6.0f}"
                f"{'  <- default' if method == default else ''}",
                flush=True,
            )
        if default in rows:
            rows["default"] = rows[default]
    return facts
