"""The sender end to end: real processes, open and closed loop, against a scripted server."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from latency_profile.records import NONE, Flag, Status, TokenSource
from latency_profile.sender.fleet import Fleet
from tests.driving import MS, SECOND, After, Load, answer, pid_of, send
from tests.servers import odd
from tests.servers.odd import Call, Odd

NEVER = 30.0  # seconds; longer than any test waits


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One sender process, for all tests that leave it alive."""
    with Fleet(1) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def four() -> Iterator[Fleet]:
    with Fleet(4) as fleet:
        yield fleet


def test_a_connection_is_reused_and_what_goes_over_it_is_whole(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer) as server:
        driven = send(fleet, server, tmp_path, Load(count=4, concurrency=1))
    assert driven.statuses == [Status.OK] * 4
    reused = [call.turn > 0 for call in server.calls]
    assert sum(reused) >= 2, "one spare connection at most was opened beside the first"
    assert [bool(flags & Flag.REUSED_CONNECTION) for flags in driven.records["flags"]] == reused
    assert driven.finished.reused == sum(reused)
    first = server.calls[0]
    assert first.body == b'{"prompt":"0"}'
    lines = first.head.decode().split("\r\n")
    assert lines[0] == "POST /v1/completions HTTP/1.1"
    assert f"host: 127.0.0.1:{server.port}" in lines
    assert "content-length: 14" in lines and "content-type: application/json" in lines
    assert [call.index for call in server.calls] == [0, 1, 2, 3]
    assert list(driven.records["output_tokens"]) == [3] * 4
    assert list(driven.records["server_input_tokens"]) == [7] * 4
    assert set(driven.records["token_source"]) == {TokenSource.USAGE}
    assert list(driven.records["answer_bytes"]) == [len(odd.whole(3))] * 4


def test_each_request_goes_when_it_is_due_whatever_happens_to_the_others(fleet: Fleet, tmp_path: Path) -> None:
    """None is answered before all have come; a sender that waited for one would wait for ever."""
    due = [0.0, 5, 5, 30, 60, 61, 200, 1500, 3000]
    all_here = threading.Barrier(len(due))

    def slow(call: Call) -> None:
        all_here.wait(NEVER)
        time.sleep(0.1)
        call.send(odd.whole(2))

    with Odd(slow) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=due, timeout_s=2 * NEVER))
    assert driven.statuses == [Status.OK] * len(due)
    late_ms = (driven.records["sent_ns"] - driven.records["due_ns"]) / MS
    assert late_ms.min() >= 0
    assert late_ms[[0, 7, 8]].min() < 100, "a pause of the machine bends what is due in it, and no more"
    assert late_ms.max() < 5000
    assert (driven.records["first_token_ns"] - driven.records["sent_ns"]).min() >= 100 * MS


def test_times_of_a_stream_are_those_of_its_events(fleet: Fleet, tmp_path: Path) -> None:
    """Head at once, then a token every 60 ms, then the end mark: seen by the kernel within a few ms of the sends, in at
    least one of three answers. Where the machine pauses, several events come in one read, or are said late."""
    sent: dict[int, list[int]] = {}

    def stream(call: Call) -> None:
        times = sent.setdefault(call.index, [])
        call.send(odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"))
        for part in [*odd.stream(3), b""]:
            time.sleep(0.06)
            times.append(time.monotonic_ns())
            call.send(odd.chunk(part))

    with Odd(stream) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 1500, 3000]))
    records = driven.records
    assert list(records.event_tokens) == [1] * 9
    began = np.array([[*sent[index][:3], sent[index][4]] for index in range(3)]) - driven.ran.start_ns
    seen = np.column_stack([records.event_ns.reshape(3, 3), records["end_ns"]])
    assert np.all(seen - began > -1 * MS)
    assert np.max(seen - began, axis=1).min() < 30 * MS
    assert list(records["first_token_ns"]) == records.event_ns[::3].tolist()
    assert list(records["last_token_ns"]) == records.event_ns[2::3].tolist()


