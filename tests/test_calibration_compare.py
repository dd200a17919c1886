"""Calibration's comparison, with logs and records made by hand: an error of known size is found at its size."""

from typing import Any

import msgspec
import numpy as np
import pytest

from latency_profile.calibration.compare import busiest_second, compare, error
from latency_profile.records import Records, Status
from latency_profile.simulator.log import Finish, TruthLog
from tests.make_records import make_records

MS = 1_000_000
REQUESTS, EVENTS = 40, 5
START_NS = 5_000_000_000_000  # of make_records' points, on the clock of the log


def made(seed: int = 1) -> Records:
    """A point whose answers have times of their own; requests are sent 0.2 ms late."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(0.05, REQUESTS))
    sent = due + 0.0002
    times = sent[:, None] + 0.05 + np.cumsum(rng.uniform(0.008, 0.012, (REQUESTS, EVENTS)), axis=1)
    return make_records(due, sent, list(times))


def log_of(records: Records, **changes: Any) -> TruthLog:
    """The log of a server that the client saw exactly as it was, with `changes`."""
    n = len(records)
    written = records.event_ns + START_NS
    values: dict[str, Any] = {
        "request_id": np.array([f"abc-0-{index}" for index in records["index"]]),
        "arrival_ns": records["sent_ns"] + START_NS,
        "started_ns": records["sent_ns"] + START_NS,
        "end_ns": records["end_ns"] + START_NS,
        "prompt_tokens": np.full(n, 10),
        "output_tokens": np.full(n, EVENTS, dtype=np.uint32),
        "finish": np.full(n, Finish.LENGTH),
        "fault": np.full(n, ""),
        "event_start": records.event_start,
        "scheduled_ns": written - MS // 2,
        "written_ns": written,
        "wrote_ns": written + 30_000,
        "event_tokens": np.ones(len(written), dtype=np.uint32),
    }
    return TruthLog(**(values | changes))


def test_a_client_that_saw_the_truth_has_no_errors() -> None:
    records = made()
    found = compare(records, log_of(records))
    for metric in msgspec.structs.asdict(found.errors).values():
        assert metric is not None
        assert msgspec.structs.astuple(metric)[1:] == pytest.approx((0,) * 6)
    assert (found.requests, found.failed) == (REQUESTS, 0)
    assert found.lateness_p99_s == pytest.approx(0.0002)
    assert found.truth.uncertainty_p99_s == pytest.approx(30e-6)
    assert found.truth.server_late_p99_s == pytest.approx(0.0005)
    events = found.events
    assert (events.written, events.received, events.lost, events.merged) == (200, 200, 0, 0)
    rates = found.throughput
    assert rates.planned_requests_per_s == pytest.approx(rates.arrived_requests_per_s)
    assert rates.planned_gaps_cv == pytest.approx(rates.arrived_gaps_cv)


def test_stamps_that_are_late_by_a_constant() -> None:
    """All events are stamped 1.5 ms late: so are TTFT and E2E, and gaps are not."""
    records = made()
    log = log_of(records)
    log = log_of(records, written_ns=log.written_ns - 1_500_000, end_ns=log.end_ns - 1_500_000)
    errors = compare(records, log).errors
    for metric in (errors.ttft, errors.e2e, errors.response_ttft, errors.response_e2e):
        assert metric is not None
        assert (metric.mean_s, metric.p50_s, metric.p90_s, metric.p99_s) == pytest.approx((0.0015,) * 4)
        assert metric.sd_s == pytest.approx(0, abs=1e-12)
        assert metric.p99_of_differences_s == pytest.approx(0.0015)
    assert errors.ntpot is not None and errors.ntpot.p50_s == pytest.approx(0.0015 / EVENTS)
    for metric in (errors.itl, errors.tpot, errors.lateness):
        assert metric is not None and metric.p99_of_differences_s == pytest.approx(0, abs=1e-12)


def test_requests_that_came_later_than_the_client_says() -> None:
    """Stamped as sent 4 ms before they were: service TTFT is 4 ms too long, response TTFT is right."""
    records = made()
    log = log_of(records, arrival_ns=records["sent_ns"] + START_NS + 4 * MS)
    errors = compare(records, log).errors
    assert errors.ttft is not None and errors.ttft.p50_s == pytest.approx(0.004)
    assert errors.lateness is not None and errors.lateness.p50_s == pytest.approx(-0.004)
    assert errors.response_ttft is not None and errors.response_ttft.p50_s == pytest.approx(0)


def test_a_spread_without_bias() -> None:
    """Half of the stamps early by 2 ms, half late: the mean is right, single values are not."""
    truth = np.arange(1000) * MS
    shift = np.where(np.arange(1000) % 2 == 0, 2 * MS, -2 * MS)
    found = error(truth + shift, truth)
    assert found is not None
    assert found.mean_s == pytest.approx(0)
    assert (found.sd_s, found.p99_of_differences_s) == pytest.approx((0.002, 0.002))
    assert error(truth[:0], truth[:0]) is None


def test_the_order_of_the_log_does_not_matter() -> None:
    records = made()
    log = log_of(records)
    order = np.random.default_rng(2).permutation(REQUESTS)
    events = (order[:, None] * EVENTS + np.arange(EVENTS)).ravel()
    rows = ("request_id", "arrival_ns", "end_ns")
    moved = {name: getattr(log, name)[order] for name in rows} | {
        name: getattr(log, name)[events] for name in ("scheduled_ns", "written_ns", "wrote_ns")
    }
    errors = compare(records, log_of(records, **moved)).errors
    assert errors.ttft is not None and errors.ttft.p99_of_differences_s == pytest.approx(0)
    assert errors.itl is not None and errors.itl.p99_of_differences_s == pytest.approx(0)


def test_events_that_were_lost_and_merged() -> None:
    records = made()
    log = log_of(records)
    records.event_ns[1] = records.event_ns[2]  # of the first answer: a late read, the earlier time is lost
    kept = np.ones(len(records.event_ns), dtype=bool)
    kept[EVENTS + 2] = False  # of the second answer
    starts = records.event_start.copy()
    starts[2:] -= 1
    fewer = Records(records.context, records.columns, starts, records.event_ns[kept], records.event_tokens[kept])
    events = compare(fewer, log).events
    assert (events.written, events.received, events.lost, events.merged) == (200, 199, 1, 1)


def test_events_that_were_written_together_are_not_merged_by_the_client() -> None:
    records = made()
    records.event_ns[1] = records.event_ns[2]
    assert compare(records, log_of(records)).events.merged == 0


def test_what_was_not_answered_is_counted_and_not_compared() -> None:
    records = made()
    records["status"][3] = Status.RESET
    log = log_of(records)
    log.finish[5] = Finish.ABORT
    log.request_id[7] = "another-0-7"
    found = compare(records, log)
    assert (found.requests, found.failed) == (REQUESTS - 3, 3)
    log.request_id[:] = "another"
    with pytest.raises(ValueError, match="none of the requests"):
        compare(records, log)


def test_a_closed_loop_and_whole_answers_lack_what_they_have_not() -> None:
    rng = np.random.default_rng(0)
    sent = np.cumsum(rng.uniform(0.1, 0.2, REQUESTS))
    records = make_records(np.full(REQUESTS, -1.0), sent, concurrency=2, request_rate=None, streaming=False)
    written = records["end_ns"] + START_NS
    log = log_of(
        records,
        event_start=np.arange(REQUESTS + 1),
        written_ns=written,
        wrote_ns=np.full(REQUESTS, -1),
        scheduled_ns=written,
        event_tokens=np.full(REQUESTS, EVENTS),
    )
    found = compare(records, log)
    missing = {name for name, metric in msgspec.structs.asdict(found.errors).items() if metric is None}
    assert missing == {"ttft", "tpot", "itl", "response_ttft", "response_e2e", "lateness"}
    assert found.lateness_p99_s is None and found.throughput.planned_gaps_cv is None
    assert found.truth.uncertainty_p99_s is None
    assert found.events.lost == 0


def test_tokens_a_second_of_both_sides() -> None:
    records = make_records([0.0, 1.0], None, [[0.5, 1.0], [1.5, 4.0]])
    log = log_of(records, output_tokens=np.array([2, 2]), end_ns=records["end_ns"] + START_NS + 1000 * MS)
    rates = compare(records, log).throughput
    assert rates.received_tokens_per_s == pytest.approx(4 / 4)
    assert rates.written_tokens_per_s == pytest.approx(4 / 5)
    assert rates.sent_requests_per_s == pytest.approx(1)


def test_busiest_second() -> None:
    assert busiest_second(np.array([0, 500, 900, 1600, 1700, 1800, 1899, 9000]) * MS) == 5
    assert busiest_second(np.array([], dtype=np.int64)) == 0
