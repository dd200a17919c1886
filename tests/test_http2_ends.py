"""The sender's HTTP/2 connection where answers fail, are broken off, or are no answers."""

import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from latency_profile.http2_answer import Http2Answer
from latency_profile.sender.connection import Lost
from latency_profile.sender.grpc_refusal import read_refusal
from latency_profile.sender.http2 import Http2Connection
from latency_profile.sender.spool import End
from tests.http2_line import Line
from tests.servers.grpc_server import Call, GrpcServer, goaway

THREE = (b"one", b"", b"three" * 100)
PING = struct.pack(">HBBBI", 0, 8, 6, 0, 0) + b"12345678"


def payloads(answer: Http2Answer) -> list[bytes]:
    assert answer.problem is None
    return [payload for _, payload in answer.messages]


def healthy(call: Call) -> None:
    call.send(b"".join(call.answer(*THREE)))


def test_an_error_instead_of_an_answer(tmp_path: Path) -> None:
    with (
        GrpcServer(lambda call: call.send(call.refused(3, "bad %22prompt%22 %E2%82%AC%0A 100%"))) as server,
        Line(server.port, tmp_path) as line,
    ):
        answer = line.ask()
    assert (answer.status, answer.complete, answer.messages) == (200, True, [])
    assert answer.failure == 'grpc-status 3 INVALID_ARGUMENT: bad "prompt" € 100%'
    assert line.kept


def test_an_error_behind_messages(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        call.send(call.head() + call.message(b"first") + call.end(2, "Unexpected <class 'TypeError'>"))

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
    assert payloads(answer) == [b"first"]
    assert answer.failure == "grpc-status 2 UNKNOWN: Unexpected <class 'TypeError'>"


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (77, "grpc-status 77"),
        ("none", "grpc-status 2 UNKNOWN"),
        (None, "the answer ended without a grpc-status"),
    ],
)
def test_odd_ends(tmp_path: Path, said: int | str | None, failure: str) -> None:
    with (
        GrpcServer(lambda call: call.send(call.head() + call.message(b"x") + call.end(said))) as server,
        Line(server.port, tmp_path) as line,
    ):
        assert line.ask().failure == failure


def test_a_stream_that_the_server_resets(tmp_path: Path) -> None:
    """The answer is over, and is not complete; the connection can go on."""

    def script(call: Call) -> None:
        if call.turn:
            healthy(call)
        else:
            call.send(call.head() + call.message(b"first") + call.reset_stream(8))

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
        assert (payloads(answer), answer.complete, answer.reset) == ([b"first"], False, 8)
        assert answer.failure == "the server reset the stream: 8 CANCEL"
        assert line.kept
        assert payloads(line.ask()) == list(THREE)
    assert server.accepted == 1


def lost(line: Line) -> Lost:
    """What becomes of the next request."""
    with pytest.raises(Lost) as caught:
        line.begin()
        while not line.connection.complete:
            line.turn()
    return caught.value


@pytest.mark.parametrize("how", ["hangs up", "resets"])
def test_the_connection_ends_amid_an_answer(tmp_path: Path, how: str) -> None:
    has_read = threading.Event()  # a reset throws away what was not read yet

    def script(call: Call) -> None:
        call.send(call.head() + call.message(b"first") + call.message(b"second")[:-3])
        has_read.wait(10)
        call.hang_up() if how == "hangs up" else call.reset()

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        line.begin()
        while not line.connection.answered:
            line.turn()
        has_read.set()
        with pytest.raises(Lost) as caught:
            line.turn()
        assert caught.value.end == (End.CLOSED if how == "hangs up" else End.BROKEN)
        assert line.connection.answered
        answer = line.answer(0)
    assert payloads(answer) == [b"first"]
    assert (answer.complete, answer.failure) == (False, None)


