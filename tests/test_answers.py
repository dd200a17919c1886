"""From reads to rows: answers of real servers, cut in every way, and answers that went wrong."""

import errno
import gzip
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backends
from backends.base import Options
from latency_profile.answer_tokens import NONE
from latency_profile.answers import MOST_EVENTS, Row, read_answer
from latency_profile.outcome import Flag, Status, TokenSource
from latency_profile.sender.spool import End, Entry, Kind
from tests.servers import odd

DATA = Path(__file__).with_name("data")
DOOR = backends.load("vllm").doors["completions"](Options(stream=True))
WHOLE = backends.load("vllm").doors["completions"](Options(stream=False))
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
END_AT = 10**9


def reads_of(parts: Sequence[bytes], times: Sequence[int] | None = None, delay_ns: int = 0) -> list[Entry]:
    """One read a part; the k-th at k + 1, or at its time."""
    at = times or range(1, len(parts) + 1)
    return [Entry(Kind.READ, 0, 0, 0, time, delay_ns, part) for part, time in zip(parts, at, strict=True)]


def ended(end: End, number: int = 0) -> Entry:
    return Entry(Kind.END, 0, end, number, END_AT, NONE, b"")


def row_of(*parts: bytes, end: End = End.COMPLETE, number: int = 0, streaming: bool = True) -> Row:
    return read_answer(reads_of(parts), ended(end, number), DOOR if streaming else WHOLE)


def chunked(events: Sequence[bytes]) -> bytes:
    """The message that carries these events, one a chunk."""
    return SSE + CHUNKED + b"".join(map(odd.chunk, [*events, b""]))


def events_in(body: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in body.split(b"\n\n") if event.strip()]


# capture, output tokens, their source, prompt tokens, tokens of each event that carried any, places of those events
STREAMS = {
    "vllm/v1_completions_stream_usage": (5, TokenSource.USAGE, 5, [1] * 5, [0, 1, 2, 3, 4]),
    "vllm/v1_completions_stream_no_usage": (NONE, TokenSource.NONE, NONE, [1, 1], [0, 1]),
    "vllm/v1_completions_stream_continuous_usage_tokids": (4, TokenSource.USAGE, 5, [1] * 4, [0, 1, 2, 3]),
    "vllm/forced_usage_stream": (2, TokenSource.USAGE, 5, [1, 1], [0, 1]),
    "vllm/stream_interval4": (10, TokenSource.USAGE, 5, [1, 4, 4, 1], [0, 1, 2, 3]),
    "vllm/v1_chat_stream_usage": (4, TokenSource.USAGE, 32, [1] * 4, [1, 2, 3, 4]),
    "llamacpp/v1_completions_stream_usage": (5, TokenSource.USAGE, 5, [1] * 5, [0, 1, 2, 3, 4]),
    "llamacpp/v1_chat_stream_usage": (5, TokenSource.USAGE, 32, [1] * 5, [1, 2, 3, 4, 5]),
    "tserve/v1_completions_stream": (5, TokenSource.USAGE, 5, [1] * 5, [0, 1, 2, 3, 4]),
    "tserve/v1_chat_stream": (4, TokenSource.USAGE, 32, [1] * 4, [1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_captured_stream_cut_anywhere_is_the_same_answer(name: str) -> None:
    output, source, prompt, tokens, places = STREAMS[name]
    events = events_in((DATA / f"{name}.body").read_bytes())
    wire = chunked(events)
    begin, after = len(SSE + CHUNKED), len(b"\r\n")  # of the message, and of a chunk
    # Up to where on the wire each token-carrying event is whole.
    whole = [begin + sum(len(odd.chunk(event)) for event in events[: place + 1]) - after for place in places]

    def check(row: Row, times: list[int], end: int) -> None:
        assert row.status == Status.OK, row.message
        assert (row.tokens.output_tokens, row.tokens.source, row.tokens.server_input_tokens) == (output, source, prompt)
        assert list(row.tokens.events) == list(zip(times, tokens, strict=True))
        assert (row.tokens.first_token_ns, row.tokens.last_token_ns, row.end_ns) == (times[0], times[-1], end)
        assert (row.http_status, row.answer_bytes) == (200, len(wire))

    check(row_of(wire), [1] * len(whole), 1)
    check(row_of(*(wire[at : at + 1] for at in range(len(wire)))), whole, len(wire))
    for at in range(1, len(wire)):
        check(row_of(wire[:at], wire[at:]), [1 if end <= at else 2 for end in whole], 2)


def _without_times(row: Row) -> Row:
    tokens = row.tokens._replace(events=(), first_token_ns=0, first_visible_ns=0, last_token_ns=0)
    return row._replace(tokens=tokens, end_ns=0)


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(1, 1500), unique=True, max_size=12), name=st.sampled_from(sorted(STREAMS)))
def test_a_captured_stream_cut_into_pieces(cuts: list[int], name: str) -> None:
    wire = chunked(events_in((DATA / f"{name}.body").read_bytes()))
    bounds = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    parts = [wire[begin:end] for begin, end in pairwise(bounds)]
    row, alone = row_of(*parts), row_of(wire)
    assert _without_times(row) == _without_times(alone)
    assert [tokens for _, tokens in row.tokens.events] == [tokens for _, tokens in alone.tokens.events]
    assert sorted(at for at, _ in row.tokens.events) == [at for at, _ in row.tokens.events]


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("vllm/v1_completions", 12),
        ("vllm/v1_chat", 12),
        ("llamacpp/v1_completions", 12),
        ("llamacpp/v1_chat", 12),
        ("tserve/v1_completions", 12),
        ("tserve/v1_chat", 12),
    ],
)
def test_an_answer_that_is_not_streamed(name: str, tokens: int) -> None:
    body = (DATA / f"{name}.body").read_bytes()
    wire = JSON + b"content-length: %d\r\n\r\n" % len(body) + body
    for at in range(1, len(wire), 7):
        row = row_of(wire[:at], wire[at:], streaming=False)
        assert (row.status, row.tokens.output_tokens, row.tokens.source) == (Status.OK, tokens, TokenSource.USAGE)
        assert (row.tokens.first_token_ns, row.tokens.last_token_ns, list(row.tokens.events), row.end_ns) == (
            NONE,
            NONE,
            [],
            2,
        )


