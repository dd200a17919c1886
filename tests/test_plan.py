"""Plans against their laws. The seeds are fixed: what passes once passes always, and a wrong law fails by far."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latency_profile.plan import NS, Arrival, offsets_ns

RATE = 250.0
MANY = 60_000
SEEDS = (0, 1, 2)


def gaps_s(arrival: Arrival, burstiness: float, seed: int, rate: float = RATE, count: int = MANY) -> Any:
    due = offsets_ns(rate, count=count, seed=seed, point=3, arrival=arrival, burstiness=burstiness)
    return np.diff(due, prepend=0) / NS


def dispersion(due_ns: Any, window_s: float) -> float:
    """Variance of the counts in successive windows over their mean."""
    windows = int(due_ns[-1] / NS / window_s)
    counts, _ = np.histogram(due_ns / NS, bins=windows, range=(0, windows * window_s))
    return float(counts.var() / counts.mean())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("arrival", "burstiness"), [("poisson", 1.0), ("gamma", 1.0), ("gamma", 0.25), ("gamma", 4.0), ("constant", 1.0)]
)
def test_the_mean_rate_is_the_one_asked_for(arrival: Arrival, burstiness: float, seed: int) -> None:
    """Within four standard errors: a gap's coefficient of variation is 1/sqrt(shape)."""
    mean = gaps_s(arrival, burstiness, seed).mean()
    error = 1 / RATE / math.sqrt(burstiness * MANY)
    assert abs(mean - 1 / RATE) < (4 * error if arrival != "constant" else 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [0.5, 1.0, 4.0])  # at 0.25 already, 1 % of the gaps are under half a nanosecond
def test_gaps_follow_their_law(shape: float, seed: int) -> None:
    """Kolmogorov and Smirnov: 60,000 gaps tell a shape that is 5 % off."""
    gaps = gaps_s("poisson" if shape == 1 else "gamma", shape, seed)
    law = stats.gamma(shape, scale=1 / (RATE * shape))
    assert stats.kstest(gaps, law.cdf).pvalue > 0.01
    wrong = stats.gamma(shape * 1.05, scale=1 / (RATE * shape * 1.05))
    assert stats.kstest(gaps, wrong.cdf).pvalue < 0.01


def test_a_poisson_process_ignores_burstiness() -> None:
    known = {"count": 5000, "seed": 1, "point": 0}
    assert np.array_equal(
        offsets_ns(5, **known, arrival="poisson", burstiness=0.2), offsets_ns(5, **known, arrival="gamma", burstiness=1)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("arrival", "burstiness", "wanted"), [("poisson", 1.0, 1.0), ("gamma", 0.5, 2.0), ("gamma", 4.0, 0.25)]
)
def test_the_index_of_dispersion_tends_to_one_over_the_burstiness(
    arrival: Arrival, burstiness: float, wanted: float, seed: int
) -> None:
    due = offsets_ns(RATE, count=4 * MANY, seed=seed, point=0, arrival=arrival, burstiness=burstiness)
    assert dispersion(due, window_s=0.4) == pytest.approx(wanted, rel=0.12)


