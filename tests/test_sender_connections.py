"""Connections of the sender: opened ahead, reused, replaced when the server has closed them, limited, given up."""

import gc
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from latency_profile.errors import ServerUnavailable
from latency_profile.records import NONE, Flag, Status
from latency_profile.sender.connection import Connection, Lost
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.job import Target
from latency_profile.sender.spool import End
from tests.driving import MS, After, Load, answer, drive, open_files, pid_of, send, target_of
from tests.servers import odd
from tests.servers.odd import Call, Odd


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One sender process, for all tests that leave it alive."""
    with Fleet(1) as fleet:
        yield fleet


def test_a_closed_idle_connection_is_replaced_and_nobody_notices(fleet: Fleet, tmp_path: Path) -> None:
    def answer_and_leave(call: Call) -> None:
        call.send(odd.whole(3))
        time.sleep(0.02)
        call.hang_up()

    with Odd(answer_and_leave) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 1000, 2000]))
    assert driven.statuses == [Status.OK] * 3
    assert driven.finished.connections_closed_by_server >= 2
    assert driven.finished.resent == 0
    assert not np.any(driven.records["flags"] & Flag.REUSED_CONNECTION)


def test_a_dead_pooled_connection_costs_one_more_sending(fleet: Fleet, tmp_path: Path) -> None:
    """The server hangs up on the second request of each connection, as if it had just closed it for being idle."""

    def once_only(call: Call) -> None:
        if call.turn:
            call.hang_up()
        else:
            answer(call)

    with Odd(once_only) as server:
        driven = send(fleet, server, tmp_path, Load(count=3, concurrency=1))
    assert driven.statuses == [Status.OK] * 3
    assert [(call.index, call.turn) for call in server.calls[:3]] == [(0, 0), (1, 1), (1, 0)]
    assert server.calls[1].body == server.calls[2].body
    assert [bool(flags & Flag.RESENT) for flags in driven.records["flags"][:2]] == [False, True]
    assert driven.finished.resent >= 1
    sent_ns = driven.records["sent_ns"][1] + driven.ran.start_ns
    assert sent_ns / 1e9 <= server.calls[1].at_s, "the time is that of the first sending"
    assert all(live.completed <= live.sent <= 3 for live in driven.looks), "each request counts once"


def test_a_dead_pooled_connection_is_left_also_where_others_are_idle(fleet: Fleet, tmp_path: Path) -> None:
    """Six used connections are idle; the one that is picked is dead. The request wants a fresh one, which is opened
    although six are idle."""
    busy = threading.Barrier(6)

    def once_only(call: Call) -> None:
        if call.turn:
            call.hang_up()
            return
        if call.index < 6:
            busy.wait(20)
            time.sleep(0.3)  # until the client's spare connection is open: a used one is then the next to be used
        call.send(odd.whole(3))

    with Odd(once_only) as server:
        load = Load(due_ms=[0] * 6 + [1500, 1501], ahead=6, timeout_s=30, stopped=After(20))
        driven = send(fleet, server, tmp_path, load)
    assert driven.statuses == [Status.OK] * 8
    assert driven.finished.resent == 2


def test_a_dead_pooled_connection_at_the_connection_limit(fleet: Fleet, tmp_path: Path) -> None:
    """As before, where no connection more may be opened: an idle one makes room for the fresh one."""
    busy = threading.Barrier(3)

    def once_only(call: Call) -> None:
        if call.turn and call.index == 3:
            call.hang_up()
            return
        if call.index < 3:
            busy.wait(20)
        call.send(odd.whole(3))

    with Odd(once_only) as server:
        load = Load(due_ms=[0] * 3 + [1200], ahead=3, connection_limit=3, timeout_s=30, stopped=After(20))
        driven = send(fleet, server, tmp_path, load)
    assert driven.statuses == [Status.OK] * 4
    assert driven.finished.resent == 1


def test_a_request_is_sent_again_only_once(fleet: Fleet, tmp_path: Path) -> None:
    def drop_the_second(call: Call) -> None:
        if call.index == 1:
            call.hang_up()
        else:
            answer(call)

    with Odd(drop_the_second) as server:
        driven = send(fleet, server, tmp_path, Load(count=3, concurrency=1))
    assert driven.statuses == [Status.OK, Status.DISCONNECTED, Status.OK]
    assert driven.finished.resent == 1
    assert [call.index for call in server.calls] == [0, 1, 1, 2]
    assert driven.records["first_token_ns"][1] == NONE
    assert driven.records["http_status"][1] == 0


def test_a_fresh_connection_that_is_dropped_is_no_dead_pooled_one(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(Call.hang_up) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0]))
    assert driven.statuses == [Status.DISCONNECTED]
    assert driven.finished.resent == 0
    assert len(server.calls) == 1


def test_a_pooled_connection_that_breaks_in_mid_answer_is_no_dead_one(fleet: Fleet, tmp_path: Path) -> None:
    def break_the_second(call: Call) -> None:
        if call.turn:
            call.send(
                odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"), odd.chunk(odd.stream(3)[0])
            )
            call.hang_up()
        else:
            answer(call)

    with Odd(break_the_second) as server:
        driven = send(fleet, server, tmp_path, Load(count=2, concurrency=1))
    assert driven.statuses == [Status.OK, Status.TRUNCATED]
    assert driven.finished.resent == 0


def test_connection_close_is_obeyed(fleet: Fleet, tmp_path: Path) -> None:
    """The server says so and leaves the connection open; the client must not use it again."""

    def last(call: Call) -> None:
        call.send(odd.whole(3, "connection: close"))

    with Odd(last) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 50, 100]))
    assert driven.statuses == [Status.OK] * 3
    assert [call.turn for call in server.calls] == [0, 0, 0]
    assert driven.finished.reused == 0
    assert driven.finished.connections_opened >= 3


@pytest.mark.parametrize(
    "behind",
    [odd.whole(9), odd.whole(9)[:30], b"H", b"\0\xff", b"SSH-2.0-OpenSSH_9.2\r\n", odd.head("100 Continue", "")],
    ids=["answer", "half", "letter", "garbage", "words", "informational"],
)
def test_bytes_behind_an_answer_are_no_answer_to_the_next_request(fleet: Fleet, tmp_path: Path, behind: bytes) -> None:
    """They come in the same read; the answer is whole, and the connection is not used again."""
    with Odd(lambda call: call.send(odd.whole(3) + behind)) as server:
        driven = send(fleet, server, tmp_path, Load(count=6, concurrency=1))
    assert driven.statuses == [Status.OK] * 6
    assert list(driven.records["output_tokens"]) == [3] * 6
    assert [call.turn for call in server.calls] == [0] * 6


def test_a_body_that_ends_with_the_connection(fleet: Fleet, tmp_path: Path) -> None:
    def old_style(call: Call) -> None:
        call.send(odd.head("200 OK", "text/event-stream"), *odd.stream(3), gap_s=0.01)
        call.hang_up()

    with Odd(old_style) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0, 200]))
    assert driven.statuses == [Status.OK] * 2
    assert list(driven.records["output_tokens"]) == [3, 3]


def test_connections_are_opened_before_they_are_needed(fleet: Fleet, tmp_path: Path) -> None:
    """A burst over as many connections: all are there when it begins."""
    with Odd(answer) as server:
        target = target_of(server.host, server.port)
        driven = drive(fleet, target, tmp_path, Load(due_ms=[0] * 100, ahead=100))
    assert driven.statuses == [Status.OK] * 100
    assert driven.finished.connections_opened == 100
    assert driven.finished.most_waiting_for_connection == 0
    assert len({call.connection for call in server.calls}) == 100


def test_the_connection_limit_holds_and_waiting_is_lateness(fleet: Fleet, tmp_path: Path) -> None:
    def slow(call: Call) -> None:
        time.sleep(0.1)
        call.send(odd.whole(3))

    with Odd(slow) as server:
        driven = send(fleet, server, tmp_path, Load(due_ms=[0] * 8, ahead=8, connection_limit=2))
    assert driven.statuses == [Status.OK] * 8
    assert server.most_at_once == 2
    assert driven.finished.connections_opened == 2
    assert driven.finished.most_waiting_for_connection == 6
    late_ms = np.sort(driven.records["sent_ns"] - driven.records["due_ns"]) / MS
    for pair in range(4):
        assert 95 * pair <= late_ms[2 * pair]
    sent, ended = np.sort(driven.records["sent_ns"]), np.sort(driven.records["end_ns"])
    waited_ms = (sent[2:] - ended[:-2]) / MS  # the third goes when the first has ended, and so on
    assert waited_ms.min() >= 0
    assert waited_ms.min() < 50, "as soon as there is a connection; a machine that pauses bends some of them"
    assert max(live.sent - live.completed - live.failed for live in driven.looks) <= 2


def test_a_server_that_closes_every_new_connection_does_not_hold_up_the_start(fleet: Fleet, tmp_path: Path) -> None:
    with Odd(answer, greet=lambda _: False) as server:
        began = time.monotonic()
        try:
            driven = send(fleet, server, tmp_path, Load(due_ms=[0] * 20, ahead=20, stopped=After(30), timeout_s=2))
        except ServerUnavailable:
            pass
        else:
            assert Status.OK not in driven.statuses
        assert time.monotonic() - began < 20


def test_a_connection_that_is_over_is_gone_without_a_garbage_collection() -> None:
    """None runs while a point does: what is left to it stays, files too. To 255.255.255.255 a connect fails at once."""
    gc.collect()
    gc.disable()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connection = Connection(Target(listener.getsockname(), socket.AF_INET, b""))
        connection.close()
        left = weakref.ref(connection)
        del connection
        assert left() is None
        before = open_files(os.getpid())
        for _ in range(3):
            with pytest.raises(Lost) as caught:
                Connection(Target(("255.255.255.255", 80), socket.AF_INET, b""))
            assert caught.value.end == End.CONNECT_FAILED
            assert caught.value.reason == os.strerror(caught.value.errno)
        assert open_files(os.getpid()) == before
    finally:
        gc.enable()


def test_closed_connections_leave_nothing_behind(fleet: Fleet, tmp_path: Path) -> None:
    before = open_files(pid_of(fleet))
    with Odd(lambda call: call.send(odd.whole(1, "connection: close"))) as server:
        driven = send(fleet, server, tmp_path, Load(count=300, concurrency=10, ahead=10))
    assert driven.statuses == [Status.OK] * 300
    assert open_files(pid_of(fleet)) == before