# -- tokens of events -------------------------------------------------------------------------------------------------


def test_several_tokens_an_event_by_ids_by_usage_and_by_neither() -> None:
    """The same answer of ten tokens in four events, told in three ways; without ids or usage, an event counts once."""
    captured = events_in((DATA / "vllm/stream_interval4.body").read_bytes())
    by_ids = row_of(chunked(captured))
    assert (by_ids.tokens.output_tokens, by_ids.tokens.event_output_tokens) == (10, 10)
    only_ids = row_of(chunked([*captured[:4], captured[5]]))
    assert (only_ids.tokens.output_tokens, only_ids.tokens.source) == (10, TokenSource.TOKEN_IDS)
    words = [" Paris", ".\n\nThe", " answer is: ", "2"]
    told = [odd.event(word, total) for word, total in zip(words, [1, 5, 9, 10], strict=True)]
    by_usage = row_of(chunked([*told, odd.DONE]))
    assert (
        [tokens for _, tokens in by_usage.tokens.events]
        == [tokens for _, tokens in by_ids.tokens.events]
        == [1, 4, 4, 1]
    )
    assert (by_usage.tokens.output_tokens, by_usage.tokens.event_output_tokens) == (10, NONE)
    untold = row_of(chunked([*map(odd.event, words), odd.DONE]))
    assert [tokens for _, tokens in untold.tokens.events] == [1, 1, 1, 1]
    assert (untold.tokens.output_tokens, untold.tokens.source) == (NONE, TokenSource.NONE)
    assert untold.tokens.text == " Paris.\n\nThe answer is: 2"
    assert by_usage.tokens.text is None, "who is told does not count"


def test_empty_text_is_a_token_only_when_usage_or_ids_say_so() -> None:
    """A special token has no text; a stream held back by a stop string has events without text and without token."""
    silent = [odd.event("", 1), odd.event("", 1), odd.event(" a", 3), odd.event("", 4, "stop"), odd.DONE]
    row = read_answer(reads_of([SSE + CHUNKED, *map(odd.chunk, silent), odd.chunk(b"")]), ended(End.COMPLETE), DOOR)
    assert list(row.tokens.events) == [(2, 1), (4, 2), (5, 1)]
    mute = [odd.event(""), odd.event(" a"), odd.event("", 3, "stop"), odd.DONE]
    row = read_answer(reads_of([SSE + CHUNKED, *map(odd.chunk, mute), odd.chunk(b"")]), ended(End.COMPLETE), DOOR)
    assert list(row.tokens.events) == [(3, 1)]
    assert row.tokens.output_tokens == 3


def test_one_event_carries_what_the_usage_that_comes_with_it_tells() -> None:
    """All of a short answer in one event: its usage is that event's."""
    row = row_of(chunked([odd.event(" a b c", 3, "length"), odd.DONE]))
    assert [tokens for _, tokens in row.tokens.events] == [3]


