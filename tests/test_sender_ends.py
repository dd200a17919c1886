"""How requests, points and processes end that do not end well."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from latency_profile.errors import ProfileError, ServerUnavailable
from latency_profile.records import NONE, Flag, Status
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.spool import LARGEST_READ
from tests.driving import MS, After, Load, answer, drive, open_files, pid_of, send, target_of
from tests.launching import until
from tests.servers import odd
from tests.servers.odd import Call, Odd


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One sender process, for all tests that leave it alive."""
    with Fleet(1) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def four() -> Iterator[Fleet]:
    with Fleet(4) as fleet:
        yield fleet


def test_a_reset_in_mid_answer(fleet: Fleet, tmp_path: Path) -> None:
    def break_off(call: Call) -> None:
        if call.index == 1:
            call.send(
                odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"), odd.chunk(odd.stream(3)[0])
            )
            time.sleep(0.05)
            call.reset()
        else:
            call.send(odd.whole(3))

    with Odd(break_off) as server:
        driven = send(fleet, server, tmp_path, Load(count=3, concurrency=1))
    assert driven.statuses == [Status.OK, Status.RESET, Status.OK]
    assert driven.records["http_status"][1] == 200
    assert driven.collected[0].errors == {"RESET": ["1 × ECONNRESET"]}


def test_only_the_request_that_stalls_fails(fleet: Fleet, tmp_path: Path) -> None:
    """One answer stops after its first token, one never begins; others on the same process go on. Both are given up."""
    closed: dict[int, float] = {}

    def stall(call: Call) -> None:
        if call.index == 1:
            call.send(
                odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"), odd.chunk(odd.stream(3)[0])
            )
        if call.index in (1, 2):
            call._socket.settimeout(30)
            assert call._socket.recv(1) == b""
            closed[call.index] = time.monotonic() - call.at_s
            call.gone = True
            return
        time.sleep(0.02)
        call.send(odd.whole(3))

    with Odd(stall) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 0, 0, *range(50, 1000, 50)], timeout_s=3))
        until(lambda: set(closed) == {1, 2})
    assert [number for number, status in enumerate(driven.statuses) if status != Status.OK] == [1, 2]
    assert driven.statuses[1:3] == [Status.STALLED, Status.TIMEOUT]
    spent = (driven.records["end_ns"] - driven.records["sent_ns"])[[1, 2]]
    assert np.all(spent >= 3000 * MS) and np.all(spent < 10_000 * MS)
    ok = driven.records["status"] == Status.OK
    assert driven.records["end_ns"][ok].max() < driven.records["end_ns"][[1, 2]].min(), "nobody waited for these two"


@pytest.mark.parametrize("concurrency", [0, 1])
def test_an_answer_that_is_whole_after_its_timeout_is_a_timeout(fleet: Fleet, tmp_path: Path, concurrency: int) -> None:
    """Also where no tick, of which there are ten a second, has looked between the timeout and the answer's end."""

    def slow(call: Call) -> None:
        call.send(odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"))
        time.sleep(0.07)
        call.send(*(odd.chunk(part) for part in [*odd.stream(3), b""]))

    load = Load(count=6, concurrency=1) if concurrency else Load(due_ms=[0, 70, 140, 210, 280, 350])
    load.timeout_s = 0.05
    with Odd(slow) as server:
        driven = send(fleet, server, tmp_path, load)
    assert Status.OK not in driven.statuses and Status.STALLED in driven.statuses


def test_a_slow_header_is_part_of_the_answer(fleet: Fleet, tmp_path: Path) -> None:
    def hesitate(call: Call) -> None:
        text = odd.whole(3)
        call.send(text[:5], text[5:40], text[40:], gap_s=0.1)

    with Odd(hesitate) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0]))
    assert driven.statuses == [Status.OK]
    assert driven.records["first_token_ns"][0] - driven.records["sent_ns"][0] >= 195 * MS


