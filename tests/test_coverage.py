"""The 95 % intervals hold the truth about as often as they say; `python -m benchmarks.coverage` looks closer."""

import math

import numpy as np
import pytest
import scipy.stats

from benchmarks import coverage
from latency_profile.statistics import NS_PER_S, Sample, describe

POINTS = 120


def law(name: str) -> coverage.Law:
    return next(each for each in coverage.LAWS if each.name == name)


@pytest.mark.parametrize("name", ["exponential", "lognormal, sigma 1", "mixture"])
def test_independent_values(name):
    found = coverage.coverage(law(name), 400, POINTS)
    for figure, tally in found.items():
        assert tally.coverage >= 0.89, figure
        assert tally.resolved >= 0.8 * POINTS, figure
        assert math.isnan(tally.one_sided_coverage) or tally.one_sided_coverage >= 0.9


@pytest.mark.parametrize("name", ["M/M/1 waits, load 0.5", "M/M/1 waits, load 0.8", "AR(1) lognormal, 0.9"])
def test_correlated_values(name):
    found = coverage.coverage(law(name), 2000, POINTS)
    for figure in ("p50", "p90", "mean"):
        assert found[figure].coverage >= 0.84, figure
        assert found[figure].resolved >= 0.4 * POINTS, figure
    p99 = found["p99"]
    assert (p99.held + p99.one_sided_held) / POINTS >= 0.92


@pytest.mark.parametrize(("name", "share"), [("exponential", 1.0), ("AR(1) lognormal, 0.5", 1 / 3)])
def test_intervals_are_no_wider_than_they_have_to_be(name, share):
    """An interval without end would hold the truth always. By theory an AR(1) series tells as much about its mean as
    (1 - memory) / (1 + memory) of its values would."""
    rng = np.random.default_rng(5)
    known = [describe(Sample(law(name).draw(rng, 1000) * NS_PER_S)) for _ in range(POINTS)]
    for effective in ([one.p50.effective_n for one in known], [one.mean_effective_n for one in known]):
        assert 0.5 * share < np.median(effective) / 1000 <= 1.5 * share


@pytest.mark.parametrize(("held", "off"), [(93, True), (96, False), (99, True)])
def test_the_benchmark_judges_both_sides(held, off):
    tally = coverage.Tally(resolved=100, held=held)
    assert bool(coverage.wrong("p50", tally, 100, coverage.INDEPENDENT_LIMITS)) is off
    assert not coverage.wrong("p50", coverage.Tally(resolved=4, held=0), 100, coverage.INDEPENDENT_LIMITS)


def test_that_taking_a_queues_waits_for_independent_would_not_do():
    """What the intervals would be without their order: shuffled, the same waits are covered much less."""
    rng = np.random.default_rng(3)
    each = law("M/M/1 waits, load 0.8")
    truth, held = each.mean, 0
    for _ in range(100):
        known = describe(Sample(rng.permutation(each.draw(rng, 2000)) * NS_PER_S))
        held += known.mean_low_s <= truth <= known.mean_high_s
    assert held < 50


@pytest.mark.parametrize(("name", "flow", "truth", "lengths"), coverage.FLOWS, ids=[flow[0] for flow in coverage.FLOWS])
def test_throughput(name, flow, truth, lengths):
    tally = coverage.rate_coverage(flow, truth, lengths[-1], POINTS)
    assert tally.resolved == POINTS
    assert tally.coverage >= 0.86


def test_the_simulated_laws_are_what_they_say():
    """Shares below the stated quantiles, and means, of much longer runs."""
    rng = np.random.default_rng(4)
    for each in coverage.LAWS:
        values = np.concatenate([each.draw(rng, 200_000 if each.independent else 20_000) for _ in range(10)])
        for level in (0.5, 0.9, 0.99):
            assert (values <= each.quantile(level)).mean() == pytest.approx(level, abs=0.02), each.name
        assert values.mean() == pytest.approx(each.mean, rel=0.1), each.name
    assert law("lognormal, sigma 1").quantile(0.99) == pytest.approx(scipy.stats.lognorm(1.0).ppf(0.99))