def test_a_usage_that_falls_back_is_no_negative_token() -> None:
    told = [odd.event("a", 1), odd.event("b", 3), odd.event("c", 2), odd.event("d", 4, "stop"), odd.DONE]
    assert [tokens for _, tokens in row_of(chunked(told)).tokens.events] == [1, 2, 1]


# -- ends -------------------------------------------------------------------------------------------------------------

CAPTURED = events_in((DATA / "vllm/v1_completions_stream_continuous_usage_tokids.body").read_bytes())


def test_no_end_mark_but_a_reason_to_finish() -> None:
    assert row_of(chunked(CAPTURED[:4])).status == Status.OK
    assert row_of(chunked([*CAPTURED[:3], CAPTURED[5]])).status == Status.OK, "an end mark without a reason"


def test_no_end_mark_and_no_reason() -> None:
    row = row_of(chunked(CAPTURED[:3]))
    assert row.status == Status.TRUNCATED
    assert row.message == "no finish reason and no end mark"
    assert row.end_ns == END_AT


def test_an_error_event() -> None:
    events = events_in((DATA / "vllm/engine_killed_midstream.body").read_bytes())
    row = row_of(chunked(events))
    assert row.status == Status.ERROR_EVENT
    assert row.message is not None and row.message.startswith("EngineCore encountered an issue.")
    assert row.http_status == 200
    assert row.tokens.first_token_ns == 1
    assert row_of(chunked(events[:-1]), end=End.COMPLETE).status == Status.ERROR_EVENT
    broken = chunked(events)[: -len(odd.chunk(events[-1])) - 5]
    assert row_of(broken, end=End.CLOSED).status == Status.ERROR_EVENT, "what the server says is more than how it ends"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("307 Temporary Redirect", Status.HTTP_REDIRECT),
        ("400 Bad Request", Status.HTTP_CLIENT_ERROR),
        ("401 Unauthorized", Status.HTTP_UNAUTHORIZED),
        ("403 Forbidden", Status.HTTP_UNAUTHORIZED),
        ("404 Not Found", Status.HTTP_CLIENT_ERROR),
        ("422 Unprocessable Entity", Status.HTTP_CLIENT_ERROR),
        ("429 Too Many Requests", Status.HTTP_TOO_MANY_REQUESTS),
        ("500 Internal Server Error", Status.HTTP_SERVER_ERROR),
        ("502 Bad Gateway", Status.HTTP_GATEWAY),
        ("503 Service Unavailable", Status.HTTP_UNAVAILABLE),
        ("504 Gateway Timeout", Status.HTTP_GATEWAY),
        ("204 No Content", Status.CONTENT_TYPE),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
def test_answers_that_are_refusals(line: str, status: Status, streaming: bool) -> None:
    body = (DATA / "vllm/err_long_prompt.body").read_bytes() if not line.startswith("204") else b""
    row = row_of(odd.plain(body, "application/json", line), streaming=streaming)
    assert (row.status, row.http_status) == (status, int(line[:3]))
    assert row.message is not None and row.message.startswith(f"HTTP {line[:3]}: ")
    assert (row.tokens.first_token_ns, row.tokens.output_tokens, list(row.tokens.events)) == (NONE, NONE, [])
    if body:
        assert "maximum context length" in row.message
    cut = odd.plain(body + b"x", "application/json", line)[:-1]
    assert row_of(cut, end=End.CLOSED, streaming=streaming).status == status
    if body:
        assert row_of(cut, end=End.TIMEOUT, streaming=streaming).status == Status.STALLED


def test_html_where_an_answer_should_be() -> None:
    page = odd.plain(b"<html>Welcome</html>", "text/html")
    for streaming in (True, False):
        row = row_of(page, streaming=streaming)
        assert (row.status, row.http_status) == (Status.CONTENT_TYPE, 200)
        assert row_of(odd.plain(b"", ""), streaming=streaming).status == Status.EMPTY


def test_one_object_where_a_stream_was_asked_for() -> None:
    body = (DATA / "vllm/v1_completions.body").read_bytes()
    row = row_of(odd.plain(body))
    assert (row.status, row.message) == (Status.CONTENT_TYPE, "a stream was asked for, and one object came")
    error = b'{"object":"error","message":"overloaded","code":503}'
    assert row_of(odd.plain(error)).status == Status.ERROR_BODY
    assert row_of(odd.plain(error), streaming=False).status == Status.ERROR_BODY