def test_a_server_that_refuses_in_mid_run(fleet: Fleet, tmp_path: Path) -> None:
    """It answers four requests, then stops listening and hangs up. The rest are refused, and cost no descriptor."""
    files: list[int] = []

    def shut_down(call: Call) -> None:
        if call.index == 3:
            server.refuse()
            call.send(odd.whole(3, "connection: close"))
            call.hang_up()
        else:
            call.send(odd.whole(3))

    def stopped() -> bool:
        files.append(open_files(pid_of(fleet)))
        return False

    with Odd(shut_down) as server:
        load = Load(due_ms=[0, 40, 80, 120, *range(300, 1800, 20)], connection_limit=1, stopped=stopped)
        driven = send(fleet, server, tmp_path, load)
    assert driven.statuses[:4] == [Status.OK] * 4
    assert set(driven.statuses[4:]) == {Status.CONNECT_REFUSED}
    assert np.all(driven.records["sent_ns"][4:] == NONE)
    assert driven.collected[0].errors == {"CONNECT_REFUSED": [f"{len(load) - 4} × ECONNREFUSED"]}
    assert max(files) - min(files) < 8


def test_nobody_there(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer) as server:
        target = target_of(server.host, server.port)
    with pytest.raises(ServerUnavailable, match=rf"cannot connect to 127.0.0.1 port {server.port}: Connection refused"):
        drive(fleet, target, tmp_path, Load(due_ms=[0]))
    with Odd(answer) as server:  # the process is still good
        assert send(fleet, server, tmp_path, Load(due_ms=[0])).statuses == [Status.OK]


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(ServerUnavailable, match=r"cannot connect to no-such-host\.invalid: host not found"):
        target_of("no-such-host.invalid", 80)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServerUnavailable, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"):
        target_of("127.0.0.1", port)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Status.NOT_HTTP),
        (odd.plain(b'{"error":{"message":"no"}}', status="400 Bad Request"), Status.HTTP_CLIENT_ERROR),
        (odd.plain(b"slow down", "text/plain", "429 Too Many Requests"), Status.HTTP_TOO_MANY_REQUESTS),
        (odd.plain(b"", "", "503 Service Unavailable"), Status.HTTP_UNAVAILABLE),
        (odd.plain(b"<html>", "text/html"), Status.CONTENT_TYPE),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            Status.NOT_HTTP,
        ),
    ],
)
def test_answers_that_are_none(fleet: Fleet, tmp_path: Path, said: bytes, status: Status) -> None:
    with Odd(lambda call: call.send(said)) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0], timeout_s=3))
    assert driven.statuses == [status]


def test_an_answer_that_grows_too_long_is_cut(fleet: Fleet, tmp_path: Path) -> None:
    """One byte over the limit is too long. Of an answer without an end little more than the limit is kept."""
    fits, too_long = odd.whole(3, "x: 1"), odd.whole(3, "x: 12")
    cut = threading.Event()

    def grow(call: Call) -> None:
        if call.index == 0:
            call.send(fits)
        elif call.index == 1:
            call.send(too_long)
        elif call.index == 2:
            call.send(odd.head("200 OK", "text/event-stream"))
            try:
                while True:
                    call.send(b"x" * 1000)
            except OSError:
                cut.set()
                raise
        else:
            call.send(fits)

    with Odd(grow) as server:
        load = Load(count=4, concurrency=1, most_answer_bytes=len(fits), timeout_s=60, stopped=After(30), retries=2)
        driven = send(fleet, server, tmp_path, load)
        assert cut.wait(30), "the connection is closed"
    assert driven.statuses == [Status.OK, Status.TOO_LONG, Status.TOO_LONG, Status.OK]
    assert driven.records["answer_bytes"][2] <= len(fits) + LARGEST_READ
    assert [call.index for call in server.calls] == [0, 1, 2, 3]


