"""Intervals of means and of rates, by hand, against scipy, and by what they have to ignore or not."""

import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from latency_profile.statistics import Sample, describe, mean_interval, rate_interval
from latency_profile.statistics.means import student
from latency_profile.statistics.memory import autocorrelation_time, autoregressive_time, paired_time

MS = 1_000_000


@pytest.mark.parametrize("degrees", [2, 2.5, 3, 4, 4.99, 5, 7.7, 12, 24, 99, 5000])
def test_student_is_scipys(degrees):
    assert student(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=5e-4)


def test_without_skewness_it_is_the_t_interval():
    values = np.array([9.0, 12, 8, 13, 10, 11, 7, 14, 10, 11, 9, 12])  # 10.5 ± as much on both sides
    residuals = values - values.mean()
    low, high = mean_interval(residuals, 1.0)
    law = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
    assert (values.mean() + low, values.mean() + high) == pytest.approx(law, rel=1e-3)


def test_skewness_moves_both_ends_to_the_long_tails_side():
    values = np.random.default_rng(1).exponential(1, 50)
    low, high = mean_interval(values - values.mean(), 1.0)
    assert high > -low > 0
    mirrored = mean_interval(values.mean() - values, 1.0)
    assert mirrored == pytest.approx((-high, -low))


def test_four_times_the_autocorrelation_time_widens_it_twice():
    residuals = np.random.default_rng(2).normal(size=100_000)
    one, four = mean_interval(residuals - residuals.mean(), 1.0), mean_interval(residuals - residuals.mean(), 4.0)
    assert four[1] == pytest.approx(2 * one[1], rel=0.01)


def test_equal_values_have_an_interval_of_one_point():
    found = describe(Sample(np.full(50, 7 * MS)))
    assert (found.mean_low_s, found.mean_s, found.mean_high_s) == (0.007, 0.007, 0.007)


@pytest.mark.parametrize("ns", [123_456_789.4, 123_456_789.6])
def test_rounding_leaves_the_mean_inside_its_interval(ns):
    found = describe(Sample(np.full(50, ns)))
    assert found.mean_low_s <= found.mean_s <= found.mean_high_s


def test_two_requests_have_no_interval_of_the_mean():
    two, three = describe(Sample(np.array([7, 9]) * MS)), describe(Sample(np.array([7, 9, 8]) * MS))
    assert (two.mean_low_s, two.mean_high_s) == (None, None)
    assert (three.mean_low_s, three.mean_high_s) == pytest.approx(
        (0.008 - 0.001 * 4.3027 / math.sqrt(3), 0.008 + 0.001 * 4.3027 / math.sqrt(3)), rel=1e-3
    )


def test_one_request_has_no_interval():
    found = describe(Sample(np.array([7 * MS])))
    assert (found.mean_s, found.mean_low_s, found.mean_high_s) == (0.007, None, None)
    gaps = describe(Sample(np.array([1, 2, 3]) * MS, per_request=np.array([3])))
    assert gaps.mean_low_s is None


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_time_of_an_autoregression_is_its_theory(memory):
    rng = np.random.default_rng(3)
    series = scipy.signal.lfilter([1.0], [1.0, -memory], rng.normal(size=50_000))
    theory = (1 + memory) / (1 - memory)
    assert autoregressive_time(series - series.mean()) == pytest.approx(theory, rel=0.15)
    assert paired_time(series - series.mean()) == pytest.approx(theory, rel=0.2)
    known = describe(Sample((series + 100) * 1e9))
    assert known.mean_effective_n == pytest.approx(50_000 / theory, rel=0.2)


def test_both_estimators_where_one_is_blind():
    """A memory that comes back only after 100 values is seen by no short autoregression of single values."""
    rng = np.random.default_rng(4)
    level = np.repeat(rng.normal(size=20), 100) + rng.normal(size=2000) * 3
    series = level - level.mean()
    assert autocorrelation_time(series) == max(paired_time(series), autoregressive_time(series)) > 3


