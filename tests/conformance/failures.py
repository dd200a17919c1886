"""How an answer can fail on the wire: each failure is a message, how the connection ends, and a status of its own.

`reusable`: whether the connection can carry the next request. The same table is read by the parsers' tests, from bytes,
and by the sender's, from a socket.
"""

from collections.abc import Callable
from dataclasses import dataclass

from latency_profile.outcome import Status
from latency_profile.sender.spool import End
from tests.conformance.cases import BRIEF
from tests.conformance.dialect import Dialect, Said
from tests.conformance.wires import Body, chunked, framings, head_of, sized

SORRY = "the engine is gone: EngineDeadError"


@dataclass(frozen=True)
class Failure:
    """`message` is None where it has no meaning for a dialect; that is so where the dialect lacks one of `needs`."""

    name: str
    message: Callable[[Dialect], bytes]
    status: Status
    end: End = End.COMPLETE
    http_status: int = 200
    reusable: bool = True
    said: str | None = None  # what its message must contain
    needs: tuple[str, ...] = ()
    streams_only: bool = False
    tokens_first: bool = False  # the first token came before it failed

    def applies_to(self, dialect: Dialect) -> bool:
        return not any(need in dialect.lacks for need in self.needs) and (dialect.streams or not self.streams_only)


def body_of(dialect: Dialect, said: list[Said]) -> Body:
    """As this server frames its events."""
    return next(iter(framings(dialect).values()))([one.payload for one in said])


def healthy(dialect: Dialect) -> bytes:
    """A whole answer."""
    said = dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]
    send = chunked if dialect.streams else sized
    return send(dialect, body_of(dialect, said), dialect.head(BRIEF)).data


def _events(dialect: Dialect, *said: Said) -> bytes:
    return chunked(dialect, body_of(dialect, list(said)), dialect.head(BRIEF)).data


def _error_event(dialect: Dialect) -> bytes:
    return _events(dialect, dialect.stream(BRIEF)[0], Said(dialect.error(SORRY)))


def _error_event_then_mark(dialect: Dialect) -> bytes:
    mark = dialect.end_mark()
    assert mark is not None
    return _events(dialect, dialect.stream(BRIEF)[0], Said(dialect.error(SORRY)), Said(mark))


def _first_of_all_an_error(dialect: Dialect) -> bytes:
    return _events(dialect, Said(dialect.error(SORRY)))


def _error_body(dialect: Dialect) -> bytes:
    return _plain(dialect.error(SORRY))


def _plain(body: bytes, status: str = "200 OK", content_type: str = "application/json", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _refused(line: str, *headers: str) -> Callable[[Dialect], bytes]:
    return lambda dialect: _plain(dialect.error(SORRY), line, "application/json", *headers)


def _page(line: str, *headers: str) -> Callable[[Dialect], bytes]:
    page = b"<html><head><title>%s</title></head><body>nginx</body></html>" % line.encode()
    return lambda _: _plain(page, line, "text/html", *headers)


def _spoilt(dialect: Dialect, spoil: Callable[[bytes], bytes]) -> bytes:
    """The second event, or the only object, is not what it should be."""
    if not dialect.streams:
        return sized(dialect, body_of(dialect, [Said(spoil(dialect.whole(BRIEF)))]), dialect.head(BRIEF)).data
    said = dialect.stream(BRIEF)
    return _events(dialect, said[0], Said(spoil(said[1].payload)), *said[2:])


def _half(dialect: Dialect) -> bytes:
    """Up to the middle of the last event that carries a part, or of the object."""
    whole = healthy(dialect)
    return whole[: whole.index("🙂".encode()) + 2]


def _with_length(dialect: Dialect) -> bytes:
    """Shorter than its length says."""
    said = dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]
    wire = sized(dialect, body_of(dialect, said), dialect.head(BRIEF)).data
    return wire[: wire.index("🙂".encode()) + 2]


def _until_closed(dialect: Dialect) -> bytes:
    said = dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]
    data = body_of(dialect, said).data
    return head_of(dialect, *dialect.head(BRIEF)) + data[: data.index("🙂".encode()) + 2]


def _unpacked_badly(dialect: Dialect) -> bytes:
    body = b"this is no gzip"
    return head_of(dialect, "Content-Encoding: gzip", f"Content-Length: {len(body)}") + body