def test_no_secret_in_an_error_message(fleet: Fleet, tmp_path: Path) -> None:
    """A server repeats the key; also where the message is cut off in the middle of it."""
    key = "sk-abcdefghijklmnop"

    def repeat(call: Call) -> None:
        said = b"x" * (290 if call.index else 0) + key.encode()
        call.send(odd.plain(said, "text/plain", "401 Unauthorized"))

    with Odd(repeat) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 10], secrets=[key]))
    messages = driven.collected[0].errors["HTTP_UNAUTHORIZED"]
    assert len(messages) == 2
    assert not any("sk-" in message for message in messages)
    assert messages[0] == "1 × HTTP 401: ***"


def test_a_stop_in_mid_point(four: Fleet, tmp_path: Path) -> None:
    """What has ended stays, what is in flight is cancelled, what was due and waits is not sent, the rest is no row."""
    hanging: list[int] = []

    def hang(call: Call) -> None:
        if call.index < 4:
            call.send(odd.whole(2))
        elif call.index < 8:
            call.send(
                odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"), odd.chunk(odd.stream(3)[0])
            )
            call.send(b"40\r\n" + odd.stream(3)[1][:20])  # cut off in mid-event
            hanging.append(call.index)
            time.sleep(3)
        else:
            time.sleep(3)

    with Odd(hang) as server:
        due = [0] * 4 + [100] * 4 + [200] * 4 + [60_000] * 4
        a_little = After(1.0)
        stopped = lambda: len(hanging) == 4 and a_little()  # noqa: E731
        load = Load(due_ms=due, ahead=1, connection_limit=1, stopped=stopped)
        driven = send(four, server, tmp_path, load)
    assert driven.statuses == [Status.OK] * 4 + [Status.CANCELLED] * 4 + [Status.NOT_SENT] * 4
    records = driven.records
    assert list(records["index"]) == list(range(12))
    assert np.all(records["sent_ns"][:8] >= 0) and np.all(records["sent_ns"][8:] == NONE)
    assert np.all(records["end_ns"][4:8] > 400 * MS)
    assert np.all(records["flags"][4:8] & Flag.UNFINISHED_AT_STOP)
    assert np.all(records["first_token_ns"][4:8] > 0), "the first token had come"
    assert np.all(records["flags"][8:] == 0)


def test_a_stop_before_the_start_is_an_empty_point(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[1000, 2000], stopped=lambda: True))
    assert len(driven.records) == 0
    assert driven.ran.ended_ns >= driven.ran.start_ns


def test_a_stop_while_connections_are_opened(tmp_path: Path) -> None:
    """A listener that is full takes no more connections: the handshake hangs, and Ctrl-C must not wait for it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        target = target_of(*listener.getsockname())
        full = [socket.socket() for _ in range(4)]
        for filler in full:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with Fleet(1) as own:
            began = time.monotonic()
            try:
                drive(own, target, tmp_path, Load(due_ms=[0], timeout_s=60, stopped=After(0.5)))
            except ServerUnavailable:
                pass
            assert time.monotonic() - began < 20, "a handshake may take 30 s"
        for filler in full:
            filler.close()


@pytest.mark.parametrize("when", ["in mid-point", "between two points"])
def test_a_killed_process_is_named(tmp_path: Path, when: str) -> None:
    def never(call: Call) -> None:
        if when == "in mid-point" and call.index == 0:
            kill()
        time.sleep(1)
        call.send(odd.whole(1))

    def kill() -> None:
        os.kill(pid_of(own, 1), signal.SIGKILL)

    named = pytest.raises(ProfileError, match="sender process 1 ended with signal SIGKILL")
    with Odd(never) as server, named, Fleet(2) as own:
        if when == "between two points":
            kill()
            own._processes[1]._process.wait(30)
        send(own, server, tmp_path, Load(due_ms=[0] * 4, ahead=2))


def test_processes_end_with_their_parent() -> None:
    with Fleet(2) as own:
        processes = [process._process for process in own._processes]
    assert [process.returncode for process in processes] == [0, 0]
