"""The sender's HTTP/2 connection against h2, and what is made of the frames that it keeps."""

import socket
import struct
import threading
import time
from pathlib import Path

import h2.connection
import h2.events
import hpack
import pytest
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.http2_answer import Http2Answer
from latency_profile.sender import http2
from latency_profile.sender.clock import now_ns
from tests.http2_line import HEADERS, PATH, Line
from tests.servers.grpc_server import Call, GrpcServer, prefixed

THREE = (b"one", b"", b"three" * 100)


def payloads(answer: Http2Answer) -> list[bytes]:
    assert answer.problem is None
    return [payload for _, payload in answer.messages]


def healthy(call: Call) -> None:
    call.send(b"".join(call.answer(*THREE)))


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_as_h2_reads_it(tmp_path: Path) -> None:
    with GrpcServer(healthy) as server, Line(server.port, tmp_path) as line:
        line.ask(b"hello")
    (call,) = server.calls
    assert sorted(call.headers) == sorted(
        [*((name.lower(), value) for name, value in HEADERS), (":path", PATH), ("x-request-id", "test-0")]
    )
    assert call.payload == b"hello"
    assert not server.failures


def test_secrets_are_never_to_be_indexed() -> None:
    headers = list(hpack.Decoder().decode(http2.header_block([*HEADERS, ("x-key", "v" * 200)]), raw=True))
    kept = {bytes(header[0]).decode() for header in headers if not header.indexable}
    assert kept == {"authorization", "x-team", "x-key"}
    assert headers[-1][1] == b"v" * 200


@given(st.lists(st.tuples(st.text("abc-xyz", min_size=1), st.text(st.characters(max_codepoint=255), max_size=20_000))))
def test_any_headers_are_read_back(headers: list[tuple[str, str]]) -> None:
    decoder = hpack.Decoder(max_header_list_size=1 << 24)
    found = decoder.decode(http2.header_block(headers), raw=True)
    assert [(bytes(name).decode(), bytes(value).decode("latin-1")) for name, value in found] == headers


def test_headers_of_more_than_a_frame(tmp_path: Path) -> None:
    """They go on in CONTINUATION frames."""
    with GrpcServer(healthy) as server, Line(server.port, tmp_path) as line:
        line.target = type(line.target)(
            line.target.address, line.target.family, http2.header_block([*HEADERS, ("x-long", "y" * 40_000)])
        )
        assert payloads(line.ask()) == list(THREE)
    assert ("x-long", "y" * 40_000) in server.calls[0].headers


@pytest.mark.parametrize("table", [0, 100, 4096])
def test_a_server_with_a_small_header_table(tmp_path: Path, table: int) -> None:
    with (
        GrpcServer(healthy, settings={SettingCodes.HEADER_TABLE_SIZE: table}) as server,
        Line(server.port, tmp_path) as line,
    ):
        for _ in range(3):
            assert payloads(line.ask()) == list(THREE)
    assert not server.failures


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_whole_answer_in_one_read(tmp_path: Path) -> None:
    with GrpcServer(healthy) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
        reads = line.reads(0)
    assert (answer.status, answer.complete, answer.grpc_status, answer.failure) == (200, True, 0, None)
    assert answer.headers[b"content-type"] == b"application/grpc"
    assert answer.body == b"".join(map(prefixed, THREE))
    assert answer.messages == [(8, b"one"), (13, b""), (518, b"three" * 100)]
    assert (len(reads), answer.bounds) == (1, [518])
    assert reads[0].delay_ns >= 0, "the kernel's own time"


