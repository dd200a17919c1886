"""All the ways in which the same answer can lie on the wire, each with the place at which each event is whole.

Events are framed into a body (`Body`: server-sent events, JSON objects one behind the other, one object), and a body is
sent in a message (`Wire`: chunked, with a length, until the connection ends, packed, …).
"""

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from latency_profile.sender.spool import End
from tests.conformance.dialect import Dialect


@dataclass(frozen=True)
class Body:
    """`ends[i]`: how many of its bytes are there when event i is whole."""

    data: bytes
    ends: list[int]

    @property
    def parts(self) -> list[bytes]:
        """The body cut behind each event."""
        bounds = sorted({0, *self.ends, len(self.data)})
        return [self.data[begin:end] for begin, end in pairwise(bounds)]


@dataclass(frozen=True)
class Wire:
    """`end`: how the sender sees it end."""

    data: bytes
    ends: list[int]  # of the events, on the wire
    end: End = End.COMPLETE


# -- server-sent events -----------------------------------------------------------------------------------------------


def _joined(events: Sequence[bytes], before: bytes = b"", last: bytes | None = None) -> Body:
    pieces = [before, *events]
    if last is not None:
        pieces[-1] = pieces[-1].removesuffix(last)
    return Body(b"".join(pieces), list(accumulate(map(len, pieces)))[1:])