def test_receive_times_are_the_kernels(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer) as server:
        records = send(fleet, server, tmp_path, Load(due_ms=[0, 20])).records
    assert all(flags & Flag.KERNEL_STAMPS for flags in records["flags"])
    assert all(0 <= delay < SECOND for delay in records["read_delay_ns"])


def test_a_stopped_sender_reads_late_and_says_so(tmp_path: Path) -> None:
    """Held up while an answer arrives, the process reads it late: the time is the kernel's, the delay is told."""
    let_go_ns: list[int] = []

    def hold_up(call: Call) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            call.send(odd.whole(3))
            time.sleep(0.3)
            let_go_ns.append(time.monotonic_ns())
        finally:
            os.kill(pid, signal.SIGCONT)

    with Fleet(1) as own, Odd(hold_up) as server:
        pid = pid_of(own)
        driven = send(own, server, tmp_path, Load(due_ms=[0]))
    records = driven.records
    assert records["read_delay_ns"][0] > 250 * MS
    assert records["end_ns"][0] + driven.ran.start_ns < let_go_ns[0] - 250 * MS


def test_an_answer_in_fragments_is_the_same_answer(fleet: Fleet, tmp_path: Path) -> None:
    """Cut everywhere: in the status line, in headers, in chunk sizes, in the middle of a UTF-8 character."""
    text = "déjà vu — 機関 🙂"
    body = b"".join(
        [
            odd.head("200 OK", "text/event-stream; charset=utf-8", "transfer-encoding: chunked"),
            *(odd.chunk(odd.event(f" {letter}")) for letter in text),
            odd.chunk(odd.event("", None, "stop")),
            odd.chunk(odd.DONE),
            odd.chunk(b""),
        ]
    )

    def drip(call: Call) -> None:
        step = 1 + call.index
        for at in range(0, len(body), step * 7):
            call.send(body[at : at + step * 7])

    with Odd(drip) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 0, 0, 0]))
    assert driven.statuses == [Status.OK] * 4
    assert list(driven.records["output_tokens"]) == [len(text.replace(" ", ""))] * 4
    assert set(driven.records["token_source"]) == {TokenSource.TOKENIZER}
    assert list(np.diff(driven.records.event_start)) == [len(text)] * 4


def test_informational_answers_come_before_the_answer(fleet: Fleet, tmp_path: Path) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx: text/html\r\n\r\n"

    def hinting(call: Call) -> None:
        call.send(hints, odd.whole(3), gap_s=0.05)

    with Odd(hinting) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 150]))
    assert driven.statuses == [Status.OK] * 2
    assert list(driven.records["http_status"]) == [200, 200]


def test_large_requests_and_answers_arrive_whole(fleet: Fleet, tmp_path: Path) -> None:
    """Five megabytes out, more than a socket takes at once; ten megabytes back."""
    big = b'{"prompt":"' + b"x" * 5_000_000 + b'"}'
    said = b'{"choices":[{"text":"' + b"y" * 10_000_000 + b'","finish_reason":"stop"}],"usage":{"completion_tokens":9}}'

    def slow_reader(call: Call) -> None:
        call.send(odd.plain(said))

    with Odd(slow_reader) as server:
        load = Load(due_ms=[0, 0], bodies=[big, b"{}"], streaming=False, timeout_s=NEVER)
        driven = send(fleet, server, tmp_path, load)
    assert driven.statuses == [Status.OK] * 2
    assert sorted(len(call.body) for call in server.calls) == [2, len(big)]
    assert big in [call.body for call in server.calls]
    assert driven.records["answer_bytes"].min() > 10_000_000
    assert list(driven.records["output_tokens"]) == [9, 9]


def test_ipv6(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer, host="::1") as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 10]))
    assert driven.statuses == [Status.OK] * 2
    assert f"host: [::1]:{server.port}\r\n".encode() in server.calls[0].head


