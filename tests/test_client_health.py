"""The client's own health: each figure from records and counts of which it is known."""

from typing import Any

import numpy as np
import pytest

from latency_profile import measures
from latency_profile.client_counts import MOST_LOOKS, Looks
from latency_profile.client_health import ClientHealth, client_health, turnaround_ns
from latency_profile.records import Flag, Records, Status
from latency_profile.sender.fleet import Live
from latency_profile.verdict import Kind, judge
from latency_profile.verdict.client import worth_a_note
from tests.make_records import SECOND, make_records, uniform_records

MS = 1_000_000
USE: dict[str, Any] = {
    "seconds": 10.0,
    "cpus": 4,
    "cgroup": "v2",
    "limit_cores": 0.5,
    "periods": 100,
    "throttled_periods": 25,
    "throttled_s": 2.0,
    "cgroup_cpu_s": 3.0,
    "parent_cpu_s": 1.0,
    "waited_s": [0.5, 1.0],
    "stolen_s": 2.0,
    "machine_cpu_s": 16.0,
    "machine_cpus": 4,
}
IDLE = USE | {"limit_cores": None, "periods": 0, "throttled_periods": 0, "waited_s": [0.0], "stolen_s": 0.0}


def health(records: Records) -> ClientHealth:
    return client_health(records, measures.window(records))


def reasons(records: Records) -> list[str]:
    found = judge(records)
    return found.reasons if found.verdict is Kind.CLIENT_LIMITED else []