FAILURES = [
    Failure("an error event", _error_event, Status.ERROR_EVENT, said=SORRY, streams_only=True, tokens_first=True),
    Failure(
        "an error event and an end mark",
        _error_event_then_mark,
        Status.ERROR_EVENT,
        said=SORRY,
        needs=("end mark",),
        streams_only=True,
        tokens_first=True,
    ),
    Failure("nothing but an error event", _first_of_all_an_error, Status.ERROR_EVENT, said=SORRY, streams_only=True),
    Failure("a 200 with an error body", _error_body, Status.ERROR_BODY, said=SORRY, needs=("error body",)),
    Failure("a page with 502", _page("502 Bad Gateway"), Status.HTTP_GATEWAY, http_status=502, said="nginx"),
    Failure("a page with 504", _page("504 Gateway Timeout"), Status.HTTP_GATEWAY, http_status=504),
    Failure("a page with 200", _page("200 OK"), Status.CONTENT_TYPE, said="text/html"),
    Failure(
        "429 with Retry-After",
        _refused("429 Too Many Requests", "retry-after: 1"),
        Status.HTTP_TOO_MANY_REQUESTS,
        http_status=429,
        said=SORRY,
    ),
    Failure(
        "503 with Retry-After",
        _refused("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"),
        Status.HTTP_UNAVAILABLE,
        http_status=503,
        said=SORRY,
    ),
    Failure(
        "a redirect",
        _page("307 Temporary Redirect", "location: http://localhost/elsewhere"),
        Status.HTTP_REDIRECT,
        http_status=307,
    ),
    Failure("401", _refused("401 Unauthorized", "www-authenticate: Bearer"), Status.HTTP_UNAUTHORIZED, http_status=401),
    Failure("403", _refused("403 Forbidden"), Status.HTTP_UNAUTHORIZED, http_status=403),
    Failure("400", _refused("400 Bad Request"), Status.HTTP_CLIENT_ERROR, http_status=400, said=SORRY),
    Failure("404", _refused("404 Not Found"), Status.HTTP_CLIENT_ERROR, http_status=404),
    Failure("422", _refused("422 Unprocessable Entity"), Status.HTTP_CLIENT_ERROR, http_status=422, said=SORRY),
    Failure("424", _refused("424 Failed Dependency"), Status.HTTP_CLIENT_ERROR, http_status=424, said=SORRY),
    Failure("500", _refused("500 Internal Server Error"), Status.HTTP_SERVER_ERROR, http_status=500, said=SORRY),
    Failure("a body cut off", _half, Status.TRUNCATED, End.CLOSED, reusable=False),
    Failure("less than its length", _with_length, Status.TRUNCATED, End.CLOSED, reusable=False),
    Failure("cut off, without a length", _until_closed, Status.TRUNCATED, End.CLOSED, reusable=False),
    Failure("a head cut off", lambda dialect: healthy(dialect)[:25], Status.TRUNCATED, End.CLOSED, 0, reusable=False),
    Failure("not one byte", lambda _: b"", Status.DISCONNECTED, End.CLOSED, 0, reusable=False),
    Failure("a reset in mid-answer", _half, Status.RESET, End.BROKEN, reusable=False, said="ECONNRESET"),
    Failure("a reset before it", lambda _: b"", Status.RESET, End.BROKEN, 0, reusable=False, said="ECONNRESET"),
    Failure("a stall in mid-answer", _half, Status.STALLED, End.TIMEOUT, reusable=False),
    Failure("no answer in time", lambda _: b"", Status.TIMEOUT, End.TIMEOUT, 0, reusable=False),
    Failure(
        "a head that stalls", lambda dialect: healthy(dialect)[:25], Status.TIMEOUT, End.TIMEOUT, 0, reusable=False
    ),
    Failure(
        "malformed JSON",
        lambda dialect: _spoilt(dialect, lambda payload: payload.replace(b'":', b'"=', 1)),
        Status.MALFORMED,
    ),
    Failure("JSON of another kind", lambda dialect: _spoilt(dialect, lambda _: b'{"hello":"world"}'), Status.MALFORMED),
    Failure("a number for JSON", lambda dialect: _spoilt(dialect, lambda _: b"[1]"), Status.MALFORMED),
    Failure(
        "not UTF-8",
        lambda dialect: _spoilt(dialect, lambda payload: payload.replace("🙂".encode(), b"\xff\xf0\x9f")),
        Status.NOT_UTF8,
    ),
    Failure("no body", lambda dialect: head_of(dialect, "Content-Length: 0"), Status.EMPTY),
    Failure("204", lambda _: b"HTTP/1.1 204 No Content\r\n\r\n", Status.CONTENT_TYPE, http_status=204),
    Failure("packed badly", _unpacked_badly, Status.CONTENT_TYPE, said="packed"),
    Failure(
        "a coding that nobody asked for",
        lambda dialect: head_of(dialect, "Content-Encoding: br", "Content-Length: 2") + b"xx",
        Status.CONTENT_TYPE,
        said="'br'",
    ),
    Failure("no HTTP", lambda _: b"SSH-2.0-OpenSSH_9.2\r\n", Status.NOT_HTTP, End.NOT_HTTP, 0, reusable=False),
    Failure(
        "chunks that are none",
        lambda dialect: head_of(dialect, "Transfer-Encoding: chunked") + b"zz\r\n",
        Status.NOT_HTTP,
        End.NOT_HTTP,
        reusable=False,
    ),
]


def failures(dialect: Dialect) -> list[Failure]:
    """Those that have a meaning for this dialect."""
    return [failure for failure in FAILURES if failure.applies_to(dialect)]
