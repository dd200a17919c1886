"""From the bytes of one answer to its row of the records: HTTP framing, events, tokens, outcome.

Runs after the answers have ended, off the sending path. Pure: reads with their times in, a row out.
"""

import errno
from collections.abc import Sequence
from typing import NamedTuple

import httptools

from backends.base import BadAnswer, Door, Piece
from backends.framing import sse_events
from latency_profile.outcome import Flag, Status, TokenSource
from latency_profile.sender.spool import End, Entry

NONE = -1
_LONGEST_MESSAGE = 4000  # characters of a server's error message; cut to a readable length when it is without secrets
LATE_READ_NS = 1_000_000  # a read later than this may hold segments that came apart; it has the stamp of the last
_TIMED_OUT = frozenset({errno.ETIMEDOUT})
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Row(NamedTuple):
    """What an answer came to. Times in monotonic ns, NONE where there are none."""

    status: Status
    http_status: int = 0
    first_token_ns: int = NONE
    last_token_ns: int = NONE
    end_ns: int = NONE
    server_input_tokens: int = NONE
    output_tokens: int = NONE
    event_output_tokens: int = NONE
    token_source: TokenSource = TokenSource.NONE
    flags: Flag = Flag(0)
    read_delay_ns: int = NONE
    answer_bytes: int = 0
    merged_events: int = 0  # that lie behind another in a late read: the other took its time from this one's segment
    events: Sequence[tuple[int, int]] = ()  # (time, tokens) of each event that carried a token
    text: str | None = None  # of an answer whose tokens nobody counted
    message: str | None = None  # what went wrong, in the server's words