@pytest.mark.parametrize("streaming", [True, False])
def test_an_empty_answer(streaming: bool) -> None:
    for usage in (0, None):
        if streaming:
            row = row_of(chunked([odd.event("", usage, "stop"), odd.DONE]))
        else:
            row = row_of(odd.plain(odd.event("", usage, "stop")[6:]), streaming=False)
        assert row.status == Status.EMPTY
    assert row_of(chunked([]), streaming=streaming).status == Status.EMPTY


def test_a_body_shorter_than_its_length() -> None:
    body = (DATA / "vllm/v1_completions.body").read_bytes()
    wire = odd.plain(body)
    assert row_of(wire[:-1], end=End.CLOSED, streaming=False).status == Status.TRUNCATED
    assert row_of(wire[:-1], end=End.BROKEN, number=errno.ECONNRESET, streaming=False).status == Status.RESET
    stream = chunked(CAPTURED)
    assert row_of(stream[:-5], end=End.CLOSED).status == Status.TRUNCATED, "all but the last chunk"


def test_a_body_that_ends_with_the_connection() -> None:
    body = b"".join(CAPTURED)
    for streaming, wire in (
        (True, SSE + b"\r\n" + body),
        (True, SSE.replace(b"1.1", b"1.0") + b"\r\n" + body),
        (False, JSON + b"\r\n" + (DATA / "vllm/v1_completions.body").read_bytes()),
    ):
        row = row_of(wire[:50], wire[50:], end=End.CLOSED, streaming=streaming)
        assert (row.status, row.end_ns) == (Status.OK, 2), row.message
    cut = SSE + b"\r\n" + b"".join(CAPTURED[:3])
    assert row_of(cut, end=End.CLOSED).status == Status.TRUNCATED, "no end mark: it did not end on its own"


def test_an_answer_whose_connection_closed_before_its_headers_were_there() -> None:
    assert row_of(SSE[:20], end=End.CLOSED).status == Status.TRUNCATED
    assert row_of(end=End.CLOSED).status == Status.DISCONNECTED


@pytest.mark.parametrize(
    ("end", "number", "status", "before"),
    [
        (End.TIMEOUT, 0, Status.STALLED, Status.TIMEOUT),
        (End.BROKEN, errno.ECONNRESET, Status.RESET, Status.RESET),
        (End.BROKEN, errno.EPIPE, Status.RESET, Status.RESET),
        (End.BROKEN, errno.ETIMEDOUT, Status.TIMEOUT, Status.TIMEOUT),
        (End.CLOSED, 0, Status.TRUNCATED, Status.DISCONNECTED),
        (End.NOT_HTTP, 0, Status.NOT_HTTP, Status.NOT_HTTP),
        (End.STOPPED, 0, Status.CANCELLED, Status.CANCELLED),
        (End.TOO_LONG, 0, Status.TOO_LONG, Status.TOO_LONG),
        (End.CONNECT_FAILED, errno.ECONNREFUSED, None, Status.CONNECT_REFUSED),
        (End.CONNECT_FAILED, errno.ETIMEDOUT, None, Status.CONNECT_TIMEOUT),
        (End.CONNECT_TIMEOUT, 0, None, Status.CONNECT_TIMEOUT),
        (End.TLS_FAILED, 0, None, Status.TLS_FAILED),
    ],
)
def test_how_it_can_end(end: End, number: int, status: Status | None, before: Status) -> None:
    """`status`: in mid-answer, after two events and a half; `before`: with not one byte of it."""
    nothing = row_of(end=end, number=number)
    assert (nothing.status, nothing.http_status, nothing.end_ns) == (before, 0, END_AT)
    assert nothing.message == (errno.errorcode[number] if number else None)
    assert (nothing.flags, nothing.read_delay_ns, nothing.answer_bytes) == (Flag(0), NONE, 0)
    if status is None:
        return
    wire = SSE + CHUNKED + b"".join(map(odd.chunk, CAPTURED[:2])) + odd.chunk(CAPTURED[2])[:100]
    row = row_of(wire[:100], wire[100:], end=end, number=number)
    assert (row.status, row.http_status, row.end_ns) == (status, 200, END_AT)
    assert (row.tokens.first_token_ns, list(row.tokens.events)) == (2, [(2, 1), (2, 1)]), "what came, came"
    assert (row.tokens.output_tokens, row.answer_bytes) == (2, len(wire))


def test_bytes_that_are_no_http() -> None:
    assert row_of(b"SSH-2.0-OpenSSH\r\n", end=End.NOT_HTTP).status == Status.NOT_HTTP
    bad_chunk = SSE + CHUNKED + odd.chunk(CAPTURED[0]) + b"no size\r\n"
    assert row_of(bad_chunk, b"more", end=End.NOT_HTTP).status == Status.NOT_HTTP


