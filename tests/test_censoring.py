"""Percentiles of samples in which some requests had not ended."""

import numpy as np
import pytest

from latency_profile.statistics import Sample, describe
from latency_profile.statistics.censoring import ordered, survival

S = 10**9


def test_survival_by_hand() -> None:
    """Of five, 20 is unfinished: 30 and 50 share what it would have been."""
    values, unfinished = np.array([10, 50, 20, 30, 20]), np.array([False, False, True, False, False])
    known, beyond = survival(values, unfinished)
    assert known.tolist() == [10, 20, 30, 50]
    assert beyond.tolist() == pytest.approx([0.8, 0.6, 0.3, 0.0])


def test_without_unfinished_values_they_are_the_values() -> None:
    values = np.array([3, 1, 2])
    sample, known = ordered(Sample(values, unfinished=np.zeros(3, dtype=np.bool_)))
    assert sample.values is values
    assert known.estimated.tolist() == known.at_least.tolist() == known.finished.tolist() == [1, 2, 3]


def test_beyond_the_last_finished_value_there_are_lower_bounds() -> None:
    _, known = ordered(Sample(np.array([1, 2, 9, 7]), unfinished=np.array([False, False, True, True])))
    assert known.estimated.tolist() == [1, 2, 7, 9]
    _, nothing = ordered(Sample(np.array([9, 7]), unfinished=np.array([True, True])))
    assert nothing.estimated.tolist() == [7, 9]


@pytest.mark.parametrize("level", ["p50", "p90", "p99"])
def test_a_point_that_was_cut_short_keeps_its_percentiles(level: str) -> None:
    """Requests of 0 to 20 s, cut short at 30 s: whoever came last had waited for moments only."""
    rng = np.random.default_rng(3)
    truth = float(np.quantile(np.arange(0, 20, 0.001), float(level[1:]) / 100))
    found, naive = [], []
    for _ in range(40):
        due, took = np.sort(rng.uniform(0, 30, 3000)), rng.uniform(0, 20, 3000)
        unfinished = due + took > 30
        values = np.where(unfinished, 30 - due, took)
        known = describe(Sample(values * S, unfinished=unfinished))
        found.append(getattr(known, level).value_s)
        naive.append(float(np.quantile(values, float(level[1:]) / 100)))
    assert np.mean(found) == pytest.approx(truth, rel=0.01)
    assert np.mean(naive) < 0.99 * truth  # which is what is mended here


def test_an_unknown_value_leaves_the_percentile_and_widens_its_interval() -> None:
    """An answer that was cut short has no TPOT yet: it may become any."""
    values = np.random.default_rng(4).uniform(1, 2, 1000) * S
    whole = describe(Sample(values))
    unknown = np.arange(1020) % 51 == 0
    spread = np.zeros(1020)
    spread[~unknown] = values
    some = describe(Sample(spread, unfinished=unknown))
    assert some.unfinished == 20 and some.n == 1000
    assert some.p50.value_s == pytest.approx(whole.p50.value_s, abs=0.003)
    assert some.p50.low_s < whole.p50.low_s and some.p50.high_s > whole.p50.high_s
    assert not some.p99.resolved  # the twenty may all lie beyond it
