"""Summaries, percentiles and intervals, against numpy, scipy, hand-made cases and simulation."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.statistics import (
    NOTHING,
    NS_PER_MS,
    Sample,
    autocorrelation_time,
    binomial_ranks,
    describe,
    effective_size,
    growth,
    quantile,
    summarize,
)

times = arrays.arrays(np.int64, st.integers(1, 80), elements=st.integers(0, 10**12))


@given(times, st.floats(0, 1))
def test_quantile_is_numpys(values, level):
    assert quantile(np.sort(values), level) == pytest.approx(np.percentile(values, 100 * level), rel=1e-9, abs=1e-3)


def test_summary_of_a_small_sample_by_hand():
    found = summarize(np.array([4, 1, 3, 2]) * 1_000_000, NS_PER_MS)
    assert (found.mean, found.median, found.min, found.max) == (2.5, 2.5, 1, 4)
    assert found.sd == pytest.approx(math.sqrt(1.25))  # the population's: (1.5² + 0.5² + 0.5² + 1.5²) / 4
    assert found.p90 == pytest.approx(3.7)  # position 0.9 * 3 = 2.7: 3 + 0.7 * (4 - 3)
    assert found.p99 == pytest.approx(3.97)


@given(times)
def test_summary_is_numpys(values):
    found = summarize(values, NS_PER_MS)
    assert found.mean == pytest.approx(values.mean() / 1e6, rel=1e-12, abs=1e-6)
    assert found.sd == pytest.approx(values.std() / 1e6, rel=1e-9, abs=1e-4)
    assert found.p99 == pytest.approx(np.percentile(values, 99) / 1e6, rel=1e-9, abs=1e-6)


@given(arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e12)), st.randoms())
def test_order_changes_no_bit_of_a_summary(values, random):
    shuffled = values.tolist()
    random.shuffle(shuffled)
    assert summarize(np.array(shuffled), 7.0) == summarize(values, 7.0)


def test_the_sum_of_many_large_integers_is_exact():
    values = np.full(3_000_000, 10**12 + 1, dtype=np.int64)
    assert summarize(values).mean == 10**12 + 1
    assert summarize(values).sd == 0


def test_an_empty_sample_has_no_numbers():
    assert summarize(np.array([], dtype=np.int64)) == NOTHING
    found = describe(Sample(np.array([], dtype=np.int64)))
    assert (found.n, found.mean_s, found.max_s, found.p99.value_s) == (0, None, None, None)
    assert not found.p50.resolved


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 36, 120, 367, 368, 1000, 99_999, 10_000_000])
def test_ranks_are_scipys_binomial_quantiles(n, level):
    law = scipy.stats.binom(n, level)
    lower, upper = law.ppf(0.025), law.ppf(0.975) + 1
    assert binomial_ranks(n, level) == (lower if lower >= 1 else None, upper if upper <= n else None)


def test_a_hundred_and_twenty_requests_have_no_upper_bound_on_p99():
    lower, upper = binomial_ranks(120, 0.99)
    assert lower == 116 and upper is None
    assert binomial_ranks(367, 0.99)[1] is None
    assert binomial_ranks(368, 0.99)[1] == 368


@given(st.integers(1, 5000), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_ranks_cover_with_the_stated_confidence(n, level):
    lower, upper = binomial_ranks(n, level)
    law = scipy.stats.binom(n, level)
    missed_below = law.cdf(lower - 1) if lower else 0
    missed_above = law.sf(upper - 1) if upper else 0
    assert missed_below <= 0.025 + 1e-12 and missed_above <= 0.025 + 1e-12


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_intervals_of_independent_values_cover_the_true_percentile(level):
    """2,000 samples of 1,000 lognormal values: the interval holds the truth in 93.5 % to 98.5 % of them."""
    rng = np.random.default_rng(11)
    truth = scipy.stats.lognorm(0.5).ppf(level)
    name = f"p{round(level * 100)}"
    hits = 0
    for _ in range(2000):
        found = getattr(describe(Sample(np.rint(rng.lognormal(0, 0.5, 1000) * 1e9).astype(np.int64))), name)
        hits += found.low_s <= truth <= found.high_s
    assert 0.935 <= hits / 2000 <= 0.985


def moving(rng, n, memory):
    """n values of a stationary AR(1) series with standard normal margins."""
    steps = rng.normal(0, math.sqrt(1 - memory**2), n)
    steps[0] = rng.normal()
    return scipy.signal.lfilter([1.0], [1.0, -memory], steps)


def test_intervals_of_dependent_values_cover_too_and_would_not_uncorrected():
    rng = np.random.default_rng(12)
    truth, corrected, naive = 0.0, 0, 0
    for _ in range(400):
        values = moving(rng, 1500, 0.9)
        found = describe(Sample(values * 1e9)).p50
        corrected += found.low_s <= truth <= found.high_s
        lower, upper = binomial_ranks(len(values), 0.5)
        ordered = np.sort(values)
        naive += ordered[lower - 1] <= truth <= ordered[upper - 1]
    assert corrected / 400 >= 0.90
    assert naive / 400 < 0.60


def test_effective_size_of_a_dependent_series_is_its_theory():
    """Of Gaussian AR(1), the median's indicator has the autocorrelation (2 / pi) asin(memory^k)."""
    rng = np.random.default_rng(13)
    n, memory = 20_000, 0.8
    theory = n / (1 + 2 * sum(2 / math.pi * math.asin(memory**k) for k in range(1, 200)))
    assert effective_size(Sample(moving(rng, n, memory)), 0.0) == pytest.approx(theory, rel=0.15)
    assert effective_size(Sample(rng.normal(size=n)), 0.0) == pytest.approx(n, rel=0.1)


