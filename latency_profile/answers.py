"""From the bytes of one answer to its row of the records: HTTP framing, events, tokens, outcome.

Runs after the answers have ended, off the sending path. Pure: reads with their times in, a row out.
"""

import errno
from collections.abc import Sequence
from typing import NamedTuple

from backends.base import BadAnswer, Door, Piece
from backends.framing import ends_inside, json_objects, sse_events
from latency_profile.answer_tokens import NONE, Tokens, count
from latency_profile.http2_answer import Code, Http2Answer
from latency_profile.http_answer import HttpAnswer
from latency_profile.outcome import Flag, Status
from latency_profile.sender.spool import End, Entry

_LONGEST_MESSAGE = 4000  # characters of a server's error message; cut to a readable length when it is without secrets
# Bytes: of a thousand tokens in one event, with all that any server says of them, there are a few hundred thousand.
LONGEST_EVENT = 1 << 24
MOST_EVENTS = 1_000_000  # of one answer: each costs memory, and what a server packs may be very many
_IN_EACH_EVENT = {"sse": b"data", "objects": b"}"}  # at least once
_GRPC_FAILURES: dict[int, Status] = {
    Code.UNAVAILABLE: Status.HTTP_UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED: Status.HTTP_TOO_MANY_REQUESTS,
    Code.UNAUTHENTICATED: Status.HTTP_UNAUTHORIZED,
    Code.PERMISSION_DENIED: Status.HTTP_UNAUTHORIZED,
}
_TIMED_OUT = frozenset({errno.ETIMEDOUT})

Http = HttpAnswer | Http2Answer


class Row(NamedTuple):
    """What an answer came to. Times in monotonic ns, NONE where there are none."""

    status: Status
    http_status: int = 0
    end_ns: int = NONE
    flags: Flag = Flag(0)
    read_delay_ns: int = NONE
    answer_bytes: int = 0
    tokens: Tokens = Tokens()
    message: str | None = None  # what went wrong, in the server's words


def read_answer(reads: Sequence[Entry], end: Entry, door: Door, request: bytes = b"", with_text: bool = False) -> Row:
    """The row of one answer from its reads, in order, and the entry that ended it.

    request: the body that was sent; only a door that `echoes` looks at it. with_text: as of `answer_tokens.count`.
    """
    http = Http2Answer() if door.framing == "grpc" else HttpAnswer()
    http.feed(read.data for read in reads)
    row = _outcome(reads, end, http, door, request, with_text)
    delays = [read.delay_ns for read in reads]
    kernel = bool(delays) and min(delays) >= 0
    return row._replace(
        http_status=http.status,
        end_ns=reads[-1].at_ns if reads and row.status == Status.OK else end.at_ns,
        flags=Flag.KERNEL_STAMPS if kernel else Flag(0),
        read_delay_ns=max(delays) if kernel else NONE,
        answer_bytes=sum(len(read.data) for read in reads),
    )


def _outcome(reads: Sequence[Entry], end: Entry, http: Http, door: Door, request: bytes, with_text: bool) -> Row:
    broken = _broken(end, bool(reads), http)
    if (refused := _refused(http, broken, end)) is not None:
        return refused
    if http.cut_off:
        broken = broken or Status.TRUNCATED
    if broken is None and not http.body.strip():
        return Row(Status.EMPTY)
    framing, stranger = _framing(http, door)
    if framing in _IN_EACH_EVENT and http.body.count(_IN_EACH_EVENT[framing]) > MOST_EVENTS:
        return Row(Status.TOO_LONG, message=f"more than {MOST_EVENTS:,} events")
    cut = http.messages if isinstance(http, Http2Answer) else _cut(framing, http.body)
    if max((len(payload) for _, payload in cut), default=0) > LONGEST_EVENT:
        return Row(Status.TOO_LONG, message=f"one event of more than {LONGEST_EVENT >> 20} MiB")
    pieces, error = _pieces(cut, door)
    if error is not None:
        if len(pieces) == len(cut) - 1:  # the answer may have broken off in the middle of its last event
            broken = broken or _closed_too_early(http, end, framing)
        if broken is None or len(pieces) < len(cut) - 1:
            status, message = _unreadable(http, cut[len(pieces)][1], stranger, error)
            return Row(broken or status, message=message)
    failure = next((piece.error for piece in pieces if piece.error is not None), None)
    if stranger is not None and failure is None:
        return Row(broken or Status.CONTENT_TYPE, message=stranger)
    ends = [offset for offset, _ in cut[: len(pieces)]] if framing != "object" else None
    tokens = count(pieces, door.read_head(http.headers), reads, http.bounds, ends, with_text)
    if tokens.text is not None and door.echoes:
        tokens = tokens._replace(text=door.own_text(request, tokens.text))
    if isinstance(http, Http2Answer) and http.failure is not None:
        return Row(_grpc_failure(http), tokens=tokens, message=http.failure[:_LONGEST_MESSAGE])
    return _judged(Row(Status.OK, tokens=tokens), pieces, failure, broken, end, door, framing)


