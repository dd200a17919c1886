"""Requests that are sent again: when, how often, what is kept of the first attempt, and when not."""

import gc
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from latency_profile.records import NONE, Status
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.refusal import Refusal, may_be_refusal, read_refusal
from latency_profile.sender.retries import wait_ns
from latency_profile.sender.spool import End, Kind, replay
from tests.driving import MS, SECOND, After, Load, answer, drive, send, target_of
from tests.servers import odd
from tests.servers.odd import Call, Odd


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


def refusal(status: str = "503 Service Unavailable", *headers: str) -> bytes:
    return odd.plain(b"later", "text/plain", status, *headers)


class Attempts:
    """Answers attempt n of each request as the n-th script says, and further ones as the last does."""

    def __init__(self, *scripts: Callable[[Call], None] | bytes) -> None:
        self._scripts = scripts
        self.of: Counter[int] = Counter()

    def __call__(self, call: Call) -> None:
        number = self.of[call.index]
        self.of[call.index] += 1
        script = self._scripts[min(number, len(self._scripts) - 1)]
        if callable(script):
            script(call)
        else:
            call.send(script)


def test_a_refused_request_goes_again_when_the_server_wants_it(fleet: Fleet, tmp_path: Path) -> None:
    """First Retry-After of one second, then none: 0.2 s, twice what a first wait would have been. A machine that pauses
    makes a wait longer; not those of three requests that are two seconds apart."""
    attempts = Attempts(refusal("503 Service Unavailable", "Retry-After: 1"), refusal(), answer)
    with Odd(attempts) as server:
        due_ms = [50, 2050, 4050]
        driven = send(fleet, server, tmp_path, Load(due_ms=due_ms, retries=5))
    assert driven.statuses == [Status.OK] * 3
    asked = [[call for call in server.calls if call.index == number] for number in range(3)]
    assert [len(calls) for calls in asked] == [3] * 3
    at_ms = np.array([[1e3 * call.at_s - driven.ran.start_ns / MS for call in calls] for calls in asked])
    first, second = np.diff(at_ms).T
    assert 1000 <= first.min() < 1300
    assert 200 <= second.min() < 390
    for number, calls in enumerate(asked):
        assert {call.body for call in calls} == {b'{"prompt":"%d"}' % number}
    records = driven.records
    assert np.all(records["sent_ns"] / MS >= due_ms)
    assert np.all(records["sent_ns"] / MS <= at_ms[:, 0] + 1), "that of the first attempt"
    assert np.all(records["first_token_ns"] / MS >= at_ms[:, 2] - 1), "that of the last one"
    assert list(records["due_ns"]) == [due * MS for due in due_ms]
    assert list(records["retries"]) == [2] * 3
    assert list(records["output_tokens"]) == [3] * 3
    assert list(records["answer_bytes"]) == [len(odd.whole(3))] * 3, "what was refused is no part of the answer"
    assert (driven.finished.retried, driven.finished.retries, driven.finished.resent) == (3, 6, 0)
    assert (driven.looks[-1].sent, driven.looks[-1].failed) == (3, 0)
    assert driven.finished.most_waiting_for_connection == 0, "there is an idle one"


def test_what_the_spool_says_of_it(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal(), answer)) as server:
        send(fleet, server, tmp_path, Load(due_ms=[0], retries=1))
    entries = list(replay(tmp_path / "spool-0"))
    assert [entry.kind for entry in entries] == [Kind.SENT, Kind.READ, Kind.RETRY, Kind.SENT, Kind.READ, Kind.END]
    assert (entries[2].info, entries[-1].info) == (1, End.COMPLETE)
    assert entries[1].at_ns <= entries[2].at_ns <= entries[3].at_ns - 100 * MS


def test_attempts_are_bounded(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal())) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 10, 20], retries=2))
    assert driven.statuses == [Status.HTTP_UNAVAILABLE] * 3
    assert Counter(call.index for call in server.calls) == {0: 3, 1: 3, 2: 3}
    assert list(driven.records["retries"]) == [2, 2, 2]
    assert (driven.finished.retried, driven.finished.retries) == (3, 6)


def test_nothing_is_sent_again_unless_asked_for(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal(), answer)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0]))
    assert driven.statuses == [Status.HTTP_UNAVAILABLE]
    assert len(server.calls) == 1
    assert (driven.finished.retried, driven.finished.retries) == (0, 0)