def test_a_dead_pooled_connection_has_not_answered(tmp_path: Path) -> None:
    """The sender takes that for a request that the server never saw."""

    def once(call: Call) -> None:
        healthy(call)
        time.sleep(0.02)
        call.hang_up()

    with GrpcServer(once) as server, Line(server.port, tmp_path) as line:
        line.ask()
        time.sleep(0.1)
        assert lost(line).end in (End.CLOSED, End.BROKEN)
        assert line.connection.used
        assert not line.connection.answered


@pytest.mark.parametrize("last", [1, (1 << 31) - 1])
def test_a_goaway_lets_the_answer_end_and_takes_no_other(tmp_path: Path, last: int) -> None:
    def script(call: Call) -> None:
        call.send(call.head() + call.message(b"first"), goaway(last), call.message(b"second"), call.end(), gap_s=0.02)

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
    assert payloads(answer) == [b"first", b"second"]
    assert answer.complete
    assert not line.kept


def test_a_goaway_right_behind_an_answer(tmp_path: Path) -> None:
    with (
        GrpcServer(lambda call: call.send(b"".join(call.answer(*THREE)) + goaway(1))) as server,
        Line(server.port, tmp_path) as line,
    ):
        assert payloads(line.ask()) == list(THREE)
    assert not line.kept


def test_a_goaway_that_leaves_this_stream_out(tmp_path: Path) -> None:
    """As if the connection had been closed: the server will never look at the request."""
    with (
        GrpcServer(lambda call: healthy(call) if not call.turn else call.send(goaway(1))) as server,
        Line(server.port, tmp_path) as line,
    ):
        line.ask()
        assert line.kept
        assert lost(line).end == End.CLOSED
        assert not line.connection.answered


def test_a_goaway_while_idle(tmp_path: Path) -> None:
    idle = threading.Event()

    def script(call: Call) -> None:
        call.send(b"".join(call.answer(b"x")))
        idle.wait(10)
        call.send(goaway(1))

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        line.ask()
        assert line.kept
        idle.set()
        with pytest.raises(Lost) as caught:
            line.turn()
    assert caught.value.end == End.CLOSED


def test_an_answer_that_is_too_long(tmp_path: Path) -> None:
    with (
        GrpcServer(lambda call: call.send(b"".join(call.answer(b"x" * 5000)))) as server,
        Line(server.port, tmp_path) as line,
    ):
        line.connection.most_answer_bytes = 4000
        assert lost(line).end == End.TOO_LONG


@pytest.mark.parametrize("kind", ["DATA", "CONTINUATION"])
def test_an_answer_of_too_many_empty_frames(tmp_path: Path, kind: str) -> None:
    def script(call: Call) -> None:
        if kind == "DATA":
            call.send(call.head() + struct.pack(">HBBBI", 0, 0, 0, 0, call.stream) * 1000)
        else:
            unfinished = struct.pack(">HBBBI", 0, 1, 1, 0, call.stream) + b"\x88"
            call.send(unfinished + struct.pack(">HBBBI", 0, 0, 9, 0, call.stream) * 1000)

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        line.connection.most_answer_bytes = 4000
        assert lost(line).end == End.TOO_LONG