def test_each_read_has_its_own_time(tmp_path: Path) -> None:
    sent: list[int] = []

    def slowly(call: Call) -> None:
        for part in call.answer(*THREE):
            time.sleep(0.03)
            sent.append(now_ns())
            call.send(part)

    with GrpcServer(slowly) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
        reads = line.reads(0)
    assert answer.bounds == [0, 8, 13, 518, 518]
    assert all(read.delay_ns >= 0 for read in reads)
    assert all(-100_000 < read.at_ns - at < 20_000_000 for read, at in zip(reads, sent, strict=True))


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """A frame is there when its last byte is: a message has the time of that read."""
    whole = b""
    cut_at = 0

    def in_two(call: Call) -> None:
        nonlocal whole
        whole = b"".join(call.answer(b"first", b"second"))
        call.send(whole[:cut_at], whole[cut_at:], gap_s=0.004)

    with GrpcServer(in_two) as server, Line(server.port, tmp_path) as line:
        line.ask()
        before = len(line.reads(0)[0].data)
        assert before == len(whole)
        for cut_at in range(1, len(whole)):
            answer = line.ask()
            reads = line.reads(line.requests - 1)
            assert payloads(answer) == [b"first", b"second"]
            assert answer.complete and answer.grpc_status == 0
            assert b"".join(read.data for read in reads) == whole
            assert len(reads) <= 2
            frames_before = len(reads[0].data) if len(reads) == 2 else 0
            assert frames_before <= cut_at, "a frame was there before its last byte"
            assert line.kept
    assert server.accepted == 1


def test_byte_by_byte(tmp_path: Path) -> None:
    def drop_by_drop(call: Call) -> None:
        call.send(*(bytes([octet]) for octet in b"".join(call.answer(b"first", b"second"))), gap_s=0.0005)

    with GrpcServer(drop_by_drop) as server, Line(server.port, tmp_path) as line:
        assert payloads(line.ask()) == [b"first", b"second"]


def test_a_long_answer_in_full_frames(tmp_path: Path) -> None:
    """Frames of 16 kB over reads of 64 kB: most reads end within a frame, and the windows hold nobody up."""
    data = prefixed(bytes(range(256)) * 8000)

    def much(call: Call) -> None:
        call.send(call.head())
        call.send(b"".join(call.data(data[at : at + (1 << 14)]) for at in range(0, len(data), 1 << 14)))
        call.send(call.end())

    with GrpcServer(much) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
    assert [len(payload) for payload in payloads(answer)] == [256 * 8000]
    assert answer.body == data


def test_the_connection_window_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "TOP_UP_AT", 1000)
    opened: list[int] = []

    def script(call: Call) -> None:
        opened.append(call.http2.outbound_flow_control_window)
        healthy(call)

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        for _ in range(4):
            line.ask()
    size = sum(map(len, map(prefixed, THREE)))
    most = (1 << 31) - 1
    assert opened == [most, most - size, most, most - size]


def test_three_requests_over_one_connection(tmp_path: Path) -> None:
    with GrpcServer(healthy) as server, Line(server.port, tmp_path) as line:
        for number in range(3):
            assert line.connection.used == (number > 0)
            assert payloads(line.ask(b"%d" % number)) == list(THREE)
            assert line.kept
    assert [(call.stream, call.turn, call.payload) for call in server.calls] == [
        (1, 0, b"0"),
        (3, 1, b"1"),
        (5, 2, b"2"),
    ]


def test_pings_and_settings_amid_an_answer(tmp_path: Path) -> None:
    """They are answered, and are no part of it, also where they share its read."""

    def script(call: Call) -> None:
        head, first, end = call.head(), call.message(b"first"), call.end()
        settings = call.settings({SettingCodes.INITIAL_WINDOW_SIZE: 70_000})
        unknown = struct.pack(">HBBBI", 0, 3, 0xBE, 0xFF, 77) + b"new"
        call.send(head + call.ping(), first + settings + unknown + call.ping(), end, gap_s=0.01)

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
        assert payloads(answer) == [b"first"]
        assert payloads(line.ask()) == [b"first"]
        for _ in range(100):
            if server.pongs >= 3 and server.acknowledged >= 3:
                break
            time.sleep(0.01)
    assert server.pongs >= 3
    assert not server.failures