@pytest.mark.parametrize(
    "first",
    [
        refusal("429 Too Many Requests"),
        refusal("502 Bad Gateway"),
        refusal("504 Gateway Timeout"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + refusal(),
        lambda call: call.send(*(refusal()[at : at + 7] for at in range(0, 60, 7)), refusal()[63:], gap_s=0.005),
        lambda call: (call.send(odd.head("503 Service Unavailable", "text/plain") + b"later"), call.hang_up()),
        lambda call: (call.send(odd.head("503 Later", "text/plain", "content-length: 99") + b"later"), call.reset()),
        Call.hang_up,
        Call.reset,
    ],
    ids=["429", "502", "504", "informational", "pieces", "until close", "cut short", "closed", "reset"],
)
def test_what_is_retried(fleet: Fleet, tmp_path: Path, first: Callable[[Call], None] | bytes) -> None:
    with Odd(Attempts(first, answer)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0], retries=1))
    assert driven.statuses == [Status.OK]
    assert list(driven.records["retries"]) == [1]
    assert len(server.calls) == 2


def begin_and_break_off(call: Call) -> None:
    call.send(odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"), odd.chunk(odd.stream(3)[0]))
    call.hang_up()


def refuse_and_stall(call: Call) -> None:
    call.send(odd.head("503 Later", "", "content-length: 9"))
    time.sleep(1)


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (begin_and_break_off, Status.TRUNCATED),
        (lambda call: (call.send(b"HTTP/1.1 20"), call.hang_up()), Status.TRUNCATED),
        (refusal("500 Internal Server Error", "retry-after: 0"), Status.HTTP_SERVER_ERROR),
        (refusal("400 Bad Request"), Status.HTTP_CLIENT_ERROR),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Status.NOT_HTTP),
        (odd.head("503 Later", "text/plain", "transfer-encoding: chunked") + b"zz\r\n", None),
        (odd.plain(b"x" * 400_000, "text/plain", "503 Later"), Status.TOO_LONG),
        (lambda call: time.sleep(1), Status.TIMEOUT),
        (refuse_and_stall, None),
    ],
    ids=[
        "good answer",
        "first byte",
        "500",
        "400",
        "not HTTP",
        "broken refusal",
        "too long",
        "timeout",
        "timeout in a refusal",
    ],
)
def test_what_is_not(
    fleet: Fleet, tmp_path: Path, first: Callable[[Call], None] | bytes, status: Status | None
) -> None:
    timeout_s = 0.4 if status is Status.TIMEOUT or first is refuse_and_stall else 3.0
    with Odd(Attempts(first, answer)) as server:
        load = Load(due_ms=[0], retries=3, timeout_s=timeout_s, most_answer_bytes=100_000)
        driven = send(fleet, server, tmp_path, load)
    if status is not None:
        assert driven.statuses == [status]
    assert driven.statuses != [Status.OK]
    assert list(driven.records["retries"]) == [0]
    assert len(server.calls) == 1


def test_a_dead_pooled_connection_is_no_retry(fleet: Fleet, tmp_path: Path) -> None:
    """It costs none of the attempts; the fresh connection that dies after it does."""

    def script(call: Call) -> None:
        if call.turn or (call.index == 1 and attempts.of[1] < 3):
            attempts.of[1] += 1
            call.hang_up()
        else:
            answer(call)

    attempts = Attempts()
    with Odd(script) as server:
        driven = send(fleet, server, tmp_path, Load(count=2, concurrency=1, retries=2))
    assert driven.statuses == [Status.OK] * 2
    assert [call.index for call in server.calls] == [0, 1, 1, 1, 1]
    assert (driven.finished.resent, driven.finished.retries) == (1, 2)
    assert list(driven.records["retries"]) == [0, 2]


def test_a_server_that_is_away_for_a_while(fleet: Fleet, tmp_path: Path) -> None:
    """Requests that found no connection go when it is back: late by what they waited, and each once."""
    back = threading.Event()

    def script(call: Call) -> None:
        if call.index == 0:
            server.refuse()
            call.send(odd.whole(3, "connection: close"))
            call.hang_up()
            threading.Timer(0.6, listen_again).start()
        else:
            call.send(odd.whole(3))

    def listen_again() -> None:
        back.set()
        server._listener = socket.create_server((server.host, server.port))
        threading.Thread(target=server._accept, daemon=True).start()

    with Odd(script) as server:
        due = [0, 200, 220, 3000]
        driven = send(fleet, server, tmp_path, Load(due_ms=due, retries=5, connection_limit=1))
    assert back.is_set()
    assert driven.statuses == [Status.OK] * 4
    assert sorted(call.index for call in server.calls) == [0, 1, 2, 3]
    assert np.all(driven.records["retries"][1:3] >= 1) and driven.records["retries"][3] == 0
    late = (driven.records["sent_ns"] - driven.records["due_ns"]) / MS
    assert np.all(late[1:3] > 300), "nothing was sent before"
    assert driven.looks[-1].sent <= 4


