"""Draws depend on (seed, stream, index) alone, and follow their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latency_profile.workload import Lengths, draws


def test_the_numbers_are_splitmix64s() -> None:
    # First outputs of the reference implementation (Vigna, splitmix64.c) from the state 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert draws.bits(1234567, np.arange(4)).tolist() == expected


@given(seed=st.integers(0, 2**31), start=st.integers(0, 10**9), cut=st.integers(1, 99))
@settings(max_examples=30)
def test_a_slice_draws_what_the_whole_draws(seed: int, start: int, cut: int) -> None:
    index = np.arange(start, start + 100)
    lengths = Lengths(mean=100, stddev=40, low=1, high=150)
    for draw in (
        lambda part: draws.uniforms(seed, "a", part),
        lambda part: draws.token_lengths(lengths, seed, "b", part),
        lambda part: draws.choices((0.2, 0.8), seed, "c", part),
    ):
        assert draw(index).tolist() == draw(index[:cut]).tolist() + draw(index[cut:]).tolist()


def test_uniforms_are_uniform_and_streams_unrelated() -> None:
    index = np.arange(100_000)
    one, other = draws.uniforms(1, "one", index), draws.uniforms(1, "other", index)
    assert stats.kstest(one, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.015


def test_order_is_a_permutation_that_the_seed_chooses() -> None:
    assert sorted(draws.order(3, 1000).tolist()) == list(range(1000))
    assert draws.order(3, 1000).tolist() == draws.order(3, 1000).tolist()
    assert draws.order(3, 1000).tolist() != draws.order(4, 1000).tolist()


@pytest.mark.parametrize("bounds", [(1, 10_000), (80, 110), (110, 200)])
def test_lengths_follow_the_truncated_normal_law_without_piles_at_the_bounds(bounds: tuple[int, int]) -> None:
    low, high = bounds
    drawn = draws.token_lengths(Lengths(mean=100, stddev=20, low=low, high=high), 0, "x", np.arange(40_000))
    assert low <= drawn.min() and drawn.max() <= high
    values = np.arange(max(low, 1), min(high, 300) + 1)
    law = stats.norm(100, 20)
    expected = law.cdf(values + 0.5) - law.cdf(values - 0.5)
    expected *= len(drawn) / expected.sum()
    seen = np.bincount(drawn, minlength=values[-1] + 1)[values]
    common = expected > 5
    chi_square = ((seen - expected)[common] ** 2 / expected[common]).sum()
    assert stats.chi2.sf(chi_square, common.sum() - 1) > 1e-4


def test_choices_keep_the_split() -> None:
    drawn = draws.choices((0.9, 0.1, 0.0), 7, "model", np.arange(50_000))
    share = np.bincount(drawn, minlength=3) / 50_000
    assert share == pytest.approx([0.9, 0.1, 0.0], abs=0.006)