def test_many_questions_in_one_read_are_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unsent is copied each time: once a read, not once a frame."""
    said: list[int] = []
    queue = Http2Connection._queue

    def note(self: Http2Connection, data: bytes) -> None:
        said.append(len(data))
        queue(self, data)

    with (
        GrpcServer(lambda call: call.send(PING * 1000 + b"".join(call.answer(*THREE)))) as server,
        Line(server.port, tmp_path) as line,
    ):
        monkeypatch.setattr(Http2Connection, "_queue", note)
        assert payloads(line.ask()) == list(THREE)
        for _ in range(3000):
            if server.pongs >= 1000:
                break
            time.sleep(0.01)
    assert server.pongs == 1000
    assert len(said) < 10
    assert not server.failures


def test_a_server_that_asks_and_does_not_read(tmp_path: Path) -> None:
    """It is not answered without an end. Both sockets have small buffers, and hold little of it."""

    def flood(call: Call) -> None:
        call._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(400):
            call._socket.sendall(PING * 1000)
        call.hang_up()

    with GrpcServer(flood) as server, Line(server.port, tmp_path) as line:
        line.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        caught = lost(line)
    assert (caught.end, caught.reason) == (End.NOT_HTTP, "the server does not read what it asks for")


def test_a_wider_window_is_no_answer(tmp_path: Path) -> None:
    """The connection breaks behind a WINDOW_UPDATE for the stream: nothing of an answer had come."""

    def script(call: Call) -> None:
        call.send(struct.pack(">HBBBI", 0, 4, 8, 0, call.stream) + b"\0\0\1\0")
        time.sleep(0.05)
        call.reset()

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        assert lost(line).end == End.BROKEN
        assert not line.connection.answered


def test_a_stream_that_the_server_refused_to_look_at(tmp_path: Path) -> None:
    """REFUSED_STREAM before an answer (RFC 9113, 8.7); behind a head, or for another reason, it is none."""
    refused: list[bool] = []

    def script(call: Call) -> None:
        begun = call.head() if call.turn == 1 else b""
        call.send(begun + call.reset_stream(2 if call.turn == 2 else 7))

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        for number in range(3):
            assert line.ask().reset in (2, 7)
            refused.append(read_refusal(b"".join(read.data for read in line.reads(number))) is not None)
    assert refused == [True, False, False]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        struct.pack(">HBBBI", 0, 8, 6, 0, 0) + bytes(8),  # a PING before SETTINGS
        struct.pack(">HBBBI", 0, 5, 4, 0, 0) + bytes(5),
        struct.pack(">HBBBI", 0, 6, 4, 0, 0) + struct.pack(">HI", 4, 1 << 31),
        struct.pack(">HBBBI", 0, 6, 4, 0, 0) + struct.pack(">HI", 5, 100),
    ],
)
def test_a_server_that_speaks_something_else(tmp_path: Path, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            client.recv(1 << 16)
            client.sendall(said)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(Lost) as caught:
            Line(listener.getsockname()[1], tmp_path).open()
    assert (caught.value.end, caught.value.reason) == (End.NOT_HTTP, "what came is not HTTP/2")


def test_a_server_that_hangs_up_on_http2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            client.recv(1 << 16)
            client.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(Lost) as caught:
            Line(listener.getsockname()[1], tmp_path).open()
    assert caught.value.reason == "the server closed the connection when spoken to in HTTP/2"


def test_no_connection_before_the_server_has_spoken(tmp_path: Path) -> None:
    with GrpcServer(healthy, silent=True) as server, pytest.raises(AssertionError, match="nothing came in time"):
        Line(server.port, tmp_path).open(within_s=0.3)


@pytest.mark.parametrize(
    "said",
    [
        struct.pack(">HBBBI", 0, 5, 0, 0, 3) + b"other",  # DATA of another stream
        struct.pack(">HBBBI", 0, 5, 0, 0, 0) + b"other",
        struct.pack(">HBBBI", 0, 5, 5, 4, 1) + b"\0\0\0\2\x88",  # a push
        struct.pack(">HBBBI", 1 << 8, 0, 0, 0, 1),  # a frame of 65,536 bytes
        struct.pack(">HBBBI", 0, 7, 6, 0, 0) + bytes(7),
        struct.pack(">HBBBI", 0, 4, 8, 0, 0) + bytes(4),
        struct.pack(">HBBBI", 0, 4, 8, 0, 1) + b"\x7f\xff\xff\xff",
        struct.pack(">HBBBI", 0, 7, 7, 0, 0) + bytes(7),
    ],
)
def test_frames_that_break_the_rules(tmp_path: Path, said: bytes) -> None:
    with GrpcServer(lambda call: call.send(call.head() + said)) as server, Line(server.port, tmp_path) as line:
        assert lost(line).end == End.NOT_HTTP
        assert line.answer(0).status == 200, "what came before is kept"
