"""How often each claim errs, by simulation or summed over all outcomes."""

import numpy as np
import pytest
from pairs import bootstrap_of, clustered
from scipy import stats

from fastpath.stats import items_needed, mcnemar, non_inferiority, power_of, suite_gap, tango


def rate(trials: int, errs) -> float:
    random = np.random.default_rng(20)
    return sum(errs(random) for _ in range(trials)) / trials


@pytest.mark.parametrize(("n", "won_rate"), [(60, 0.05), (200, 0.02), (400, 0.05)])
def test_shown_errs_at_most_5_percent_at_the_margin_one_task_exactly(n, won_rate):
    """Summed over all outcomes, not simulated: independent items, true gap exactly 0.05."""
    error = 0.0
    for lost in range(n + 1):
        some = stats.binom.pmf(lost, n, won_rate + 0.05)
        wons = np.arange(n - lost + 1)
        chance = some * stats.binom.pmf(wons, n - lost, won_rate / (0.95 - won_rate))
        for won in wons[chance > 1e-6]:
            if (lost - won) / n < 0.05:  # else not even the estimate is below the margin
                error += chance[won] * (tango(lost, int(won), n, confidence=0.9).high < 0.05)
    assert 0.03 < error < 0.055


@pytest.mark.parametrize(
    ("num_tasks", "shape"),
    [
        (1, {"num_clusters": 40, "size": 5, "discordance": 0.3, "spread": 0.2}),
        (1, {"num_clusters": 6, "size": 10, "discordance": 0.4, "spread": 0.3}),
        (3, {"num_clusters": 10, "size": 4, "discordance": 0.3, "spread": 0.2}),
        (5, {"num_clusters": 40, "size": 1, "discordance": 0.1, "spread": 0.0}),
    ],
)
def test_shown_and_refuted_err_about_5_percent_at_the_margin_in_clusters(num_tasks, shape):
    verdicts = []
    random = np.random.default_rng(0)
    for seed in range(400):
        groups = {f"task {k}": clustered(random, gap=0.05, **shape) for k in range(num_tasks)}
        verdicts.append(non_inferiority(suite_gap(groups, draws=400, seed=seed), margin=0.05).verdict)
    assert verdicts.count("shown") / 400 <= 0.07  # 0.05 and two standard errors of the simulation
    assert verdicts.count("refuted") / 400 <= 0.08


def test_ignoring_clusters_would_claim_too_often():
    shape = {"num_clusters": 8, "size": 25, "discordance": 0.6, "spread": 0.3, "gap": 0.1}

    def errs(random) -> bool:
        base, fast, _ = clustered(random, **shape)
        return bootstrap_of(base, fast, draws=200, confidence=0.9).high < 0.1

    assert rate(200, errs) > 0.12


def test_equal_models_differ_at_most_as_often_as_allowed():
    def bootstrap_errs(random) -> bool:
        base, fast, clusters = clustered(random, num_clusters=40, size=3, gap=0, discordance=0.3, spread=0.2)
        gap = bootstrap_of(base, fast, clusters=clusters, draws=400)
        return gap.low > 0 or gap.high < 0

    def mcnemar_errs(random) -> bool:
        return mcnemar(random.random(80) < 0.6, random.random(80) < 0.6).p < 0.05

    def mcnemar_of_templates(random, by_template: bool) -> bool:
        base, fast, clusters = clustered(random, num_clusters=40, size=20, gap=0, discordance=0.4, spread=0.3)
        return mcnemar(base, fast, clusters if by_template else None).p < 0.05

    assert rate(400, bootstrap_errs) <= 0.07
    assert rate(400, lambda random: mcnemar_of_templates(random, True)) <= 0.07
    assert rate(400, lambda random: mcnemar_of_templates(random, False)) > 0.12  # why clusters count
    assert rate(400, mcnemar_errs) <= 0.05


def test_shown_is_reached_as_often_as_items_needed_says():
    n = items_needed(0.2, 0.1)

    def shown(random) -> bool:
        base, fast, _ = clustered(random, num_clusters=n, size=1, gap=0, discordance=0.2, spread=0)
        result = mcnemar(base, fast)
        return tango(result.lost, result.won, n, confidence=0.9).high < 0.1

    assert 0.75 < rate(600, shown) < 0.87


@pytest.mark.parametrize(("num_items", "discordance", "gap"), [(1500, 0.2, 0.03), (400, 0.1, 0.05)])
def test_a_gap_is_found_as_often_as_power_of_says(num_items, discordance, gap):
    random = np.random.default_rng(0)
    counts = random.multinomial(
        num_items, [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance], size=600
    )
    found = np.mean([tango(int(lost), int(won), num_items).low > 0 for lost, won, _ in counts])
    stated = power_of(num_items, discordance, 0, true_gap=gap, alpha=0.025)
    assert 0.5 < stated < 0.95 and found == pytest.approx(stated, abs=0.045)  # 0.02: one standard error
