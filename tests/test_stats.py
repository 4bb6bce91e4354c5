"""Statistics: hand-derived and published values, invariances, and how often each claim errs (simulated)."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy import optimize, stats

from fastpath.bootstrap import (
    Difference,
    bootstrap_mean,
    bootstrap_ratio,
    macro_bootstrap,
    paired_bootstrap,
)
from fastpath.stats import (
    above_chance,
    holm,
    items_needed,
    mcnemar,
    non_inferiority,
    suite_gap,
    tango,
    wilson,
)


def outcomes(lost: int, won: int, same: int) -> tuple[list[int], list[int]]:
    """0/1 outcomes of base and fast with so many items lost, won and right in both."""
    return [1] * lost + [0] * won + [1] * same, [0] * lost + [1] * won + [1] * same


def clustered(random, *, num_clusters: int, size: int, gap: float, discordance: float, spread: float):
    """Outcomes whose mean gap is `gap`; every cluster has its own gap, up to `spread` away."""
    own = np.repeat(gap + random.uniform(-spread, spread, num_clusters), size)
    draw = random.random(num_clusters * size)
    lost, won = draw < (discordance + own) / 2, draw > 1 - (discordance - own) / 2
    base = np.where(lost | won, lost, random.random(len(draw)) < 0.6)
    return base.astype(int), (base & ~lost | won).astype(int), np.repeat(np.arange(num_clusters), size)


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


# Bootstrap


def test_gap_is_positive_when_fast_is_worse():
    gap = paired_bootstrap([1, 1, 1, 0] * 10, [1, 0, 0, 0] * 10)
    assert gap.value == 0.5 and 0.3 < gap.low < 0.5 < gap.high < 0.7 and gap.num_units == 40


def test_bootstrap_width_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(size=400)
    mean = bootstrap_mean(values, draws=20_000)
    half_width = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert (mean.high - mean.low) / 2 == pytest.approx(half_width, rel=0.03)


def test_few_values_get_the_width_of_student_t():
    values = np.random.default_rng(0).normal(size=6)
    mean = bootstrap_mean(values, draws=20_000, confidence=0.8)
    half_width = stats.t.ppf(0.9, 5) * values.std(ddof=1) / math.sqrt(6)
    assert (mean.high - mean.low) / 2 == pytest.approx(half_width, rel=0.05)


def test_order_and_cluster_names_do_not_matter():
    random = np.random.default_rng(1)
    base, fast, clusters = clustered(random, num_clusters=12, size=3, gap=0.1, discordance=0.4, spread=0.2)
    order = random.permutation(len(base))
    renamed = [f"template {(7 * c) % 12}" for c in clusters[order]]
    one = paired_bootstrap(base, fast, clusters=clusters, draws=200)
    assert one == paired_bootstrap(base[order], fast[order], clusters=renamed, draws=200)
    assert one != paired_bootstrap(base, fast, clusters=clusters, draws=200, seed=1)


def test_clusters_of_one_item_are_no_clusters():
    base, fast = outcomes(9, 4, 20)
    assert paired_bootstrap(base, fast, clusters=range(33)) == paired_bootstrap(base, fast)


def test_repeating_every_item_within_its_cluster_adds_no_certainty():
    base, fast = outcomes(9, 4, 20)
    once = paired_bootstrap(base, fast)
    repeated = paired_bootstrap(base * 5, fast * 5, clusters=list(range(33)) * 5)
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    assert paired_bootstrap(base * 5, fast * 5).high < once.high - 0.05  # what ignoring it would claim


def test_unequal_clusters_weigh_by_their_items():
    gap = paired_bootstrap([1, 1, 1, 0], [0, 0, 0, 0], clusters=["a", "a", "a", "b"])
    assert gap.value == 0.75


def test_macro_mean_weighs_tasks_not_items():
    gap = macro_bootstrap({"large": (*outcomes(10, 0, 90), None), "small": (*outcomes(5, 0, 5), None)})
    assert gap.value == pytest.approx((0.1 + 0.5) / 2) and gap.num_units == 110


def test_macro_mean_of_one_task_is_the_task_and_tasks_have_no_order():
    one, two = (*outcomes(9, 4, 20), None), (*outcomes(2, 1, 30), None)
    assert macro_bootstrap({"a": one}) == paired_bootstrap(one[0], one[1])
    assert macro_bootstrap({"a": one, "b": two}) == macro_bootstrap({"b": two, "a": one})


@pytest.mark.parametrize("interval", [macro_bootstrap, suite_gap])
def test_four_equal_tasks_halve_the_width(interval):
    task = (*outcomes(60, 50, 390), None)
    one = interval({"a": task}, draws=20_000)
    four = interval({name: task for name in "abcd"}, draws=20_000)
    assert four.value == pytest.approx(one.value)
    assert four.high - four.low == pytest.approx((one.high - one.low) / 2, rel=0.03)


def test_ratio_of_sums_is_resampled_by_cluster_with_columns_together():
    random = np.random.default_rng(3)
    values, sizes, clusters = random.normal(size=60), random.integers(1, 5, 60), np.repeat(np.arange(20), 3)
    ratio, draws = bootstrap_ratio(np.stack([values, values + 2 * sizes], 1), sizes, clusters=list(clusters))
    assert ratio == pytest.approx([values.sum() / sizes.sum(), values.sum() / sizes.sum() + 2])
    assert draws.shape == (4000, 2) and np.allclose(
        draws[:, 1] - draws[:, 0], 2
    )  # the same items in both columns
    ones = bootstrap_ratio(values[:, None], np.ones(60), clusters=list(clusters))[1][:, 0]
    widened = math.sqrt(20 / 19) * stats.t.ppf(0.975, 19) / stats.norm.ppf(0.975)
    mean = bootstrap_mean(values, clusters=list(clusters))
    assert (mean.high - mean.low) == pytest.approx(
        widened * np.diff(np.quantile(ones, (0.025, 0.975)))[0], rel=0.06
    )


def test_one_cluster_says_nothing():
    gap = paired_bootstrap([1] * 50, [0] * 50, clusters=["only"] * 50)
    assert (gap.value, gap.low, gap.high, gap.num_units) == (1, -1, 1, 1)
    suite = suite_gap({"a": (*outcomes(0, 0, 500), None), "b": ([1], [1], None)})
    assert non_inferiority(suite, margin=0.1).verdict == "not shown" and suite.num_units == 1
    assert (bootstrap_mean([0.3]).low, bootstrap_mean([0.3]).high) == (0, 1)
    with pytest.raises(ValueError, match="one cluster only"):
        paired_bootstrap([2.5, 3.0], [2.0, 3.5], clusters=["only", "only"])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: paired_bootstrap([], []), "non-empty"),
        (lambda: bootstrap_mean([]), "non-empty"),
        (lambda: macro_bootstrap({}), "no tasks"),
        (lambda: suite_gap({"dates": ([1, 0], [1], None)}), "dates: 2 outcomes of base, 1 of fast"),
        (lambda: paired_bootstrap([1, 0], [1, 1], clusters=["a"]), "1 cluster names for 2 items"),
        (lambda: bootstrap_mean([1.0, math.nan]), "finite"),
        (lambda: bootstrap_mean([1.0, 2.0], confidence=95), "confidence"),
    ],
)
def test_bad_input_is_named(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


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
    assert non_inferiority(gap_of(low, high), margin=0.02, base_above_chance=False).verdict == "floor"


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
    by_cluster = paired_bootstrap(base, fast, clusters=clusters, confidence=0.9)
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


def test_holm_by_hand_and_monotone():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    ps = np.random.default_rng(0).random(30) ** 3
    adjusted = np.array(holm(ps))
    assert (np.diff(adjusted[np.argsort(ps)]) >= 0).all() and (adjusted >= ps).all() and (adjusted <= 1).all()
    assert holm([]) == [] and holm([0.2]) == [0.2]


# How often a claim errs


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
        return paired_bootstrap(base, fast, draws=200, confidence=0.9).high < 0.1

    assert rate(200, errs) > 0.12


def test_equal_models_differ_at_most_as_often_as_allowed():
    def bootstrap_errs(random) -> bool:
        base, fast, clusters = clustered(random, num_clusters=40, size=3, gap=0, discordance=0.3, spread=0.2)
        gap = paired_bootstrap(base, fast, clusters=clusters, draws=400)
        return gap.low > 0 or gap.high < 0

    def mcnemar_errs(random) -> bool:
        return mcnemar(random.random(80) < 0.6, random.random(80) < 0.6).p < 0.05

    assert rate(400, bootstrap_errs) <= 0.07
    assert rate(400, mcnemar_errs) <= 0.05


def test_shown_is_reached_as_often_as_items_needed_says():
    n = items_needed(0.2, 0.1)

    def shown(random) -> bool:
        base, fast, _ = clustered(random, num_clusters=n, size=1, gap=0, discordance=0.2, spread=0)
        result = mcnemar(base, fast)
        return tango(result.lost, result.won, n, confidence=0.9).high < 0.1

    assert 0.75 < rate(600, shown) < 0.87