def test_a_closed_loop_keeps_its_concurrency_and_no_more(four: Fleet, tmp_path: Path) -> None:
    def slow(call: Call) -> None:
        time.sleep(0.02)
        call.send(odd.whole(2))

    with Odd(slow) as server:
        driven = send(four, server, tmp_path, Load(count=120, concurrency=6, ahead=2))
    assert driven.statuses == [Status.OK] * 120
    assert server.most_at_once == 6
    assert np.all(driven.records["due_ns"] == NONE)
    busiest = [
        int(((driven.records["sent_ns"] <= at) & (driven.records["end_ns"] > at)).sum())
        for at in driven.records["sent_ns"]
    ]
    assert max(busiest) <= 6
    assert list(driven.records["worker"]) == [index % 4 for index in range(120)]


def test_a_closed_loop_ends_with_its_time(fleet: Fleet, tmp_path: Path) -> None:
    def slow(call: Call) -> None:
        time.sleep(0.05)
        call.send(odd.whole(2))

    with Odd(slow) as server:
        driven = send(fleet, server, tmp_path, Load(count=1000, concurrency=3, ahead=3, duration_s=0.7))
    assert set(driven.statuses) == {Status.OK}
    assert 3 < len(driven.records) < 50
    assert driven.records["sent_ns"].max() < 700 * MS
    assert list(driven.records["index"]) == list(range(len(driven.records)))


def test_a_closed_loop_begins_nothing_when_its_time_is_over(fleet: Fleet, tmp_path: Path) -> None:
    """Four slots over one connection, an answer every 10 ms: what still waits for the connection after 0.5 s is not
    sent, and is no row."""

    def slow(call: Call) -> None:
        time.sleep(0.01)
        call.send(odd.whole(2))

    with Odd(slow) as server:
        load = Load(count=1000, concurrency=4, connection_limit=1, duration_s=0.5)
        driven = send(fleet, server, tmp_path, load)
    assert set(driven.statuses) == {Status.OK}
    assert 2 <= len(driven.records) <= 50
    assert [call.index for call in server.calls] == list(range(len(driven.records)))
    assert driven.records["sent_ns"].max() < 500 * MS


def test_processes_without_a_place_in_the_loop_rest(four: Fleet, tmp_path: Path) -> None:
    """One in flight over four processes: three have nothing to do, and all requests are sent all the same."""
    with Odd(answer) as server:
        driven = send(four, server, tmp_path, Load(count=8, concurrency=1, stopped=After(30)))
        again = send(four, server, tmp_path, Load(due_ms=[0] * 8))
    assert driven.statuses == again.statuses == [Status.OK] * 8
    assert (len(driven.ran.finished), len(again.ran.finished)) == (1, 4)
    assert driven.ran.ended_ns - driven.ran.start_ns < 15 * SECOND


def test_a_closed_loop_goes_on_after_failures(fleet: Fleet, tmp_path: Path) -> None:
    def flaky(call: Call) -> None:
        if call.index % 5 == 4:
            call.reset()
        else:
            call.send(odd.whole(2))

    with Odd(flaky) as server:
        driven = send(fleet, server, tmp_path, Load(count=40, concurrency=4, ahead=4))
    assert len(driven.records) == 40
    assert sum(status == Status.OK for status in driven.statuses) == 32
    assert all(driven.statuses[index] in (Status.RESET, Status.DISCONNECTED) for index in range(4, 40, 5))


def test_points_of_a_sweep_leave_no_memory_behind(tmp_path: Path) -> None:
    """Each point has a spool buffer of a megabyte: a process that kept it would grow by 20 MB from the tenth on."""

    def resident_kb(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    with Fleet(1) as own, Odd(answer) as server:
        after = []
        for _ in range(30):
            send(own, server, tmp_path, Load(due_ms=[0] * 4, ahead=4))
            after.append(resident_kb(pid_of(own)))
    assert after[-1] - after[9] < 5_000