def _refused(http: Http, broken: Status | None, end: Entry) -> Row | None:
    """What the head of the answer alone decides; None for one whose body is to be read."""
    if isinstance(http, Http2Answer) and http.reset is not None and not http.messages:
        return Row(Status.RESET, message=http.failure)
    if not http.status:
        return Row(broken or Status.NOT_HTTP, message=http.problem or _errno_text(end))
    if http.status != 200:
        if broken in (Status.STALLED, Status.TOO_LONG):
            return Row(broken)
        return Row(_http_error(http.status), message=_message(http))
    if http.too_long:
        return Row(Status.TOO_LONG)
    if http.problem is not None:
        return Row(Status.CONTENT_TYPE, message=http.problem)
    if isinstance(http, Http2Answer) and http.failure is not None and not http.messages:
        return Row(_grpc_failure(http), message=http.failure[:_LONGEST_MESSAGE])
    return None


def _pieces(cut: Sequence[tuple[int, bytes]], door: Door) -> tuple[list[Piece], str | None]:
    """What each event means, up to the first that cannot be read, and why that one cannot."""
    pieces: list[Piece] = []
    try:
        for _, payload in cut:
            pieces.append(door.read(payload))
    except BadAnswer as error:  # in words: handed out, it would hold this frame, and that the body, in a cycle
        return pieces, str(error)[:_LONGEST_MESSAGE]
    return pieces, None


def _judged(
    row: Row, pieces: Sequence[Piece], failure: str | None, broken: Status | None, end: Entry, door: Door, framing: str
) -> Row:
    if failure is not None:
        kind = Status.ERROR_BODY if framing == "object" else Status.ERROR_EVENT
        return row._replace(status=kind, message=failure[:_LONGEST_MESSAGE])
    if broken is not None:
        return row._replace(status=broken, message=_errno_text(end))
    if door.marks_end and not any(piece.last or piece.finish for piece in pieces):
        return row._replace(status=Status.TRUNCATED, message="no finish reason and no end mark")
    if row.tokens.output_tokens == 0 or (row.tokens.output_tokens == NONE and not row.tokens.text):
        return row._replace(status=Status.EMPTY)
    return row


def _framing(http: Http, door: Door) -> tuple[str, str | None]:
    """How the body is to be cut, and, where that is not what was asked for, what came instead, in words."""
    content_type = http.headers.get(b"content-type", b"").lower()
    stream = b"text/event-stream" in content_type
    json = b"json" in content_type
    match door.framing:
        case "sse" if stream:
            return "sse", None
        case "sse" if json:
            return "object", "a stream was asked for, and one object came"
        case "sse":
            return "object", f"content type {content_type.decode('latin-1')!r} is no event stream"
        case "object" if stream:
            return "sse", "one object was asked for, and a stream came"
    return door.framing, None


def _cut(framing: str, body: bytes) -> list[tuple[int, bytes]]:
    match framing:
        case "sse":
            return sse_events(body)
        case "objects":
            return json_objects(body)
    return [(len(body), body)]


def _closed_too_early(http: Http, end: Entry, framing: str) -> Status | None:
    """Of a body that ends with its connection only its own form tells that the connection ended too early."""
    closed = end.info == End.CLOSED and not isinstance(http, Http2Answer) and _other_type(http) is None
    return Status.TRUNCATED if closed and ends_inside(http.body, events=framing == "sse") else None


def _unreadable(http: Http, payload: bytes, stranger: str | None, error: str) -> tuple[Status, str]:
    """What an event that is not in the server's protocol is called, and why."""
    if not isinstance(http, Http2Answer):
        stranger = stranger or _other_type(http)
        if stranger is not None:
            return Status.CONTENT_TYPE, stranger
        try:
            payload.decode()
        except UnicodeDecodeError:
            return Status.NOT_UTF8, error
    return Status.MALFORMED, error


def _other_type(http: Http) -> str | None:
    """Servers name a type for their JSON that is none; it is looked at only where the body is no JSON either."""
    content_type = http.headers.get(b"content-type", b"").lower()
    if not content_type or b"json" in content_type or b"event-stream" in content_type:
        return None
    return f"content type {content_type.decode('latin-1')!r} is no JSON"


def _broken(end: Entry, answered: bool, http: Http) -> Status | None:
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
            return Status.STALLED if http.status else Status.TIMEOUT
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
        case End.TOO_LONG:
            return Status.TOO_LONG
    return Status.UNKNOWN


def _grpc_failure(http: Http2Answer) -> Status:
    """What a call's own failure is called in HTTP (grpc/grpc, doc/http-grpc-status-mapping.md), if no answer began."""
    if http.reset is not None:
        return Status.RESET
    if http.grpc_status is None:
        return Status.TRUNCATED
    return Status.ERROR_EVENT if http.messages else _GRPC_FAILURES.get(http.grpc_status, Status.ERROR_EVENT)


def _http_error(status: int) -> Status:
    match status:
        case 401 | 403 | 407:
            return Status.HTTP_UNAUTHORIZED
        case 429:
            return Status.HTTP_TOO_MANY_REQUESTS
        case 503:
            return Status.HTTP_UNAVAILABLE
        case 502 | 504:
            return Status.HTTP_GATEWAY
    if 300 <= status < 400:
        return Status.HTTP_REDIRECT
    if 400 <= status < 500:
        return Status.HTTP_CLIENT_ERROR
    if status >= 500:
        return Status.HTTP_SERVER_ERROR
    return Status.CONTENT_TYPE  # a 2xx that is not 200: not in any of these protocols


def _message(http: Http) -> str:
    text = " ".join(http.body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace").split())
    return f"HTTP {http.status}: {text[:_LONGEST_MESSAGE]}"


def _errno_text(end: Entry) -> str | None:
    return errno.errorcode.get(end.errno) if end.errno else None