def test_a_constant_rate_has_no_dispersion() -> None:
    due = offsets_ns(RATE, count=MANY, seed=0, point=0, arrival="constant")
    assert np.array_equal(due, np.arange(MANY) * (NS // 250))
    assert dispersion(due, window_s=0.4) < 0.01


def test_gaps_are_independent() -> None:
    gaps = gaps_s("poisson", 1.0, 0)
    for lag in (1, 2, 4096):  # numbers are drawn in chunks of 4096
        assert abs(np.corrcoef(gaps[:-lag], gaps[lag:])[0, 1]) < 4 / math.sqrt(MANY)


def test_counts_in_equal_windows_are_poisson() -> None:
    """Chi squared over the number of arrivals in 8 ms at 250/s, whose mean is 2."""
    due = offsets_ns(RATE, count=MANY, seed=4, point=0)
    windows = int(due[-1] / NS / 0.008)
    counts, _ = np.histogram(due / NS, bins=windows, range=(0, windows * 0.008))
    seen = np.bincount(np.minimum(counts, 8), minlength=9)
    law = np.array([*stats.poisson(2).pmf(range(8)), stats.poisson(2).sf(7)]) * windows
    assert stats.chisquare(seen, law).pvalue > 0.01


def test_the_same_arguments_give_the_same_plan() -> None:
    known: dict[str, Any] = {"count": 10_000, "seed": 7, "point": 2}
    assert np.array_equal(offsets_ns(10, **known), offsets_ns(10, **known))
    first = offsets_ns(10, count=3, seed=7, point=2)
    assert first.tolist() == [61_389_587, 148_956_947, 165_879_162], "results of other versions must be comparable"
    for other in ({"seed": 8}, {"point": 3}):
        assert not np.array_equal(offsets_ns(10, **(known | other)), offsets_ns(10, **known))


def test_points_of_a_seed_do_not_meet() -> None:
    """Point 1 of seed 0 is not point 0 of seed 1, nor a shifted copy of it."""
    plans = [offsets_ns(10, count=500, seed=seed, point=point) for seed in range(3) for point in range(3)]
    gaps = [np.diff(plan) for plan in plans]
    assert len({tuple(gap) for gap in gaps}) == 9
    assert max(abs(np.corrcoef(gaps[0], other)[0, 1]) for other in gaps[1:]) < 0.2


def test_rate_only_stretches_a_plan() -> None:
    slow, fast = (offsets_ns(rate, count=1000, seed=1, point=0) for rate in (1, 4))
    assert np.abs(slow - 4 * fast).max() <= 4


@given(
    rate=st.floats(0.5, 5000),
    duration=st.floats(0.01, 20),
    arrival=st.sampled_from(["poisson", "gamma", "constant"]),
    burstiness=st.floats(0.1, 10),
    shards=st.integers(1, 9),
    seed=st.integers(0, 1 << 40),
)
def test_any_plan(rate: float, duration: float, arrival: Arrival, burstiness: float, shards: int, seed: int) -> None:
    known: dict[str, Any] = {"seed": seed, "point": 1, "arrival": arrival, "burstiness": burstiness}
    due = offsets_ns(rate, duration_s=duration, **known)
    assert due.dtype == np.int64
    assert np.all(np.diff(due) >= 0)
    assert len(due) == 0 or (due[0] >= 0 and due[-1] < duration * NS)

    longer = offsets_ns(rate, duration_s=3 * duration, **known)
    assert np.array_equal(longer[: len(due)], due), "a longer plan begins with the shorter one"
    assert len(longer) == len(due) or longer[len(due)] >= duration * NS - 1, "nothing is left out"

    counted = offsets_ns(rate, count=len(due) + 5, **known)
    assert np.array_equal(counted[: len(due)], due) and len(counted) == len(due) + 5
    both = offsets_ns(rate, count=max(len(due) // 2, 1), duration_s=duration, **known)
    assert np.array_equal(both, due[: max(len(due) // 2, 1)]), "whichever bound comes first"

    joined = np.empty_like(due)
    for shard in range(shards):
        joined[shard::shards] = due[shard::shards]
    assert np.array_equal(joined, due)


@pytest.mark.parametrize(
    ("rate", "duration", "count"), [(10, 1.1, 11), (10, 0.3, 3), (0.1, 30, 3), (3, 7, 21), (7, 0.1, 1), (2.2, 25, 55)]
)
def test_a_constant_rate_within_a_duration(rate: float, duration: float, count: int) -> None:
    due = offsets_ns(rate, duration_s=duration, seed=0, point=0, arrival="constant")
    assert len(due) == count
    assert due[-1] < duration * NS


def test_a_burst_is_due_at_once() -> None:
    assert offsets_ns(math.inf, count=5, seed=0, point=0).tolist() == [0] * 5
    assert offsets_ns(math.inf, count=5, duration_s=9, seed=0, point=0).tolist() == [0] * 5


@pytest.mark.parametrize("bounds", [{}, {"duration_s": 5.0}])
def test_a_plan_needs_a_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a number of requests or a duration"):
        offsets_ns(math.inf, seed=0, point=0, **bounds)  # type: ignore[arg-type]
    if not bounds:
        with pytest.raises(ValueError, match="a number of requests or a duration"):
            offsets_ns(1, seed=0, point=0)
