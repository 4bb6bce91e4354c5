"""Statistics: hand-derived and published values, and verdicts; test_error_rates.py has how often they err."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from pairs import bootstrap_of, outcomes
from scipy import optimize, stats

from fastpath.bootstrap import Difference, macro_bootstrap
from fastpath.stats import (
    above_chance,
    holm,
    items_needed,
    mcnemar,
    mover,
    non_inferiority,
    power_of,
    suite_gap,
    tango,
    wilson,
)

# Proportions


def test_wilson_80_of_100():
    # by hand, z = 1.96: (0.8 + z^2/200 -+ z sqrt(0.16/100 + z^2/40000)) / (1 + z^2/100)
    assert (wilson(80, 100).low, wilson(80, 100).high) == pytest.approx((0.71117, 0.86663), abs=1e-5)
    assert wilson(0, 10).low == 0 and wilson(10, 10).high == 1


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (5, 3), (-1, 3)])
def test_wilson_refuses_what_is_not_a_proportion(successes, n):
    with pytest.raises(ValueError):
        wilson(successes, n)


def test_above_chance_by_hand_and_against_the_binomial():
    # two coins of 1/2 and 1/4: both right 1/8; at least one right 1 - 1/2 * 3/4
    assert above_chance(2, [0.5, 0.25]) == pytest.approx(1 / 8)
    assert above_chance(1, [0.5, 0.25]) == pytest.approx(5 / 8)
    assert above_chance(0, [0.5, 0.25]) == 1
    assert above_chance(44, [0.25] * 60) == pytest.approx(stats.binom.sf(43, 60, 0.25), rel=1e-9)
    assert above_chance(900, [0.25] * 2000) == pytest.approx(
        stats.binom.sf(899, 2000, 0.25), rel=1e-9
    )  # 8e-84


@pytest.mark.parametrize(("successes", "chances"), [(0, []), (3, [0.5, 0.5]), (1, [1.5]), (1, [math.nan])])
def test_above_chance_refuses_nonsense(successes, chances):
    with pytest.raises(ValueError, match="chances"):
        above_chance(successes, chances)


# Paired 0/1 outcomes


def test_mcnemar_by_hand():
    # 4 lost, 0 won: 2 * (1/2)^4
    assert asdict(mcnemar(*outcomes(4, 0, 56))) == {"lost": 4, "won": 0, "p": 0.125}
    # 10 lost, 3 won: 2 * (1 + 13 + 78 + 286) / 2^13
    assert mcnemar(*outcomes(10, 3, 5)).p == pytest.approx(2 * 378 / 8192)
    assert mcnemar([1, 0], [1, 0]).p == 1 and mcnemar(*outcomes(3, 3, 0)).p == 1


def test_mcnemar_swaps_with_the_models_and_refuses_scores():
    one, other = mcnemar(*outcomes(9, 4, 10)), mcnemar(*reversed(outcomes(9, 4, 10)))
    assert (one.lost, one.won, one.p) == (other.won, other.lost, other.p)
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar([0.5], [0.0])


def test_mcnemar_of_clusters_tosses_a_coin_for_each():
    # totals 3, 2, -1: sums of +-3 +-2 +-1 that are 4 or more, or -4 or less: 6, 4, -4, -6 of 8
    base, fast = [1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1]
    assert asdict(mcnemar(base, fast, list("aaabbcc"))) == {"lost": 5, "won": 1, "p": 0.5}
    assert mcnemar(base, fast, ["one"] * 7).p == 1  # a single template tells nothing
    rows = outcomes(31, 14, 400)
    for clusters in (None, range(445)):
        assert mcnemar(*rows, clusters).p == pytest.approx(stats.binomtest(31, 45).pvalue, rel=1e-9)
    assert mcnemar(*outcomes(900, 0, 100)).p == pytest.approx(2.0**-899)


def test_tango_known_values():
    # Fagerland et al. 2014, airway data of Bentur et al. (1 and 7 of 21): -0.517 to -0.026
    assert (tango(1, 7, 21).low, tango(1, 7, 21).high) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert (tango(9, 4, 50).low, tango(9, 4, 50).high) == pytest.approx((-0.04543, 0.24752), abs=1e-5)
    # no item differs: score = -sqrt(n d / (1 - d)), so the end is z^2 / (n + z^2)
    assert tango(0, 0, 50).high == pytest.approx(1.959964**2 / (50 + 1.959964**2), abs=1e-6)
    assert tango(5, 0, 5).high == 1 and tango(0, 5, 5).low == -1


@pytest.mark.parametrize(
    ("lost", "won", "n"), [(9, 4, 50), (4, 0, 60), (1, 7, 21), (30, 1, 60), (20, 20, 40)]
)
def test_tango_ends_are_where_the_score_is_z(lost, won, n):
    """The score, from a constrained likelihood maximised numerically instead of by the closed form."""

    def score(gap: float) -> float:
        def minus_likelihood(q: float) -> float:  # q = P(only fast right), P(only base right) = q + gap
            same = 1 - 2 * q - gap
            return -(stats.multinomial.logpmf([lost, won, n - lost - won], n, [q + gap, q, same]))

        span = (max(0.0, -gap) + 1e-12, (1 - gap) / 2 - 1e-12)
        q = optimize.minimize_scalar(
            minus_likelihood, bounds=span, method="bounded", options={"xatol": 1e-10}
        ).x
        return (lost - won - n * gap) / math.sqrt(n * (2 * q + gap - gap**2))

    ends = tango(lost, won, n)
    assert score(ends.low) == pytest.approx(1.959964, abs=1e-3)
    assert score(ends.high) == pytest.approx(-1.959964, abs=1e-3)


def test_tango_mirrors_and_refuses_impossible_counts():
    assert tango(9, 4, 50).low == pytest.approx(-tango(4, 9, 50).high)
    for counts in ((1, 1, 1), (-1, 0, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="counts"):
            tango(*counts)


# Verdicts


def gap_of(low: float, high: float, confidence: float = 0.9) -> Difference:
    return Difference((low + high) / 2, low, high, confidence, 100)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.019, "shown"),
        (-0.10, -0.03, "shown"),  # fast is better
        (0.001, 0.019, "shown"),  # worse, but less than the margin
        (-0.01, 0.02, "not shown"),
        (0.01, 0.05, "not shown"),
        (0.02, 0.05, "not shown"),
        (0.021, 0.05, "refuted"),
    ],
)
def test_verdict_compares_the_interval_with_the_margin(low, high, verdict):
    assert non_inferiority(gap_of(low, high), margin=0.02).verdict == verdict


def test_verdict_refuses_the_wrong_interval_and_no_margin():
    with pytest.raises(ValueError, match=r"needs the 0.9 interval, got 0.95"):
        non_inferiority(gap_of(0, 0.01, 0.95), margin=0.02)
    with pytest.raises(ValueError, match="margin"):
        non_inferiority(gap_of(0, 0.01), margin=0)
    assert (
        json.loads(json.dumps(asdict(non_inferiority(gap_of(0, 0.01), margin=0.02))))["gap"]["high"] == 0.01
    )


def test_no_difference_in_few_items_shows_nothing():
    same = (*outcomes(0, 0, 100), None)
    assert macro_bootstrap({"a": same}).high == 0  # the bootstrap alone would be sure
    assert non_inferiority(suite_gap({"a": same}), margin=0.02).verdict == "not shown"
    assert suite_gap({"a": same}).high == pytest.approx(tango(0, 0, 100, confidence=0.9).high)
    assert non_inferiority(suite_gap({k: same for k in "abcdefgh"}), margin=0.02).verdict == "shown"


def test_suite_gap_is_never_narrower_than_either_interval():
    base, fast = outcomes(9, 4, 37)
    clusters = [i // 5 for i in range(50)]  # like items together
    both, plain = suite_gap({"a": (base, fast, clusters)}), tango(9, 4, 50, confidence=0.9)
    by_cluster = bootstrap_of(base, fast, clusters=clusters, confidence=0.9)
    assert both.low == min(plain.low, by_cluster.low) and both.high == max(plain.high, by_cluster.high)


def test_items_needed_matches_the_published_design_table():
    # research/evals.md section 8, from (z_0.95 + z_0.8)^2 (psi - gap^2) / (margin - gap)^2
    assert [items_needed(0.10, m) for m in (0.01, 0.02, 0.03, 0.05)] == [6183, 1546, 687, 248]
    assert [items_needed(0.10, m, true_gap=0.005) for m in (0.02, 0.03, 0.05)] == [2748, 989, 306]
    assert items_needed(0, 0.02) == 1
    with pytest.raises(ValueError, match="no number of items"):
        items_needed(0.1, 0.02, true_gap=0.02)
    with pytest.raises(ValueError, match="discordance"):
        items_needed(0.01, 0.05, true_gap=0.02)


@pytest.mark.parametrize(
    ("discordance", "margin", "true_gap"), [(0.1, 0.02, 0.0), (0.2, 0.05, 0.01), (0.15, 0, -0.03)]
)
def test_power_of_is_the_inverse_of_items_needed(discordance, margin, true_gap):
    for alpha, power in ((0.05, 0.8), (0.025, 0.9)):
        n = items_needed(discordance, margin, true_gap=true_gap, alpha=alpha, power=power)
        at, below = (power_of(m, discordance, margin, true_gap=true_gap, alpha=alpha) for m in (n, n - 1))
        assert below < power <= at


def test_power_of_has_no_side_and_knows_its_limits():
    one, other = power_of(500, 0.2, 0.0, true_gap=0.03), power_of(500, 0.2, 0.03, true_gap=0.06)
    assert one == pytest.approx(power_of(500, 0.2, 0.0, true_gap=-0.03)) and one < other
    assert power_of(500, 0.2, 0.02, true_gap=0.02) == pytest.approx(0.05)  # at the margin: the error rate
    assert (power_of(5, 0, 0.02), power_of(5, 0, 0)) == (1, 0)
    for call in (lambda: power_of(0, 0.1, 0.02), lambda: power_of(10, 0.01, 0.05, true_gap=0.02)):
        with pytest.raises(ValueError, match=r"num_items|discordance"):
            call()


def test_holm_by_hand_and_monotone():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    ps = np.random.default_rng(0).random(30) ** 3
    adjusted = np.array(holm(ps))
    assert (np.diff(adjusted[np.argsort(ps)]) >= 0).all() and (adjusted >= ps).all() and (adjusted <= 1).all()
    assert holm([]) == [] and holm([0.2]) == [0.2]


def test_mover_of_one_gap_is_that_gap_and_of_a_difference_is_as_wide_as_both():
    a, b = Difference(0.5, 0.3, 0.6, 0.95, 9), Difference(0.2, 0.0, 0.3, 0.95, 9)
    alone = mover([a], [1])
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.5, 0.3, 0.6))
    both = mover([a, b], (1, -1))
    # low: 0.2 below a, 0.1 above b; high: 0.1 above a, 0.2 below b
    assert (both.value, both.low, both.high) == pytest.approx((0.3, 0.3 - 0.05**0.5, 0.3 + 0.05**0.5))
    with pytest.raises(ValueError, match="one confidence"):
        mover([a, Difference(0.2, 0.0, 0.3, 0.9, 9)], (1, -1))