def test_a_server_that_stays_away(fleet: Fleet, tmp_path: Path) -> None:
    def script(call: Call) -> None:
        server.refuse()
        call.send(odd.whole(3, "connection: close"))
        call.hang_up()

    with Odd(script) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 200], retries=2, connection_limit=1))
    assert driven.statuses == [Status.OK, Status.CONNECT_REFUSED]
    assert list(driven.records["retries"]) == [0, 2]
    assert driven.records["sent_ns"][1] == NONE
    assert driven.records["end_ns"][1] > 500 * MS, "0.1 s and 0.2 s later"


def test_a_retry_goes_to_the_same_target(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal(), answer)) as refusing, Odd(answer) as willing:
        targets = [target_of(server.host, server.port) for server in (willing, refusing)]
        driven = drive(fleet, targets[0], tmp_path, Load(due_ms=[0, 0, 0, 0], retries=1, targets=targets[1:]))
    assert driven.statuses == [Status.OK] * 4
    assert Counter(call.index for call in refusing.calls) == {1: 2, 3: 2}
    assert Counter(call.index for call in willing.calls) == {0: 1, 2: 1}


def test_a_slot_of_a_closed_loop_stays_taken(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal(), answer)) as server:
        driven = send(fleet, server, tmp_path, Load(count=4, concurrency=1, retries=1))
    assert driven.statuses == [Status.OK] * 4
    assert [call.index for call in server.calls] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_was_begun_in_time_may_be_retried_when_the_time_is_over(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal("503 Later", "retry-after: 1"), answer)) as server:
        driven = send(fleet, server, tmp_path, Load(count=100, concurrency=2, retries=1, duration_s=0.9))
    assert driven.statuses == [Status.OK] * 2
    assert driven.records["end_ns"].min() > SECOND
    assert len(server.calls) == 4


def test_a_stop_ends_what_waits_for_another_attempt(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Attempts(refusal("429 Slow Down", "retry-after: 20"))) as server:
        began, a_little = time.monotonic(), After(1.0)
        stopped = lambda: len(server.calls) == 2 and a_little()  # noqa: E731
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 10], retries=3, timeout_s=60, stopped=stopped))
    assert time.monotonic() - began < 15
    assert driven.statuses == [Status.CANCELLED] * 2
    assert list(driven.records["retries"]) == [1, 1]
    came_ns = [1e9 * call.at_s - driven.ran.start_ns for call in sorted(server.calls, key=lambda call: call.index)]
    assert np.all(driven.records["sent_ns"] <= came_ns), "of the first attempt"


def test_waits() -> None:
    assert [wait_ns(attempt, None) // MS for attempt in range(1, 9)] == [100, 200, 400, 800, 1600, 3200, 5000, 5000]
    assert wait_ns(200, None) == 5 * SECOND
    assert [wait_ns(3, asked) // SECOND for asked in (0, 7, 30, 31, 999_999_999)] == [0, 7, 30, 30, 30]


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (refusal("503 Later", "RETRY-AFTER:  12 "), Refusal(503, 12)),
        (refusal("429 Later", "retry-after: Fri, 31 Dec 1999 23:59:59 GMT"), Refusal(429, None)),
        (refusal("429 Later", "retry-after: -1"), Refusal(429, None)),
        (refusal("429 Later", f"retry-after: {'9' * 5000}"), Refusal(429, None)),
        (refusal("502 Later")[:40], None),
        (b"HTTP/1.1 103 Hints\r\nretry-after: 9\r\n\r\n" + refusal("504 Late"), Refusal(504, None)),
        (b"HTTP/1.1 103 Hints\r\nretry-after: 9\r\n\r\n" + odd.whole(1), None),
        (refusal("500 No", "retry-after: 9"), None),
        (b"HTTP/1.1 503 Later\r\nretry-after 9\r\n\r\n", None),
        (b"", None),
    ],
)
def test_refusals_are_read(said: bytes, read: Refusal | None) -> None:
    gc.collect()
    gc.disable()
    try:
        assert read_refusal(said) == read
        assert gc.collect() == 0, "no garbage collection runs while a point does"
    finally:
        gc.enable()
    if read:
        assert all(may_be_refusal(said[:length]) for length in range(len(said)))


def test_an_answer_is_seen_to_be_none_from_its_status_on() -> None:
    assert not may_be_refusal(b"HTTP/1.1 200")
    assert not may_be_refusal(b"HTTP/1.1 500")