def test_events_that_are_not_in_the_protocol() -> None:
    row = row_of(chunked([CAPTURED[0], b"data: <xml/>\n\n", CAPTURED[5]]))
    assert row.status == Status.MALFORMED
    assert row.message is not None and "not a completion object" in row.message


def test_informational_answers() -> None:
    """RFC 9110, 15.2: any number of them may come before the answer, with headers of their own."""
    hints = b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\ncontent-length: 7\r\n\r\n"
    first = b"HTTP/1.1 100 Continue\r\n\r\n" + hints.replace(b"content-length: 7\r\n", b"")
    row = row_of(first, chunked(CAPTURED))
    assert (row.status, row.http_status, row.tokens.output_tokens) == (Status.OK, 200, 4)
    row = row_of(first, end=End.TIMEOUT)
    assert (row.status, row.http_status) == (Status.TIMEOUT, 0), "of the answer nothing came"
    assert row_of(first, end=End.CLOSED).status == Status.TRUNCATED


def test_comments_crlf_and_other_fields_change_nothing() -> None:
    plain = row_of(chunked(CAPTURED))
    changes: list[Callable[[bytes], bytes]] = [
        lambda event: event.replace(b"\n", b"\r\n"),
        lambda event: b": ping\n\n" + event,
        lambda event: b"event: message\nid: 1\n" + event,
        lambda event: event.replace(b"data: ", b"data:"),
    ]
    for change in changes:
        row = row_of(chunked([change(event) for event in CAPTURED]))
        assert (row.status, row.tokens.output_tokens, list(row.tokens.events)) == (
            Status.OK,
            4,
            list(plain.tokens.events),
        )


def test_a_packed_body_of_several_members() -> None:
    """RFC 1952, 2.2: gzip members one behind the other are one body; also where a read ends inside one."""
    members = [gzip.compress(b"".join(part)) for part in (CAPTURED[:2], CAPTURED[2:5], CAPTURED[5:])]
    wire = SSE + b"content-encoding: gzip\r\n" + CHUNKED + b"".join(map(odd.chunk, [b"".join(members), b""]))
    for at in range(len(SSE), len(wire)):
        row = row_of(wire[:at], wire[at:])
        assert (row.status, row.tokens.output_tokens, len(row.tokens.events)) == (Status.OK, 4, 4), row.message


def test_flags_and_delays() -> None:
    wire = chunked(CAPTURED)
    kernel = read_answer([*reads_of([wire[:50]], [5], 20), *reads_of([wire[50:]], [9], 70)], ended(End.COMPLETE), DOOR)
    assert (kernel.flags, kernel.read_delay_ns) == (Flag.KERNEL_STAMPS, 70)
    mixed = read_answer([*reads_of([wire[:50]], [5], 20), *reads_of([wire[50:]], [9], NONE)], ended(End.COMPLETE), DOOR)
    assert (mixed.flags, mixed.read_delay_ns) == (Flag(0), NONE)


def test_more_events_than_any_answer_has_are_not_taken_apart() -> None:
    packed = gzip.compress(b"data: {}\n\n" * (MOST_EVENTS + 1))
    head = SSE + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    row = row_of(head, packed)
    assert row.status == Status.TOO_LONG
    assert row.message == "more than 1,000,000 events"


def test_the_first_visible_token_comes_with_the_first_visible_text() -> None:
    """Reasoning, then a token without a text of its own (half a character), then the answer."""
    door = backends.load("vllm").doors["chat"](Options(stream=True))
    deltas = [{"reasoning": "hm"}, {"content": ""}, {"content": "a"}]
    events = [
        b"data: "
        + json.dumps({"choices": [{"delta": delta}], "usage": {"completion_tokens": number}}).encode()
        + b"\n\n"
        for number, delta in enumerate(deltas, 1)
    ]
    reads = reads_of([SSE + CHUNKED, *map(odd.chunk, [*events, odd.DONE]), odd.chunk(b"")])
    tokens = read_answer(reads, ended(End.COMPLETE), door).tokens
    assert (tokens.first_token_ns, tokens.first_visible_ns, tokens.last_token_ns) == (2, 4, 4)
    reads = reads_of([SSE + CHUNKED, *map(odd.chunk, [*events[:2], odd.DONE]), odd.chunk(b"")])
    tokens = read_answer(reads, ended(End.COMPLETE), door).tokens
    assert (tokens.first_token_ns, tokens.first_visible_ns) == (2, NONE)