def bunched(late: float, together: int, *, natural: int = 1, blind_ms: float = 100, n: int = 1000) -> Records:
    """Answers of 20 gaps of 10 ms, `natural` events at a time; a share of them, spread over all, has its first
    `together` events stamped as the last of these, in reads before which the loop had not looked for `blind_ms`."""
    due = np.arange(n) / 10
    events = (0.05 + np.repeat(np.arange(20 // natural) * natural * 0.01, natural)) + due[:, None]
    # A different TTFT for each, so that percentiles move with single values.
    events += np.random.default_rng(3).permutation(n)[:, None] * 1e-6
    chosen = np.random.default_rng(4).permutation(n) < late * n
    events[chosen, :together] = events[chosen, together - 1 : together]
    columns = {"merged_events": np.where(chosen, 1, 0), "first_early_ns": np.where(chosen, round(blind_ms * MS), 0)}
    return make_records(due, due, list(events), columns=columns, duration_s=n / 10)


def test_a_context_of_an_older_version_tells_less():
    found = health(uniform_records(500, client={"reads": 7, "workers": 1}))
    assert found.reads == 7
    assert found.processor is found.little is found.cpu_s is found.turnaround is None
    assert found.error_samples == {}


def test_cpu_against_what_is_allowed():
    found = health(uniform_records(500, client={"processor": USE, "cpu_s": 3.5, "sender_core_shares": [0.2, 0.15]}))
    cpu = found.processor
    assert cpu is not None
    assert (cpu.allowed_cores, cpu.share_of_allowed) == (0.5, pytest.approx(4.5 / 5))
    assert (cpu.throttled_share, cpu.waited_share, cpu.stolen_share) == (0.25, 0.1, 0.05)
    assert cpu.machine_busy_share == 0.4
    roomy = health(uniform_records(500, client={"processor": USE | {"limit_cores": 64.0}})).processor
    assert roomy is not None
    assert roomy.allowed_cores == 4


def test_read_delay_stamps_and_send_calls_of_the_window():
    delays = np.full(500, 100_000)
    delays[:10] = 50 * MS
    flags = np.where(np.arange(500) % 4 == 0, 0, int(Flag.KERNEL_STAMPS))
    records = uniform_records(500)
    records.columns["read_delay_ns"] = delays
    records.columns["flags"] = flags.astype(np.uint8)
    records.columns["answer_bytes"] = np.full(500, 10, dtype=np.uint32)
    found = health(records)
    assert found.kernel_stamps_share == 0.75
    assert found.read_delay is not None
    assert (found.read_delay.p50_s, found.read_delay.max_s) == (0.0001, 0.05)
    records.columns["send_ns"] = np.full(500, 40_000)
    send = health(records).send_call
    assert send is not None
    assert (send.p50_s, send.p99_s) == (0.00004, 0.00004)


def test_first_events_that_were_read_with_later_ones_make_ttft_too_long():
    """Three of every hundred have their first four events in one read: 30 ms too long, at p99 and not at p50."""
    found = health(bunched(0.03, 4))
    assert found.ttft_error_p99_s == pytest.approx(0.030, abs=0.002)
    assert found.ttft_error_p50_s == pytest.approx(0, abs=0.0001)
    assert "TTFT is too long by about 0.0 ms at p50 and 29.7 ms" in reasons(bunched(0.03, 4))[0]
    half = health(bunched(0.6, 3))
    assert half.ttft_error_p50_s == pytest.approx(0.020, abs=0.002)
    few = health(bunched(0.005, 4))
    assert few.ttft_error_p99_s == pytest.approx(0, abs=0.0001)
    assert not reasons(bunched(0.005, 4))


def test_events_that_the_server_sends_at_once_are_no_error():
    found = health(bunched(0.03, 4, natural=4))
    assert found.ttft_error_p99_s == pytest.approx(0, abs=1e-6)


def test_the_turnaround_of_a_closed_loop():
    """Two places of one process, answers of a second; the next request comes 5 ms, then 30 ms after an end."""
    sent = [0.0, 0.5, 1.005, 1.530, 2.010]
    closed = make_records(
        [-1.0] * 5, sent, end_s=[s + 1 for s in sent], request_rate=None, concurrency=2, streaming=False
    )
    span = measures.window(closed)
    assert turnaround_ns(closed, span).tolist() == pytest.approx([5 * MS, 30 * MS, 5 * MS])
    opened = uniform_records(100)
    assert not len(turnaround_ns(opened, measures.window(opened)))


def test_the_turnaround_of_two_processes_is_each_ones_own():
    sent = [0.0, 0.0, 1.001, 3.001]
    closed = make_records(
        [-1.0] * 4,
        sent,
        end_s=[1.0, 3.0, 2.0, 4.0],
        columns={"worker": [0, 1, 0, 1]},
        request_rate=None,
        concurrency=2,
        streaming=False,
    )
    assert turnaround_ns(closed, measures.window(closed)).tolist() == pytest.approx([MS, MS])


def test_a_closed_loop_with_empty_places_is_limited():
    n = 300
    sent = np.arange(n) * 1.02
    closed = make_records(
        [-1.0] * n,
        sent,
        end_s=sent + 1,
        request_rate=None,
        concurrency=1,
        streaming=False,
        duration_s=None,
    )
    assert "the p99 of the time from an answer to the next request is 20.0 ms; the limit is 10 ms" in reasons(closed)[0]


def looked(records: Records, *, lost: int = 0, behind_s: float = 0.0) -> list[list[int]]:
    """What loops that count as the records do would have said, every 0.2 s; `lost` ends they never noticed."""
    looks = []
    for at in np.arange(0.2, 50, 0.2):
        then = (at - behind_s) * SECOND
        sent = int((records["sent_ns"] <= then).sum())
        ended = int((records["end_ns"] <= then).sum())
        looks.append([round(at * SECOND), sent, max(0, ended - lost)])
    return looks


def queue(n: int = 500) -> Records:
    rng = np.random.default_rng(5)
    due = np.sort(rng.uniform(0, 50, n))
    return make_records(due, due, end_s=due + rng.uniform(1, 3, n), streaming=False, duration_s=50.0)


def test_littles_law_on_the_clients_own_counts():
    records = queue()
    records.context.client = {"in_flight": looked(records)}
    little = health(records).little
    assert little is not None
    assert little.in_flight_counted == little.in_flight_recorded
    assert little.arrivals_per_s == pytest.approx(10, rel=0.1)
    assert little.time_in_flight_s == pytest.approx(2, rel=0.05)
    assert little.arrivals_times_time == pytest.approx(little.in_flight_recorded, rel=0.05)
    assert little.agrees
    assert not reasons(records)


@pytest.mark.parametrize("behind_s", [0.05, 0.2])
def test_counts_that_come_a_little_late_agree(behind_s: float):
    records = queue()
    records.context.client = {"in_flight": looked(records, behind_s=behind_s)}
    little = health(records).little
    assert little is not None
    assert little.in_flight_counted != little.in_flight_recorded
    assert little.agrees


def test_a_client_that_lost_count_is_limited():
    records = queue()
    records.context.client = {"in_flight": looked(records, lost=3)}
    assert "The client lost count" in reasons(records)[0]
    doubled = queue()
    looks = looked(doubled)
    doubled.columns["end_ns"][::20] += 20 * SECOND  # one in twenty ends late by the records: 10 more in flight
    doubled.context.client = {"in_flight": looks}
    assert "The client lost count" in reasons(doubled)[0]


def test_too_few_looks_say_nothing():
    records = queue()
    records.context.client = {"in_flight": looked(records)[:10:2]}
    assert health(records).little is None


def test_looks_are_kept_evenly_and_not_without_end():
    looks, seen = Looks(), []
    watch = looks.through(seen.append)
    for number in range(5000):
        for _ in range(2):  # the fleet shows each report more than once
            watch(Live(elapsed_s=number / 5, sent=number, completed=number // 2, failed=number // 4))
    assert len(seen) == 10_000
    assert 400 < len(looks.kept) <= MOST_LOOKS
    times = np.diff([at for at, _, _ in looks.kept])
    assert times.max() <= 2 * times.min()
    assert looks.kept[-1][1] > 4980
    assert all(ended == sent // 2 + sent // 4 for _, sent, ended in looks.kept)


def late(ms: float, **client: Any) -> Records:
    due = np.arange(1000) / 10
    sent = due + ms / 1e3
    return make_records(due, sent, end_s=sent + 0.1, duration_s=100.0, streaming=False, client=client)


def test_a_reason_names_what_kept_the_client():
    told = reasons(late(20, processor=USE, sender_core_shares=[0.8], most_waiting_for_connection=3))[0]
    assert "the p99 of its lateness is 20.0 ms; the limit is 10 ms." in told
    assert "Up to 3 requests of one process waited for a connection" in told
    assert "throttled in 25% of the periods by a CPU limit of 0.5 cores" in told
    assert "the hypervisor gave 2.0 s of CPU to other machines" in told
    assert "waited for a CPU 10% of the time (the machine was 40% busy)" in told
    assert "used 80% of a core (more --workers" in told
    assert reasons(late(20, processor=IDLE, sender_core_shares=[0.1])) == [
        "The client sent late: the p99 of its lateness is 20.0 ms; the limit is 10 ms."
    ]


def test_causes_without_an_error_are_no_reason():
    """A throttled client on a busy machine that was never late measured well; the report notes it."""
    records = late(1, processor=USE, sender_core_shares=[0.99], cpu_s=4.9)
    assert not reasons(records)
    assert worth_a_note(health(records), 0.001) == [
        "throttled in 25% of the periods by a CPU limit of 0.5 cores",
        "a sender waited for a CPU 10% of the time",
    ]
    assert worth_a_note(health(late(1, processor=IDLE)), 0.001) == []
    assert worth_a_note(health(late(1)), 0.0042) == ["sent late by 4.2 ms at p99"]


def test_a_point_of_a_moment_does_not_tell_of_cpu():
    records = make_records(
        np.zeros(100),
        np.arange(100) / 1000,
        end_s=np.arange(100) / 1000 + 0.01,
        request_rate=None,
        duration_s=None,
        streaming=False,
        client={"processor": IDLE, "sender_core_shares": [1.0]},
    )
    assert records.context.measured_ns < 500 * MS
    assert reasons(records) == []


@pytest.mark.parametrize(("share", "kind"), [(0.89, False), (0.91, True)])
def test_a_burst_without_cpu_left_measures_the_client(share: float, kind: bool):
    burst = make_records(
        np.zeros(1000),
        np.arange(1000) / 1000,
        request_rate=None,
        duration_s=None,
        streaming=False,
        client={"processor": IDLE, "sender_core_shares": [0.1, share]},
    )
    assert bool(reasons(burst)) is kind
    burst.context.client = {"processor": USE, "sender_core_shares": [0.1], "cpu_s": share * 5 - 1.0}
    assert bool(reasons(burst)) is kind


def test_without_kernel_stamps_a_late_loop_is_a_late_stamp():
    records = late(2)
    records.columns["answer_bytes"] = np.full(1000, 10, dtype=np.uint32)
    assert "the limit is 1 ms" in reasons(records)[0]
    records.columns["flags"] = np.full(1000, int(Flag.KERNEL_STAMPS), dtype=np.uint8)
    assert not reasons(records)


def test_never_sent_requests_do_not_count_as_in_flight():
    records = queue()
    records.columns["status"][-20:] = Status.NOT_SENT
    records.columns["sent_ns"][-20:] = -1
    records.columns["end_ns"][-20:] = -1
    looks = looked(records)
    ended = [int(((records["end_ns"] >= 0) & (records["end_ns"] <= at)).sum()) for at, _, _ in looks]
    sent = [int(((records["sent_ns"] >= 0) & (records["sent_ns"] <= at)).sum()) for at, _, _ in looks]
    records.context.client = {"in_flight": [[at, s, e] for (at, _, _), s, e in zip(looks, sent, ended, strict=True)]}
    little = health(records).little
    assert little is not None
    assert little.in_flight_counted == little.in_flight_recorded
