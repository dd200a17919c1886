"""What is made of two clients' figures: the interval of a difference, and throughput by the rate that was offered."""

import pytest

from benchmarks.beside_vllm_bench import Pair, difference_ms, of_bench, of_records, table
from benchmarks.vllm_bench.client import BenchResult
from latency_profile.statistics import Percentile
from tests.make_records import uniform_records


def known(value: float, low: float | None, high: float | None) -> Percentile:
    return Percentile(value_s=value, low_s=low, high_s=high, resolved=high is not None, effective_n=50)


def bench(ttfts: list[float], completed: int, duration: float = 10.0) -> BenchResult:
    n = len(ttfts)
    return BenchResult(completed, 8 * n, 3 * n, duration, ttfts, [[0.01, 0.03]] * n, [3] * n)


def test_the_interval_of_a_difference_is_of_both_intervals() -> None:
    """Zou and Donner: each end lies as far from the difference as the root of both distances' squares."""
    found = difference_ms(known(0.100, 0.097, 0.106), known(0.090, 0.082, 0.094))
    assert found == pytest.approx((10.0, 10.0 - 5.0, 10.0 + 10.0))
    assert difference_ms(known(0.100, 0.097, None), known(0.090, 0.082, 0.094)) is None


def test_rates_are_compared_by_what_was_offered() -> None:
    point = uniform_records(60)
    ours = of_records(point)
    assert ours.requests == ours.completed == 60
    assert ours.requests_per_s == pytest.approx(60 / (point["end_ns"].max() / 1e9))
    assert ours.offered_per_s == pytest.approx(60 / (point["due_ns"].max() / 1e9))
    theirs = of_bench(bench([0.1] * 60, 60), rate=8.0)
    assert (theirs.requests_per_s, theirs.output_tokens_per_s, theirs.offered_per_s) == (6.0, 18.0, 8.0)
    assert theirs.tpot["p50"].value_s == pytest.approx(0.02)
    pair = Pair("8", "VALID", ours, theirs)
    assert pair.throughput_ratio == pytest.approx(ours.requests_per_s / (ours.offered_per_s or 0) / (6.0 / 8.0))
    row = f"| 8 | 60 / 60 | {ours.requests_per_s:.3f} | 6.000 | {pair.throughput_ratio:.3f} |"
    assert row in "\n".join(table([pair]))


def test_a_request_that_failed_is_no_latency_of_0() -> None:
    with pytest.raises(RuntimeError, match="1 of 3 requests failed"):
        of_bench(bench([0.1, 0.0, 0.2], 2), rate=8.0)
