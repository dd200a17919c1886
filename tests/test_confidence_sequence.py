"""The bound that holds at every look: against its law, against simulation, against what looking costs without it."""

import math

import numpy as np
import pytest
from scipy.special import betaln

from latency_profile.confidence_sequence import Anytime
from latency_profile.statistics import binomial_ranks

ALPHA = 0.05
BOUND = Anytime(ALPHA, 2000)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 10, 999, 20_000])
def test_ranks_are_where_the_mixture_reaches_its_limit(n: int, level: float) -> None:
    doubled = 2 * math.log(1 / ALPHA)
    weight = 2000 / (doubled + math.log(1 + doubled))
    counts = np.arange(n + 1)
    a, b = weight * level, weight * (1 - level)
    likelihood = counts * math.log(level) + (n - counts) * math.log1p(-level)
    inside = np.flatnonzero(betaln(a + counts, b + n - counts) - betaln(a, b) - likelihood < math.log(1 / ALPHA))
    lower, upper = int(inside[0]), int(inside[-1]) + 1
    assert BOUND.ranks(n, level) == (lower or None, upper if upper <= n else None)


def ever_missed(level: float, ranks: dict[int, tuple[int | None, int | None]], streams: int = 2000) -> float:
    """The share of streams of which some look's ranks do not enclose the true quantile. What the law of the values is
    does not matter: only how many of them are at or below it."""
    looks = np.array(list(ranks))
    below = np.cumsum(np.random.default_rng(1).random((streams, looks[-1])) < level, axis=1)[:, looks - 1]
    low = np.array([lower or 0 for lower, _ in ranks.values()])
    high = np.array([n if upper is None else upper - 1 for n, (_, upper) in ranks.items()])
    return float(((below < low) | (below > high)).any(axis=1).mean())


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_a_hundred_looks_miss_as_rarely_as_one_may(level: float) -> None:
    looks = range(50, 5001, 50)
    assert ever_missed(level, {n: BOUND.ranks(n, level) for n in looks}) <= ALPHA
    ordinary = ever_missed(level, {n: binomial_ranks(n, level) for n in looks})
    assert ordinary > 3 * ALPHA, "what this is for: intervals of fixed size, looked at as often"


def test_it_costs_less_than_half_as_much_again_as_an_interval_of_fixed_size_at_least() -> None:
    for n in (1000, 10_000):
        lower, upper = BOUND.ranks(n, 0.5)
        fixed_lower, fixed_upper = binomial_ranks(n, 0.5)
        assert lower and upper and fixed_lower and fixed_upper
        assert 1 < (upper - lower) / (fixed_upper - fixed_lower) < 1.8


def test_fewer_than_the_smallest_sample_have_no_bound_on_one_side() -> None:
    smallest = BOUND.smallest(0.99)
    assert BOUND.ranks(smallest - 1, 0.99)[1] is None
    assert BOUND.ranks(smallest, 0.99)[1] is not None
    assert 400 < smallest < 1000  # of fixed size: 368


def test_how_many_are_needed() -> None:
    """To halve a width takes four times as many, and a little more for the looks."""
    needed = BOUND.needed(2000, 0.5, 0.1, 0.05)
    assert 8000 <= needed <= 9000
    margin = BOUND.margin(2000, 0.5)
    assert margin is not None
    assert BOUND.margin(needed, 0.5) == pytest.approx(margin / 2, rel=0.001)
    assert BOUND.needed(2000, 0.5, 0.04, 0.05) == 2000
    assert BOUND.needed(100.7, 0.99, None, 0.05) == BOUND.smallest(0.99)
    assert BOUND.needed(0.0, 0.99, None, 0.05) == BOUND.smallest(0.99)
