"""What is made of the frames of one gRPC answer."""

import itertools
import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.http2_answer import Http2Answer
from tests.servers.grpc_server import prefixed

END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
OK = [(":status", "200"), ("content-type", "application/grpc+proto"), ("x-id", "7")]


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, 1) + payload


def block(headers: list[tuple[str, str]]) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(headers))


def headers(fields: list[tuple[str, str]], flags: int = 0) -> bytes:
    return frame(1, flags | END_HEADERS, block(fields))


def trailers(status: str = "0", *more: tuple[str, str]) -> bytes:
    return headers([("grpc-status", status), *more], END_STREAM)


def read(*reads: bytes) -> Http2Answer:
    answer = Http2Answer()
    answer.feed(reads)
    return answer


def test_a_whole_answer() -> None:
    first, second = prefixed(b"first"), prefixed(b"")
    answer = read(headers(OK), frame(0, 0, first[:3]), frame(0, 0, first[3:]) + frame(0, 0, second), trailers())
    assert (answer.status, answer.headers) == (200, {b"content-type": b"application/grpc+proto", b"x-id": b"7"})
    assert answer.messages == [(10, b"first"), (15, b"")]
    assert answer.bounds == [0, 3, 15, 15]
    assert answer.trailers == {b"grpc-status": b"0"}
    assert (answer.complete, answer.failure, answer.problem) == (True, None, None)


def test_headers_over_several_frames_with_padding_and_priority() -> None:
    whole = block(OK)
    begin = frame(1, PADDED | PRIORITY, bytes([4]) + bytes(5) + whole[:7] + bytes(4))
    answer = read(begin + frame(9, 0, whole[7:9]) + frame(9, END_HEADERS, whole[9:]) + trailers())
    assert (answer.status, answer.headers[b"x-id"], answer.complete) == (200, b"7", True)


def test_an_informational_answer_before_the_answer() -> None:
    answer = read(headers([(":status", "103"), ("link", "x")]), headers(OK), frame(0, 0, prefixed(b"x")) + trailers())
    assert (answer.status, b"link" in answer.headers, answer.messages) == (200, False, [(6, b"x")])


def test_a_page_of_a_proxy() -> None:
    answer = read(headers([(":status", "502"), ("content-type", "text/html")]) + frame(0, END_STREAM, b"<html>"))
    assert (answer.status, answer.body, answer.complete, answer.failure) == (502, b"<html>", True, None)
    assert answer.problem is None


def test_an_answer_that_breaks_off() -> None:
    """What was whole is there; it is not said to be complete, nor to be wrong."""
    answer = read(headers(OK) + frame(0, 0, prefixed(b"first") + prefixed(b"second")[:-1]))
    assert (answer.messages, answer.complete, answer.failure, answer.problem) == ([(10, b"first")], False, None, None)


def test_an_answer_that_ends_within_a_message() -> None:
    answer = read(headers(OK) + frame(0, 0, prefixed(b"first") + prefixed(b"second")[:-1]) + trailers())
    assert (answer.messages, answer.complete, answer.cut_off) == ([(10, b"first")], True, True)
    assert not read(headers(OK) + frame(0, 0, prefixed(b"first")) + trailers()).cut_off


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        (headers([(":status", "200"), ("content-type", "text/html")]), "content type 'text/html' is not gRPC's"),
        (headers([(":status", "200")]), "content type '' is not gRPC's"),
        (headers([("content-type", "application/grpc")]), "headers without a status"),
        (headers([(":status", "abc")]), "headers without a status"),
        (frame(1, END_HEADERS, b"\xbe"), "the headers cannot be unpacked: Invalid table index 62"),
        (frame(1, END_HEADERS, b"\x88\x5f\x90abc"), "the headers cannot be unpacked"),
        (frame(0, 0, b"x"), "frames of HTTP/2 are out of order"),
        (frame(9, END_HEADERS, b"\x88"), "frames of HTTP/2 are out of order"),
        (frame(1, 0, b"\x88") + frame(0, 0, b"x"), "frames of HTTP/2 are out of order"),
        (frame(1, END_HEADERS | PADDED, b"\x09\x88"), "a frame of HTTP/2 has more padding than bytes"),
        (frame(1, END_HEADERS, b"\x88")[:-1], "a frame of HTTP/2 is cut off"),
        (headers(OK)[:5], "a frame of HTTP/2 is cut off"),
        (headers(OK) + frame(0, 0, prefixed(b"x", compressed=1)), "a compressed message, which was not asked for"),
        (headers(OK) + frame(0, 0, b"{'a': 1}"), "not gRPC"),
        (frame(1, 0, b"\x88") + 20 * frame(9, 0, bytes(1 << 14)), "headers of more than 262144 bytes"),
    ],
)
def test_what_cannot_be_read_is_told(frames: bytes, problem: str) -> None:
    assert (read(frames).problem or "").startswith(problem)


def test_a_server_that_uses_the_table_all_the_same() -> None:
    """We have forbidden it: an index into it means nothing to a decoder that saw this answer only."""
    encoder = hpack.Encoder()
    first, second = bytes(encoder.encode(OK)), bytes(encoder.encode(OK))
    assert first != second
    answer = read(frame(1, END_HEADERS, second) + trailers())
    assert answer.problem is not None and answer.problem.startswith("the headers cannot be unpacked")
    assert answer.status == 0


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_any_bytes_are_a_problem_at_most(reads: list[bytes], framed: bool) -> None:
    answer = read(*(frame(data[0] % 10, data[1], data[2:]) if framed and len(data) > 2 else data for data in reads))
    assert len(answer.bounds) == len(reads)
    assert answer.failure is None or isinstance(answer.failure, str)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8), st.data())
def test_any_cut_into_frames_and_reads_gives_the_same(messages: list[bytes], data: st.DataObject) -> None:
    body = b"".join(map(prefixed, messages))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=6)) | {0, len(body)})
    frames = [frame(0, 0, body[begin:end]) for begin, end in itertools.pairwise(cuts)]
    answer = read(headers(OK), *frames, trailers())
    assert [payload for _, payload in answer.messages] == messages
    assert answer.messages[-1][0] == len(body)
    assert answer.bounds == [0, *cuts[1:], len(body)]