class _Http:
    """The HTTP message in the reads: status, headers, body, and up to where the body had come with each read."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.length = 0
        self.bounds: list[int] = []  # length of the body after each read
        self.status = 0
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)
        self.length += len(data)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:  # the answer is still to come
            self.headers.clear()
            self.status = 0
        else:
            self.complete = True

    @property
    def ends_with_connection(self) -> bool:
        """RFC 9112, 6.3: without a length and not chunked, the body ends when the server closes."""
        return b"content-length" not in self.headers and b"chunked" not in self.headers.get(b"transfer-encoding", b"")


def read_answer(reads: Sequence[Entry], end: Entry, door: Door, streaming: bool) -> Row:
    """The row of one answer from its reads, in order, and the entry that ended it."""
    http = _Http()
    readable = True
    for read in reads:
        try:
            if readable:
                http.parser.feed_data(read.data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            readable = False
        http.bounds.append(http.length)
    row = _outcome(reads, end, http, door, streaming)
    delays = [read.delay_ns for read in reads]
    kernel = bool(delays) and min(delays) >= 0
    return row._replace(
        http_status=http.status,
        end_ns=reads[-1].at_ns if reads and row.status == Status.OK else end.at_ns,
        flags=Flag.KERNEL_STAMPS if kernel else Flag(0),
        read_delay_ns=max(delays) if kernel else NONE,
        answer_bytes=sum(len(read.data) for read in reads),
    )


def _outcome(reads: Sequence[Entry], end: Entry, http: _Http, door: Door, streaming: bool) -> Row:
    broken = _broken(end, bool(reads), http)
    if broken is not None and not http.status:
        return Row(broken, message=_errno_text(end))
    body = b"".join(http.pieces)
    if http.status != 200 and http.status:
        return Row(
            broken if broken == Status.TIMEOUT else _http_error(http.status), message=_message(http.status, body)
        )
    content_type = http.headers.get(b"content-type", b"").lower()
    framed = b"text/event-stream" in content_type
    if streaming and not framed and broken is None and b"json" not in content_type:
        return Row(Status.CONTENT_TYPE, message=f"content type {content_type.decode('latin-1')!r} is no event stream")
    try:
        cut = sse_events(body) if framed else [(len(body), body)]
        if framed and broken is not None and cut and cut[-1][0] == len(body) and not body.endswith(_BLANK_LINES):
            cut.pop()  # the answer broke off in the middle of this event
        events = [(at, door.read(payload)) for at, payload in cut]
    except BadAnswer as error:
        return Row(broken or Status.CONTENT_TYPE, message=str(error)[:_LONGEST_MESSAGE])
    row = _tokens(events, reads, http.bounds, framed)
    failure = next((piece.error for _, piece in events if piece.error is not None), None)
    if failure is not None:
        return row._replace(status=Status.ERROR_EVENT, message=failure[:_LONGEST_MESSAGE])
    if broken is not None:
        return row._replace(status=broken, message=_errno_text(end))
    if streaming and not framed:
        return row._replace(status=Status.CONTENT_TYPE, message="a stream was asked for, and one object came")
    if not any(piece.last or piece.finish for _, piece in events):
        return row._replace(status=Status.TRUNCATED, message="no finish reason and no end mark")
    if row.output_tokens == 0 or (row.text is not None and not row.text):
        return row._replace(status=Status.EMPTY)
    return row


def _broken(end: Entry, answered: bool, http: _Http) -> Status | None:
    """What the end of the connection says of the answer; None where the message is whole."""
    match end.info:
        case End.COMPLETE:
            return None
        case End.CLOSED if answered and http.status and http.ends_with_connection:
            return None
        case End.CLOSED:
            return Status.TRUNCATED if answered else Status.DISCONNECTED
        case End.BROKEN:
            return Status.TIMEOUT if end.errno in _TIMED_OUT else Status.RESET
        case End.TIMEOUT:
            return Status.TIMEOUT
        case End.NOT_HTTP:
            return Status.NOT_HTTP
        case End.CONNECT_FAILED:
            return Status.CONNECT_TIMEOUT if end.errno in _TIMED_OUT else Status.CONNECT_REFUSED
        case End.CONNECT_TIMEOUT:
            return Status.CONNECT_TIMEOUT
        case End.TLS_FAILED:
            return Status.TLS_FAILED
        case End.STOPPED:
            return Status.CANCELLED
    return Status.UNKNOWN


def _http_error(status: int) -> Status:
    if status == 429:
        return Status.HTTP_TOO_MANY_REQUESTS
    if 300 <= status < 400:
        return Status.HTTP_REDIRECT
    if 400 <= status < 500:
        return Status.HTTP_CLIENT_ERROR
    if status >= 500:
        return Status.HTTP_SERVER_ERROR
    return Status.CONTENT_TYPE  # a 2xx that is not 200: not in any of these protocols


def _tokens(events: Sequence[tuple[int, Piece]], reads: Sequence[Entry], bounds: Sequence[int], streamed: bool) -> Row:
    """Tokens of the answer and of each event, by the ladder: usage, ids, text."""
    pieces = [piece for _, piece in events]
    total, prompt, ids = None, NONE, 0
    for piece in pieces:
        ids += piece.token_ids
        if piece.total_output is not None:
            total = piece.total_output
        if piece.input_tokens is not None:
            prompt = piece.input_tokens
    timed: list[tuple[int, int]] = []
    merged = 0
    if streamed:
        read, before = 0, -1
        for (end, _), tokens in zip(events, _event_counts(pieces, ids), strict=True):
            if tokens:
                while bounds[read] < end:
                    read += 1
                timed.append((reads[read].at_ns, tokens))
                merged += read == before and reads[read].delay_ns > LATE_READ_NS
                before = read
    if total is not None:
        output, source = total, TokenSource.USAGE
    elif ids:
        output, source = ids, TokenSource.TOKEN_IDS
    else:
        output, source = NONE, TokenSource.NONE
    return Row(
        Status.OK,
        first_token_ns=timed[0][0] if timed else NONE,
        last_token_ns=timed[-1][0] if timed else NONE,
        server_input_tokens=prompt,
        output_tokens=output,
        event_output_tokens=ids or NONE,
        token_source=source,
        events=timed,
        merged_events=merged,
        text="".join(piece.text for piece in pieces) if output == NONE else None,
    )


def _event_counts(pieces: Sequence[Piece], ids: int) -> list[int]:
    """How many tokens each event carried.

    By its ids; else by the growth of a usage that comes with every event; else one for an event with text. An event
    with empty text counts only when ids or usage say so; usage that comes once, at the end, says nothing of one event.
    """
    if ids:
        return [piece.token_ids for piece in pieces]
    told = sum(piece.choice for piece in pieces)
    if sum(piece.choice and piece.total_output is not None for piece in pieces) > told // 2:
        counts, before = [], 0
        for piece in pieces:
            now = piece.total_output if piece.choice and piece.total_output is not None else before
            counts.append(max(now - before, 0))
            before = max(now, before)
        return counts
    return [1 if piece.text else 0 for piece in pieces]


def _message(status: int, body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return f"HTTP {status}: {text[:_LONGEST_MESSAGE]}"


def _errno_text(end: Entry) -> str | None:
    return errno.errorcode.get(end.errno) if end.errno else None
