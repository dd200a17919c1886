"""The gRPC answer in the HTTP/2 frames of one stream: status, headers, messages and trailers, and which read brought
what. RFC 9113, and "gRPC over HTTP2" (doc/PROTOCOL-HTTP2.md of grpc/grpc).
"""

import enum
import struct
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import hpack

LONGEST_HEADERS = 1 << 18  # bytes of one header block, packed; unpacked, hpack has a limit of its own
FRAME_HEAD = struct.Struct(">HBBBI")  # length (its upper and its lower part), kind, flags, stream
END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x1, 0x4, 0x8, 0x20
_PREFIX = struct.Struct(">BI")  # of a gRPC message: whether it is compressed, and its length
_INFORMATIONAL = range(100, 200)


class Code(enum.IntEnum):
    """Of a call (grpc/grpc, doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Reset(enum.IntEnum):
    """Why a stream was broken off (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Frame(enum.IntEnum):
    """Kinds of frames (RFC 9113, section 6)."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class _Unreadable(ValueError):
    """Says what the bytes are not."""


class Http2Answer:
    """`body` is the stream's data; `bounds[i]` is how long it was after read i; `messages` are cut out of it."""

    ends_with_connection = False  # a stream says itself where it ends
    too_long = False  # nothing is unpacked that could be longer than what came

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}  # names in lower case
        self.trailers: dict[bytes, bytes] = {}
        self.bounds: list[int] = []
        self.status = 0  # of HTTP; 0: no whole head came
        self.complete = False  # the stream has ended in order
        self.reset: int | None = None  # why the server broke the stream off: a Reset
        self.cut_off = False  # it is complete, and its last message is not
        self.problem: str | None = None  # why the answer cannot be read
        self.messages: list[tuple[int, bytes]] = []  # (offset just behind it, the message without its prefix)
        self._pieces: list[bytes] = []
        self._length = 0
        self._block: bytearray | None = None  # a header block that goes on
        self._block_ends = False
        self._decoder = hpack.Decoder()
        self._decoder.max_allowed_table_size = self._decoder.header_table_size = 0  # as the sender has told the server

    def feed(self, reads: Iterable[bytes]) -> None:
        """Takes all reads, in order; each holds whole frames of the stream."""
        for data in reads:
            if self.problem is None:
                try:
                    self._take_frames(data)
                except _Unreadable as error:
                    self.problem = str(error)
            self.bounds.append(self._length)
        if self.problem is None and self.status == 200:
            try:
                self._cut()
            except _Unreadable as error:
                self.problem = str(error)

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    @property
    def grpc_status(self) -> int | None:
        """The call's own status; None where none came, UNKNOWN for one that is no number."""
        told = self.trailers.get(b"grpc-status")
        if told is None:
            return None
        return int(told) if told.isdigit() and len(told) < 10 else Code.UNKNOWN

    @property
    def failure(self) -> str | None:
        """That the call failed, in the server's words; None where it did not, or is not over."""
        if self.reset is not None:
            return f"the server reset the stream: {_named(Reset, self.reset)}"
        status = self.grpc_status
        if status:
            text = unquote_to_bytes(self.trailers.get(b"grpc-message", b"")).decode("utf-8", "replace")
            return f"grpc-status {_named(Code, status)}" + (f": {' '.join(text.split())}" if text.strip() else "")
        if status is None and self.complete and self.status == 200:
            return "the answer ended without a grpc-status"
        return None

    def _take_frames(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if len(data) - at < FRAME_HEAD.size:
                raise _Unreadable("a frame of HTTP/2 is cut off")
            upper, lower, kind, flags, _ = FRAME_HEAD.unpack_from(data, at)
            begin = at + FRAME_HEAD.size
            at = begin + (upper << 8 | lower)
            if at > len(data):
                raise _Unreadable("a frame of HTTP/2 is cut off")
            self._take(kind, flags, data[begin:at])

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if (kind == Frame.CONTINUATION) != (self._block is not None):
            raise _Unreadable("frames of HTTP/2 are out of order")
        match kind:
            case Frame.DATA:
                if not self.status or self.trailers:
                    raise _Unreadable("frames of HTTP/2 are out of order")
                data = _unpadded(flags, payload)
                self._pieces.append(data)
                self._length += len(data)
                self.complete = bool(flags & END_STREAM)
            case Frame.HEADERS:
                part = _unpadded(flags, payload)
                self._block = bytearray(part[5:] if flags & PRIORITY else part)
                self._block_ends = bool(flags & END_STREAM)
            case Frame.CONTINUATION:
                assert self._block is not None
                self._block += payload
            case Frame.RST_STREAM:
                self.reset = int.from_bytes(payload[:4], "big")
        if self._block is not None and len(self._block) > LONGEST_HEADERS:
            raise _Unreadable(f"headers of more than {LONGEST_HEADERS} bytes")
        if self._block is not None and flags & END_HEADERS:
            block, self._block = bytes(self._block), None
            self._take_headers(block)
            self.complete = self._block_ends

    def _take_headers(self, block: bytes) -> None:
        headers: dict[bytes, bytes] = {}
        try:
            for name, value in self._decoder.decode(block, raw=True):
                headers.setdefault(bytes(name).lower(), bytes(value))
        except hpack.HPACKError as error:
            raise _Unreadable(f"the headers cannot be unpacked: {error or type(error).__name__}") from error
        if self.status:
            self.trailers = headers
            return
        told = headers.pop(b":status", b"")
        if len(told) != 3 or not told.isdigit():
            raise _Unreadable("headers without a status")
        if int(told) in _INFORMATIONAL:
            return  # the answer is still to come
        self.status, self.headers = int(told), headers
        if self._block_ends:
            self.trailers = headers  # gRPC's "Trailers-Only"

    def _cut(self) -> None:
        if not self.headers.get(b"content-type", b"").lower().startswith(b"application/grpc"):
            kind = self.headers.get(b"content-type", b"").decode("latin-1")
            raise _Unreadable(f"content type {kind!r} is not gRPC's")
        body, at = self.body, 0
        while at + _PREFIX.size <= len(body):
            compressed, length = _PREFIX.unpack_from(body, at)
            if compressed:
                raise _Unreadable("a compressed message, which was not asked for" if compressed == 1 else "not gRPC")
            begin = at + _PREFIX.size
            if begin + length > len(body):
                break
            at = begin + length
            self.messages.append((at, body[begin:at]))
        self.cut_off = at < len(body) and self.complete


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Unreadable("a frame of HTTP/2 has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]


def _named(names: type[enum.IntEnum], number: int) -> str:
    try:
        return f"{number} {names(number).name}"
    except ValueError:
        return str(number)