def test_order_of_arrival_is_what_counts():
    rng = np.random.default_rng(14)
    values = moving(rng, 4000, 0.9)
    shuffle = rng.permutation(4000)
    back = np.argsort(shuffle)
    arrived = effective_size(Sample(values), 0.0)
    assert effective_size(Sample(values[shuffle]), 0.0) > 5 * arrived
    ones = np.ones(4000, dtype=np.int64)
    assert effective_size(Sample(values[shuffle], per_request=ones, order=back), 0.0) == pytest.approx(arrived)


def test_gaps_of_one_answer_do_not_count_as_independent():
    """A hundred equal gaps in each of 400 answers tell as much as 400 values."""
    rng = np.random.default_rng(15)
    per_answer = rng.normal(size=400)
    found = effective_size(Sample(np.repeat(per_answer, 100), per_request=np.full(400, 100)), 0.0)
    assert found == pytest.approx(400, rel=0.2)
    independent = rng.normal(size=40_000)
    found = effective_size(Sample(independent, per_request=np.full(400, 100)), 0.0)
    assert found == pytest.approx(40_000, rel=0.3)


def test_the_interval_of_fewer_effective_values_takes_the_outer_ends_of_their_blocks():
    """With ten neighbouring values a request, each rank of the effective size stands for a block of ten or more."""
    values = (np.random.default_rng(19).permutation(1000)[:, None] * 10**9 + np.arange(10)).reshape(-1)
    sample = Sample(values, per_request=np.full(1000, 10))
    for name, level in (("p50", 0.5), ("p90", 0.9)):
        found = getattr(describe(sample), name)
        effective = math.floor(effective_size(sample, found.value_s * 1e9))
        assert effective <= 1000
        lower, upper = binomial_ranks(effective, level)
        below, up_to = (values < found.low_s * 1e9 - 0.1).mean(), (values < found.high_s * 1e9 + 0.1).mean()
        assert below <= (lower - 1) / effective and up_to >= upper / effective
        assert below == pytest.approx(lower / effective, abs=0.003)
        assert up_to == pytest.approx(upper / effective, abs=0.003)


def test_autocorrelation_time_never_narrows():
    alternating = np.tile([1.0, -1.0], 500)
    assert autocorrelation_time(alternating) == 1
    assert autocorrelation_time(np.array([0.0])) == 1


def test_a_percentile_among_unfinished_requests_is_a_lower_bound():
    values = np.random.default_rng(18).permutation(np.arange(1, 1001)) * 10**9
    none = describe(Sample(values))
    assert none.p90.resolved and none.p99.resolved
    slow = values > 900 * 10**9  # the slowest tenth had not ended
    found = describe(Sample(np.where(slow, 950 * 10**9, values), unfinished=slow))
    assert (found.n, found.unfinished) == (900, 100)
    assert found.max_s == 900 and found.mean_s == 450.5
    assert found.p50.resolved and found.p50.low_s < found.p50.value_s < found.p50.high_s
    assert not found.p99.resolved
    assert found.p99.value_s == 950 and found.p99.high_s is None


def test_unfinished_requests_widen_an_interval_upwards():
    """Cut short young, they might be the slowest of all: the upper end moves by as many ranks."""
    rng = np.random.default_rng(16)
    values = rng.permutation(np.arange(1, 1001)) * 10**9
    late = values > 500 * 10**9
    young = late & (np.cumsum(late) <= 20)
    cut = describe(Sample(np.where(young, 1, values), unfinished=young))
    whole = describe(Sample(values))
    assert cut.p50.low_s <= whole.p50.low_s
    assert cut.p50.high_s >= whole.p50.high_s


@given(times, st.randoms())
def test_what_is_described_is_ordered_and_finite(values, random):
    unfinished = np.array([random.random() < 0.2 for _ in values])
    found = describe(Sample(values, unfinished=unfinished))
    for percentile in (found.p50, found.p90, found.p95, found.p99):
        ends = [end for end in (percentile.low_s, percentile.value_s, percentile.high_s) if end is not None]
        assert all(map(math.isfinite, ends)) and ends == sorted(ends)
        assert percentile.resolved == (percentile.low_s is not None and percentile.high_s is not None)
        assert 1 <= percentile.effective_n <= len(values)
    assert found.p50.value_s <= found.p90.value_s <= found.p95.value_s <= found.p99.value_s


def test_growth_of_a_straight_line():
    found = growth(np.arange(21) * 3.0, 0.5)
    assert found.per_s == pytest.approx(6)
    assert found.standard_error == 0


def test_growth_knows_how_far_a_random_walk_strays():
    """Slopes of driftless walks scatter by the stated standard error; half a percent exceeds t(0.995, 19) of it."""
    rng = np.random.default_rng(17)
    found = [growth(np.cumsum(rng.normal(0, 2, 21)), 0.5) for _ in range(20_000)]
    scatter = np.std([one.per_s for one in found])
    stated = math.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert scatter == pytest.approx(stated, rel=0.015)
    beyond = np.mean([one.per_s > scipy.stats.t.ppf(0.995, 19) * one.standard_error for one in found])
    assert 0.001 < beyond < 0.012
