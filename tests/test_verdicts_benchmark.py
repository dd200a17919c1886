"""The benchmark that holds verdicts against a server's log: its own arithmetic, and one point under a CPU quota."""

from typing import Any

import numpy as np
import pytest

from benchmarks.limits import NoLimits
from benchmarks.truth import Run
from benchmarks.verdicts import SCENARIOS, Truth, measure, right, row, truth
from latency_profile.client_health import client_health
from latency_profile.measures import window
from latency_profile.simulator.log import TruthLog
from latency_profile.verdict import Kind, judge
from tests.make_records import make_records

MS = 1_000_000
ORIGIN = 5_000_000_000_000  # of the made records, monotonic


def logged(n: int, arrival_ms: np.ndarray, before_ms: np.ndarray, after_ms: np.ndarray) -> TruthLog:
    """A log of n answers of one event each; times since the point's start."""

    def ns(times_ms: np.ndarray) -> Any:
        return ORIGIN + np.rint(times_ms * MS).astype(np.int64)

    zeros = np.zeros(n, dtype=np.int64)
    return TruthLog(
        request_id=np.array([str(number) for number in range(n)]),
        arrival_ns=ns(arrival_ms),
        started_ns=zeros,
        end_ns=zeros,
        prompt_tokens=zeros.astype(np.uint32),
        output_tokens=zeros.astype(np.uint32),
        finish=zeros.astype(np.uint8),
        fault=np.array([""] * n),
        event_start=np.arange(n + 1),
        scheduled_ns=zeros,
        written_ns=ns(before_ms),
        wrote_ns=ns(after_ms),
        event_tokens=np.ones(n, dtype=np.uint32),
    )


def test_errors_by_hand() -> None:
    """Sent 2 ms late and 0.5 ms on the way; the stamp lies 3 ms behind the write's end, or inside a slow write."""
    n = 200
    due = np.arange(n) * 50.0
    sent, arrival = due + 2, due + 2.5
    before, after = arrival + 40, arrival + 41
    for stamped, error in ((after + 3, 3.5), (before + 0.7, 0.5), (before - 1, -0.5)):
        point = make_records(due / 1e3, sent / 1e3, [[at / 1e3] for at in stamped], duration_s=10.0)
        found = truth(Run(point, logged(n, arrival, before, after), np.arange(n)))
        assert found.lateness_p99 == pytest.approx(2.5)
        assert found.ttft_p50 == pytest.approx(error)
        assert found.ttft_p99 == pytest.approx(error)
        assert found.events_off == (error == 3.5)


def test_what_is_right() -> None:
    fine, slow, off = Truth(9.9, 0.9, -0.9), Truth(10.1, 0.0, 0.0), Truth(1.0, 0.0, 1.1)
    assert [known.bent for known in (fine, slow, off)] == [False, True, True]
    assert Truth(1.0, -1.1, 0.0).bent and Truth(1.0, 0.0, -1.1).bent, "too fast is as wrong as too slow"
    assert Truth(1.0, 0.0, 0.0, events_off=0.011).bent and not Truth(1.0, 0.0, 0.0, events_off=0.009).bent
    assert right(fine, Kind.VALID)
    assert right(fine, Kind.SATURATED)
    assert not right(fine, Kind.CLIENT_LIMITED)
    assert right(slow, Kind.CLIENT_LIMITED)
    assert not right(off, Kind.TOO_FEW_SAMPLES)


@pytest.mark.slow
def test_a_client_with_a_fifth_of_a_core_says_so() -> None:
    [scenario] = [scenario for scenario in SCENARIOS if scenario.cores is not None]
    try:
        run = measure(scenario, seconds=5, seed=1)
    except NoLimits as error:
        pytest.skip(f"no group with a CPU quota here: {error}")
    found = judge(run.records)
    assert found.verdict is Kind.CLIENT_LIMITED
    assert "by a CPU limit of 0.2 cores" in found.reasons[0]
    cpu = client_health(run.records, window(run.records)).processor
    assert cpu is not None
    assert cpu.limit_cores == 0.2
    assert cpu.throttled_share > 0.5
    assert cpu.share_of_allowed == pytest.approx(1, abs=0.35)
    assert row(scenario, run)["right"] == "yes"
