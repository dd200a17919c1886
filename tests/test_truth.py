"""The client's numbers against the simulator's own log.

Bounds are wide: other things run on a test machine. The narrow ones are measured by `python -m benchmarks.truth`.
"""

import numpy as np
import pytest

from benchmarks.truth import lindley, measure, queue_row
from latency_profile.records import Flag, Status


@pytest.fixture(scope="module", name="run")
def measured():  # type: ignore[no-untyped-def]
    return measure(
        ["--fixed-timing", "30,5,0.3"],
        ["--request-rate=30", "--num-prompts=150", "--input-len=32", "--output-len=40", "--workers=2"],
    )


def test_every_token_of_the_log_is_in_the_records(run) -> None:  # type: ignore[no-untyped-def]
    point, log = run.records, run.log
    assert (point["status"] == Status.OK).all()
    assert (point["output_tokens"] == log.output_tokens[run.rows]).all()
    assert (np.diff(point.event_start) == np.diff(log.event_start)[run.rows]).all()
    assert (point["server_input_tokens"] == log.prompt_tokens[run.rows]).all()
    assert (point["input_tokens"] == log.prompt_tokens[run.rows]).all()


def test_no_event_is_stamped_before_it_was_written(run) -> None:  # type: ignore[no-untyped-def]
    """On one clock: the kernel had each event's bytes after the server began to write them, and soon after."""
    point, log = run.records, run.log
    # The record's origin is the point's start on the monotonic clock; it is not kept. Any one request gives it.
    origin = log.arrival_ns[run.rows] - point["sent_ns"]
    start = origin.min()  # arrival is later than sent: the least distance is nearest to the origin
    late = []
    for row, place in enumerate(run.rows):
        ours = point.event_ns[point.event_start[row] : point.event_start[row + 1]] + start
        theirs = log.written_ns[log.event_start[place] : log.event_start[place + 1]]
        late.append(ours - theirs)
    late = np.concatenate(late) / 1e6
    assert np.median(late) < 1
    assert late.min() > -1


def test_latencies_agree_in_the_middle(run) -> None:  # type: ignore[no-untyped-def]
    point, log = run.records, run.log
    first = log.event_start[run.rows]
    truth = (log.written_ns[first] - log.arrival_ns[run.rows]) / 1e6
    ours = (point["first_token_ns"] - point["sent_ns"]) / 1e6
    assert np.median(ours - truth) == pytest.approx(0, abs=1)
    assert (ours > truth - 0.1).all(), "a client cannot see a token before the server sent it"


def test_stamps_are_the_kernels(run) -> None:  # type: ignore[no-untyped-def]
    assert (run.records["flags"] & Flag.KERNEL_STAMPS).all()


@pytest.mark.parametrize(("utilization", "requests"), [(0.5, 200), (0.7, 350)])
def test_waits_follow_lindleys_recursion(utilization: float, requests: int) -> None:
    """A pause of the machine makes a queue of its own, which takes 1 / (1 - utilization) times as long to go: less than
    half of the run."""
    row = queue_row(utilization, service_ms=20, requests=requests)
    assert row["error p50"] < 2
    assert row["wait p99"] > 10


def test_lindley_by_hand() -> None:
    due = np.array([0, 5, 6, 40], dtype=np.int64)
    assert lindley(due, 10).tolist() == [0, 5, 14, 0]