def test_neighbours_that_make_up_for_each_other_narrow_a_rate_and_no_latency():
    series = np.tile([1.0, -1.0], 200) + np.random.default_rng(5).normal(0, 0.1, 400)
    series -= series.mean()
    assert autoregressive_time(series) < 0.2
    assert autocorrelation_time(series) == 1


def test_the_mean_of_gaps_is_a_ratio_and_counts_answers():
    """Each of 2,000 answers has gaps of one length: all 100,000 values tell as much as 2,000."""
    rng = np.random.default_rng(6)
    each = rng.normal(20, 2, 2000)
    counts = np.full(2000, 50)
    found = describe(Sample(np.repeat(each, counts) * MS, per_request=counts))
    low, high = scipy.stats.t.interval(0.95, 1999, each.mean(), scipy.stats.sem(each))
    assert found.mean_low_s * 1000 == pytest.approx(low, abs=0.02)
    assert found.mean_high_s * 1000 == pytest.approx(high, abs=0.02)
    assert found.mean_effective_n == pytest.approx(2000, rel=0.2)


def test_answers_of_different_lengths_cover_the_ratio():
    """Long answers are slow ones: the pooled mean is no mean of means, and its interval holds it."""
    rng = np.random.default_rng(7)
    truth, held = 2.2 / 1.2, 0  # E[length * gap] / E[length]: (0.9 * 1 * 1 + 0.1 * 3 * (13 / 3)) / (0.9 + 0.3)
    for _ in range(200):
        long = rng.random(400) < 0.1
        counts = np.where(long, 30, 10)
        gaps = np.where(long, 13 / 3, 1.0) * rng.normal(1, 0.1, 400)
        found = describe(Sample(np.repeat(gaps, counts) * 1e9, per_request=counts))
        held += found.mean_low_s <= truth <= found.mean_high_s
    assert 0.91 <= held / 200 <= 0.99


def test_order_of_arrival_counts_for_the_mean():
    rng = np.random.default_rng(8)
    series = scipy.signal.lfilter([1.0], [1.0, -0.9], rng.normal(size=4000)) + 50
    shuffle = rng.permutation(4000)
    ones = np.ones(4000, dtype=np.int64)
    arrived = describe(Sample(series * 1e9))
    found = describe(Sample(series[shuffle] * 1e9, per_request=ones, order=np.argsort(shuffle)))
    assert (found.mean_low_s, found.mean_high_s) == pytest.approx((arrived.mean_low_s, arrived.mean_high_s))
    shuffled = describe(Sample(series[shuffle] * 1e9))
    assert shuffled.mean_high_s - shuffled.mean_low_s < (arrived.mean_high_s - arrived.mean_low_s) / 3


def test_a_mean_over_unfinished_requests_has_a_lower_bound_only():
    values = np.random.default_rng(9).permutation(np.arange(1, 1001)) * MS
    slow = values > 900 * MS
    found = describe(Sample(np.where(slow, 5000 * MS, values), unfinished=slow))
    assert found.mean_high_s is None
    assert found.mean_s == pytest.approx(0.4505)  # of the finished
    assert found.mean_low_s == pytest.approx(0.9054 - 1.96 * math.sqrt(1.8868 / 1000), rel=0.03)  # of all, so far


def test_a_mean_of_times_is_not_negative():
    found = describe(Sample(np.array([0, 0, 5]) * MS))
    assert found.mean_low_s == 0
    assert describe(Sample(np.array([-5, 0, 5]) * MS)).mean_low_s < 0


def test_the_rate_of_poisson_counts_is_known_to_the_root_of_their_number():
    counts = np.random.default_rng(10).poisson(4, 100).astype(float)
    low, high = rate_interval(counts, 0.5)
    n = counts.sum()
    assert low == pytest.approx((n - 1.98 * math.sqrt(n)) / 50, rel=0.02)
    assert high == pytest.approx((n + 1.98 * math.sqrt(n)) / 50, rel=0.02)


def test_nothing_counted_has_no_interval():
    assert rate_interval(np.zeros(100), 1.0) is None