def _line(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def _many_lines(payload: bytes) -> bytes:
    """JSON may be broken between any two of its marks; here behind its first brace."""
    if not payload.startswith(b"{"):
        return _line(payload)
    return b"data: {\ndata:" + payload[1:] + b"\n\n"


EventStream = Callable[[Sequence[bytes]], Body]

EVENT_STREAMS: dict[str, EventStream] = {
    "a space behind data:": lambda said: _joined([_line(payload) for payload in said]),
    "no space behind data:": lambda said: _joined([b"data:" + payload + b"\n\n" for payload in said]),
    "CRLF": lambda said: _joined([b"data: " + payload + b"\r\n\r\n" for payload in said]),
    "CR": lambda said: _joined([b"data: " + payload + b"\r\r" for payload in said]),
    "LF and CRLF mixed": lambda said: _joined([b"data: " + payload + b"\r\n\n" for payload in said]),
    "keep-alives": lambda said: _joined([b": ping\n\n" + _line(payload) for payload in said], b":\n\n"),
    "a comment inside": lambda said: _joined([b"data: " + payload + b"\n: still here\n\n" for payload in said]),
    "event:, id: and retry:": lambda said: _joined(
        [b"event: message\nid: %d\nretry: 10\n%s" % (number, _line(payload)) for number, payload in enumerate(said)]
    ),
    "fields behind the data": lambda said: _joined([b"data: " + payload + b"\nevent: message\n\n" for payload in said]),
    "data in two lines": lambda said: _joined([_many_lines(payload) for payload in said]),
    "a byte order mark": lambda said: _joined([_line(payload) for payload in said], b"\xef\xbb\xbf"),
    "empty lines between": lambda said: _joined([b"\n\n" + _line(payload) for payload in said]),
    "a keep-alive at the end": lambda said: Body(
        (plain := _joined([_line(payload) for payload in said])).data + b": bye\n\n", plain.ends
    ),
    "no blank line at the end": lambda said: _joined([_line(payload) for payload in said], last=b"\n"),
    "no line end at the end": lambda said: _joined([_line(payload) for payload in said], last=b"\n\n"),
}

OBJECTS: dict[str, EventStream] = {
    "back to back": _joined,
    "a line each": lambda said: _joined([b"\n" * (number > 0) + payload for number, payload in enumerate(said)]),
    "blanks before each": lambda said: _joined([b"\r\n \t" + payload for payload in said]),
}

OBJECT: dict[str, EventStream] = {
    "bare": _joined,
    "blanks around": lambda said: Body(b"\r\n " + said[0] + b"\n", [len(said[0]) + 4]),
}


def framings(dialect: Dialect) -> dict[str, EventStream]:
    """The ways in which this dialect's events can lie in a body, the usual one first."""
    if not dialect.streams:
        return OBJECT
    return OBJECTS if dialect.framing == "objects" else EVENT_STREAMS


# -- HTTP -------------------------------------------------------------------------------------------------------------


def head_of(dialect: Dialect, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """Status line and headers."""
    content_type = dialect.content_type if dialect.streams else "application/json"
    return "\r\n".join([f"HTTP/{version} {status}", f"Content-Type: {content_type}", *headers, "", ""]).encode()


def _sent(head: bytes, pieces: Sequence[tuple[bytes, bytes, bytes]], tail: bytes, body: Body) -> Wire:
    """pieces: (what stands before them, bytes of the body, what stands behind)."""
    data = head
    places: list[int] = []  # behind each byte of the body
    for before, piece, behind in pieces:
        data += before
        places.extend(range(len(data) + 1, len(data) + len(piece) + 1))
        data += piece + behind
    return Wire(data + tail, [places[end - 1] for end in body.ends])


def _chunks(head: bytes, body: Body, parts: Sequence[bytes], extension: bytes = b"", trailer: bytes = b"") -> Wire:
    pieces = [(b"%X%s\r\n" % (len(part), extension), part, b"\r\n") for part in parts]
    return _sent(head, pieces, b"0%s\r\n%s\r\n" % (extension, trailer), body)


Message = Callable[[Dialect, Body, list[str]], Wire]


def chunked(dialect: Dialect, body: Body, headers: list[str]) -> Wire:
    """As servers send a stream: a chunk an event."""
    return _chunks(head_of(dialect, "Transfer-Encoding: chunked", *headers), body, body.parts)


def sized(dialect: Dialect, body: Body, headers: list[str]) -> Wire:
    """As servers send an object."""
    return _sent(head_of(dialect, f"Content-Length: {len(body.data)}", *headers), [(b"", body.data, b"")], b"", body)


def until_closed(dialect: Dialect, body: Body, headers: list[str], version: str = "1.1") -> Wire:
    """No length: the connection's end is the body's."""
    wire = _sent(head_of(dialect, *headers, version=version), [(b"", body.data, b"")], b"", body)
    return Wire(wire.data, wire.ends, End.CLOSED)


def _packed(dialect: Dialect, body: Body, headers: list[str], coding: str) -> Wire:
    """Flushed behind each event, as a proxy that packs a stream does. Where an event is whole, the unpacker says."""
    wbits = 31 if coding == "gzip" else 15
    pack, unpack = zlib.compressobj(wbits=wbits), zlib.decompressobj(wbits)
    packed = [pack.compress(part) + pack.flush(zlib.Z_SYNC_FLUSH) for part in body.parts]
    packed.append(pack.flush())
    places, length = [], 0
    data = b"".join(packed)
    for at in range(len(data)):
        length += len(unpack.decompress(data[at : at + 1]))
        places.append(length)
    behind = Body(data, [next(at for at, have in enumerate(places, 1) if have >= end) for end in body.ends])
    head = head_of(dialect, f"Content-Encoding: {coding}", "Transfer-Encoding: chunked", *headers)
    return _chunks(head, behind, [part for part in packed if part])


def _after_others(dialect: Dialect, body: Body, headers: list[str]) -> Wire:
    first = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\nlink: </a>\r\n\r\n"
    wire = chunked(dialect, body, headers)
    return Wire(first + wire.data, [len(first) + end for end in wire.ends])


MESSAGES: dict[str, Message] = {
    "a chunk an event": chunked,
    "a length": sized,
    "one chunk": lambda dialect, body, headers: _chunks(
        head_of(dialect, "Transfer-Encoding: chunked", *headers), body, [body.data]
    ),
    "small chunks": lambda dialect, body, headers: _chunks(
        head_of(dialect, "transfer-encoding: chunked", *headers),
        body,
        [body.data[at : at + 7] for at in range(0, len(body.data), 7)],
    ),
    "chunk extensions and trailers": lambda dialect, body, headers: _chunks(
        head_of(dialect, "TRANSFER-ENCODING: chunked", "trailer: x-took", *headers),
        body,
        body.parts,
        b';name="a value"',
        b"x-took: 5\r\ncontent-type: text/html\r\n",
    ),
    "until it is closed": until_closed,
    "HTTP/1.0": lambda dialect, body, headers: until_closed(dialect, body, headers, "1.0"),
    "behind 100 and 103": _after_others,
    "gzip": lambda dialect, body, headers: _packed(dialect, body, headers, "gzip"),
    "deflate": lambda dialect, body, headers: _packed(dialect, body, headers, "deflate"),
}


def packed_at_once(dialect: Dialect, body: bytes) -> bytes:
    """A message with all of the body in one gzip member."""
    data = gzip.compress(body)
    return head_of(dialect, "Content-Encoding: gzip", f"Content-Length: {len(data)}") + data
