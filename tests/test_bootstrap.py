"""Bootstrap intervals: the widths of normal theory, and what must change nothing."""

import math

import numpy as np
import pytest
from pairs import bootstrap_of, clustered, mean_of, outcomes
from scipy import stats

from fastpath.bootstrap import bootstrap_ratio, macro_bootstrap
from fastpath.stats import non_inferiority, suite_gap


def test_gap_is_positive_when_fast_is_worse():
    gap = bootstrap_of([1, 1, 1, 0] * 10, [1, 0, 0, 0] * 10)
    assert gap.value == 0.5 and 0.3 < gap.low < 0.5 < gap.high < 0.7 and gap.num_units == 40


def test_bootstrap_width_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(size=400)
    mean = mean_of(values, draws=20_000)
    half_width = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert (mean.high - mean.low) / 2 == pytest.approx(half_width, rel=0.03)


def test_few_values_get_the_width_of_student_t():
    values = np.random.default_rng(0).normal(size=6)
    mean = mean_of(values, draws=20_000, confidence=0.8)
    half_width = stats.t.ppf(0.9, 5) * values.std(ddof=1) / math.sqrt(6)
    assert (mean.high - mean.low) / 2 == pytest.approx(half_width, rel=0.05)


def test_order_and_cluster_names_do_not_matter():
    random = np.random.default_rng(1)
    base, fast, clusters = clustered(random, num_clusters=12, size=3, gap=0.1, discordance=0.4, spread=0.2)
    order = random.permutation(len(base))
    renamed = [f"template {(7 * c) % 12}" for c in clusters[order]]
    one = bootstrap_of(base, fast, clusters=clusters, draws=200)
    assert one == bootstrap_of(base[order], fast[order], clusters=renamed, draws=200)
    assert one != bootstrap_of(base, fast, clusters=clusters, draws=200, seed=1)


def test_clusters_of_one_item_are_no_clusters():
    base, fast = outcomes(9, 4, 20)
    assert bootstrap_of(base, fast, clusters=range(33)) == bootstrap_of(base, fast)


def test_repeating_every_item_within_its_cluster_adds_no_certainty():
    base, fast = outcomes(9, 4, 20)
    once = bootstrap_of(base, fast)
    repeated = bootstrap_of(base * 5, fast * 5, clusters=list(range(33)) * 5)
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    assert bootstrap_of(base * 5, fast * 5).high < once.high - 0.05  # what ignoring it would claim


def test_unequal_clusters_weigh_by_their_items():
    gap = bootstrap_of([1, 1, 1, 0], [0, 0, 0, 0], clusters=["a", "a", "a", "b"])
    assert gap.value == 0.75


def test_macro_mean_weighs_tasks_not_items():
    gap = macro_bootstrap({"large": (*outcomes(10, 0, 90), None), "small": (*outcomes(5, 0, 5), None)})
    assert gap.value == pytest.approx((0.1 + 0.5) / 2) and gap.num_units == 110


def test_macro_mean_of_one_task_is_the_task_and_tasks_have_no_order():
    one, two = (*outcomes(9, 4, 20), None), (*outcomes(2, 1, 30), None)
    assert macro_bootstrap({"a": one}) == bootstrap_of(one[0], one[1])
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
    mean = mean_of(values, clusters=list(clusters))
    assert (mean.high - mean.low) == pytest.approx(
        widened * np.diff(np.quantile(ones, (0.025, 0.975)))[0], rel=0.06
    )


def test_one_cluster_says_nothing():
    gap = bootstrap_of([1] * 50, [0] * 50, clusters=["only"] * 50)
    assert (gap.value, gap.low, gap.high, gap.num_units) == (1, -1, 1, 1)
    suite = suite_gap({"a": (*outcomes(0, 0, 500), None), "b": ([1], [1], None)})
    assert non_inferiority(suite, margin=0.1).verdict == "not shown" and suite.num_units == 1
    assert (mean_of([0.3]).low, mean_of([0.3]).high) == (-1, 1)
    with pytest.raises(ValueError, match="one cluster only"):
        bootstrap_of([2.5, 3.0], [2.0, 3.5], clusters=["only", "only"])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: bootstrap_of([], []), "non-empty"),
        (lambda: mean_of([]), "non-empty"),
        (lambda: macro_bootstrap({}), "no tasks"),
        (lambda: suite_gap({"dates": ([1, 0], [1], None)}), "dates: 2 outcomes of base, 1 of fast"),
        (lambda: bootstrap_of([1, 0], [1, 1], clusters=["a"]), "1 cluster names for 2 items"),
        (lambda: mean_of([1.0, math.nan]), "finite"),
        (lambda: mean_of([1.0, 2.0], confidence=95), "confidence"),
    ],
)
def test_bad_input_is_named(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()