def test_padding_is_no_content(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        call.send(call.head() + call.message(b"first", pad_length=20) + call.end())

    with GrpcServer(script) as server, Line(server.port, tmp_path) as line:
        answer = line.ask()
    assert payloads(answer) == [b"first"]
    assert answer.bounds == [len(prefixed(b"first"))]


# -- long prompts -----------------------------------------------------------------------------------------------------


def test_a_prompt_larger_than_the_windows(tmp_path: Path) -> None:
    """It goes on as the server opens them, and meanwhile nothing turns in circles."""
    prompt = bytes(range(251)) * 800

    with (
        GrpcServer(healthy, settings={SettingCodes.INITIAL_WINDOW_SIZE: 5000}) as server,
        Line(server.port, tmp_path) as line,
    ):
        for _ in range(2):
            assert payloads(line.ask(prompt)) == list(THREE)
            assert line.kept
    assert [call.payload == prompt for call in server.calls] == [True, True]
    assert server.calls[0].data_frames >= len(prompt) // 5000
    assert line.wakeups < 300


def test_settings_open_the_window_of_a_prompt_under_way(tmp_path: Path) -> None:
    """RFC 9113, 6.9.2: a new first window changes that of the stream by as much."""

    def widen(http2: h2.connection.H2Connection, _: h2.events.DataReceived) -> None:
        if http2.local_settings.initial_window_size == 1000:
            http2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 31_000})

    settings: dict[int, int] = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    with GrpcServer(healthy, settings=settings, on_data=widen) as server, Line(server.port, tmp_path) as line:
        line.ask(b"x" * 30_000)
    assert server.calls[0].payload == b"x" * 30_000
    assert not server.failures


def test_a_closed_window_does_not_keep_the_loop_awake(tmp_path: Path) -> None:
    def later(http2: h2.connection.H2Connection, event: h2.events.DataReceived) -> None:
        time.sleep(0.1)
        http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    with (
        GrpcServer(healthy, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1000}, on_data=later) as server,
        Line(server.port, tmp_path) as line,
    ):
        line.wakeups = 0
        line.begin(b"x" * 3000)
        assert not line.connection.unsent
        while not line.connection.complete:
            line.turn()
    assert server.calls[0].payload == b"x" * 3000
    assert line.wakeups < 20


def test_a_prompt_larger_than_the_socket_takes(tmp_path: Path) -> None:
    """With windows of any size, it is the socket that takes no more."""
    prompt = bytes(range(251)) * 100_000
    settings: dict[int, int] = {
        SettingCodes.INITIAL_WINDOW_SIZE: (1 << 31) - 1,
        SettingCodes.MAX_FRAME_SIZE: (1 << 24) - 1,
    }
    opened = threading.Event()

    def open_wide(http2: h2.connection.H2Connection, event: h2.events.DataReceived) -> None:
        if not opened.is_set():
            opened.set()
            http2.increment_flow_control_window((1 << 31) - 1 - (1 << 16))

    with GrpcServer(healthy, settings=settings, on_data=open_wide) as server, Line(server.port, tmp_path) as line:
        line.ask(prompt)
    assert server.calls[0].payload == prompt
    assert not server.failures


@pytest.mark.parametrize("widened", [False, True])
def test_an_answer_before_the_prompt_is_over(tmp_path: Path, widened: bool) -> None:
    """The answer counts; the connection, with half of a request on it, is not used again. Where the windows open with
    the answer, the rest of the prompt is not sent any more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            server.initiate_connection()
            client.sendall(server.data_to_send())
            while True:
                for event in server.receive_data(client.recv(1 << 16)):
                    if isinstance(event, h2.events.RequestReceived):
                        if widened:
                            server.increment_flow_control_window(1 << 20)
                            server.increment_flow_control_window(1 << 20, 1)
                        server.send_headers(
                            1,
                            [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "8")],
                            end_stream=True,
                        )
                        client.sendall(server.data_to_send())
                        time.sleep(0.5)
                        client.close()
                        return

        threading.Thread(target=serve, daemon=True).start()
        with Line(listener.getsockname()[1], tmp_path) as line:
            answer = line.ask(b"x" * 100_000)
    assert answer.failure == "grpc-status 8 RESOURCE_EXHAUSTED"
    assert not line.kept
