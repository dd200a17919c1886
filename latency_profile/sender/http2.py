"""One HTTP/2 connection to a gRPC server (RFC 9113), in the clear with prior knowledge or through TLS with ALPN "h2".

It carries one stream at a time, and the next when that has ended. It looks at frames' nine bytes and at what keeps a
connection alive; whole frames of the stream go into the spool, and what they mean is decided after the point.
"""

import select
import ssl
import struct

from latency_profile.http2_answer import END_HEADERS, END_STREAM, FRAME_HEAD, Frame
from latency_profile.sender.clock import now_ns
from latency_profile.sender.connection import Connection, Lost, TlsConnection, tls_context
from latency_profile.sender.grpc_refusal import read_refusal
from latency_profile.sender.http2_frames import (
    ACK,
    FIRST_WINDOW,
    GREETING,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    SETTING,
    Setting,
    frame,
)
from latency_profile.sender.job import Target, Tls
from latency_profile.sender.refusal import MOST_HEAD, Refusal
from latency_profile.sender.spool import LARGEST_READ, End, Spool
from latency_profile.sender.stamps import CONTROL_ROOM, kernel_ns

TOP_UP_AT = 1 << 30  # bytes of DATA received: half of the connection's window

_HEAD_SIZE = FRAME_HEAD.size
_LENGTH = struct.Struct("<I")

# By plain names: these are looked up for each frame.
_unpack_head = FRAME_HEAD.unpack_from
_DATA, _HEADERS, _CONTINUATION = int(Frame.DATA), int(Frame.HEADERS), int(Frame.CONTINUATION)
_RESET, _SETTINGS = int(Frame.RST_STREAM), int(Frame.SETTINGS)
_OF_AN_ANSWER = frozenset({_DATA, _HEADERS, _RESET, _CONTINUATION})
_MOST_REPLIES = 1 << 16  # bytes of acknowledgements that the server asks for and does not read
_NONE = -1  # no stream

_NO_DYNAMIC_TABLE = b"\x20"  # RFC 7541, 6.3: size 0; some decoders insist on it where their own table is a small one
_STATIC_NAMES = {":authority": 1, ":method": 2, ":path": 4, ":scheme": 6, "content-type": 31, "user-agent": 58}
_NO_SECRET = frozenset({*_STATIC_NAMES, "te", "x-request-id"})

_STATUS_200 = 0x88  # an indexed field of HPACK's static table


def header_block(headers: list[tuple[str, str]]) -> bytes:
    """A piece of an HPACK header block (RFC 7541): literals, of which no one keeps a table; pseudo-headers first.

    Whatever may be a secret is marked as never to be indexed by those who pass it on.
    """
    block = bytearray()
    for name, value in sorted(((name.lower(), value) for name, value in headers), key=lambda h: h[0][0] != ":"):
        index = _STATIC_NAMES.get(name, 0)
        block += _integer(index, 4, 0 if name in _NO_SECRET else 0x10)
        if not index:
            block += _integer(len(name), 7, 0) + name.encode("latin-1")
        octets = value.encode("latin-1")
        block += _integer(len(octets), 7, 0) + octets
    return bytes(block)


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541, 5.1: an integer behind the upper bits of its first byte."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    octets, value = bytearray((first | most,)), value - most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def message(target: Target, path: str, request_id: str, body: bytes) -> bytes:
    """What `send` takes: the header block behind its length, and the body as one gRPC message."""
    block = b"".join(
        (_NO_DYNAMIC_TABLE, header_block([(":path", path)]), target.head, header_block([("x-request-id", request_id)]))
    )
    return b"".join((_LENGTH.pack(len(block)), block, b"\x00", len(body).to_bytes(4, "big"), body))


class Http2Connection(Connection):
    """In the clear. Open when the server's SETTINGS have come.

    `unsent` is true while the socket takes no more; a body that waits for the server's windows is not `unsent`, and
    goes on in `receive` when they open. `unsent` can become true there.
    """

    _greeted = False
    _settled = False  # the server's SETTINGS have come
    _leaving = False  # takes no further stream
    _last = -1  # the latest stream: 1, 3, 5, …
    _stream = _NONE  # the one whose answer is still to come
    _ends_with_headers = False  # END_STREAM stood on a header block that goes on
    _held = b""  # of a frame that is not whole
    _body: memoryview | None = None  # what the windows have not let through
    _window = _stream_window = _initial_window = FIRST_WINDOW
    _largest = LARGEST_FRAME
    _taken = 0  # bytes of DATA since our window was last opened
    _unread = 0  # bytes of replies since nothing was unsent

    def open(self, mask: int) -> bool:
        if not self._greeted:
            if not super().open(mask):
                return False
            self.opening = True
            self._greet()
        self.flush()
        try:
            self._read(memoryview(bytearray(LARGEST_READ)), None)
        except Lost as lost:
            if lost.end == End.CLOSED:
                raise Lost(End.CLOSED, reason="the server closed the connection when spoken to in HTTP/2") from lost
            raise
        self.opening = not self._settled
        return self._settled

    def _greet(self) -> None:
        self._greeted = True
        self._queue(GREETING)

    @property
    def opening_mask(self) -> int:
        if not self._greeted:
            return super().opening_mask
        return select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if self.unsent else 0)

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, request: int, message: bytes) -> None:
        self.request = request
        self.answered = self.complete = self._ends_with_headers = False
        self._room = self.most_answer_bytes
        self._said = b"" if self.tells_refusals else None
        self._last += 2
        self._stream = self._last
        self._stream_window = self._initial_window
        view = memoryview(message)
        body_at = _LENGTH.size + _LENGTH.unpack_from(message)[0]
        self._body = view[body_at:]
        frames = self._header_frames(view[_LENGTH.size : body_at]) + self._body_frames()
        self.sent_at = now_ns()
        self._queue(b"".join(frames))
        self.sent_at = now_ns()  # TLS takes its time over a long one
        self.flush()

    def _header_frames(self, block: memoryview) -> list[bytes]:
        frames, kind = [], _HEADERS
        while True:
            part, block = block[: self._largest], block[self._largest :]
            frames.append(frame(kind, 0 if block else END_HEADERS, self._stream, part))
            if not block:
                return frames
            kind = _CONTINUATION

    def _body_frames(self) -> list[bytes]:
        """As much of the body as the windows let through, unless it has been answered without the rest."""
        frames = []
        while self._body is not None and not self.complete:
            size = min(len(self._body), self._largest, self._window, self._stream_window)
            if size <= 0:
                break
            part, rest = self._body[:size], self._body[size:]
            frames.append(frame(_DATA, 0 if rest else END_STREAM, self._stream, part))
            self._window -= size
            self._stream_window -= size
            self._body = rest if rest else None
        return frames

    def _queue(self, data: bytes) -> None:
        """Whole frames, to go behind those that are still unsent."""
        self._rest = memoryview(data if self._rest is None else bytes(self._rest) + data)

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, spool: Spool) -> int:
        """One read; whole frames of the stream go into the spool with its stamp. Gives the time just after it."""
        return self._read(spool.room(), spool)

    def _read(self, room: memoryview, spool: Spool | None) -> int:
        held = len(self._held)
        room[:held] = self._held
        try:
            length, control, _, _ = self.socket.recvmsg_into([room[held:]], CONTROL_ROOM)
        except BlockingIOError:
            return now_ns()
        except OSError as error:
            raise Lost(End.BROKEN, error.errno or 0) from error
        now = now_ns()
        if not length:
            raise Lost(End.CLOSED)
        self._take_frames(room, held + length, spool, kernel_ns(control), now)
        return now

    def _take_frames(self, room: memoryview, end: int, spool: Spool | None, kernel: int, now: int) -> None:
        """Handles the frames that are whole by now. Those of the answer are pushed together at the front of the room,
        which is where the spool wants them; mostly they lie there already."""
        at = own = 0
        replies: list[bytes] = []
        self._held = b""
        try:
            while end - at >= _HEAD_SIZE:
                upper, lower, kind, flags, stream = _unpack_head(room, at)
                size = upper << 8 | lower
                if size > LARGEST_FRAME or not (self._settled or kind == _SETTINGS):
                    raise _not_http2()
                past = at + _HEAD_SIZE + size
                # the upper bit of a stream means nothing (RFC 9113, 4.1)
                mine = kind in _OF_AN_ANSWER and stream & LARGEST_WINDOW == self._stream
                if mine:
                    self.answered = True
                if past > end:
                    break
                if mine:
                    if own != at:
                        room[own : own + past - at] = room[at:past]
                    own += past - at
                    if self._said is not None:
                        self._keep_heads(kind, room[own - (past - at) : own])
                    self._take_own(kind, flags, size)
                else:
                    replies.append(self._take_other(kind, flags, stream, bytes(room[at + _HEAD_SIZE : past])))
                at = past
            self._held = bytes(room[at:end])
            if self._taken >= TOP_UP_AT:
                replies.append(frame(Frame.WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4, "big")))
                self._taken = 0
            self._reply(b"".join(replies))
        except Lost:
            if not self.complete:
                raise
            self._leaving = True  # what follows an answer must not make it a broken one
        finally:
            if own and spool is not None:
                spool.read(self.request, kernel, now, own)

    def _reply(self, said: bytes) -> None:
        """Says it, and what the windows now let through of the body: once a read, as what is unsent is copied."""
        if data := b"".join((said, *self._body_frames())):
            self._queue(data)
        if self._rest is None or self.flush():
            self._unread = 0
            return
        self._unread += len(said)
        if self._unread > _MOST_REPLIES:
            raise Lost(End.NOT_HTTP, reason="the server does not read what it asks for")

    def _take_own(self, kind: int, flags: int, size: int) -> None:
        self._room -= _HEAD_SIZE + size  # an empty frame takes memory too
        if self._room < 0:
            raise Lost(End.TOO_LONG)
        if kind == _DATA:
            self._taken += size
            ends = flags & END_STREAM
        elif kind == _HEADERS:
            ends = flags & END_STREAM
            if not flags & END_HEADERS:
                self._ends_with_headers, ends = bool(ends), 0
        elif kind == _CONTINUATION:
            ends = self._ends_with_headers and flags & END_HEADERS
        else:  # a reset: what is left of the request is wanted no more
            self._body, ends = None, 1
        if ends:
            self.complete = True
            self._stream = _NONE

    def _take_other(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """A frame that is none of the answer's. Gives what is to be said to it."""
        if kind == Frame.WINDOW_UPDATE:
            self._open_window(stream, payload)
        elif kind == Frame.PING:
            if len(payload) != 8 or stream:
                raise _not_http2()
            if not flags & ACK:
                return frame(Frame.PING, ACK, 0, payload)
        elif kind == _SETTINGS:
            if len(payload) % SETTING.size or stream or (flags & ACK and (payload or not self._settled)):
                raise _not_http2()
            if not flags & ACK:
                self._settle(payload)
                return frame(_SETTINGS, ACK, 0, b"")
        elif kind == Frame.GOAWAY:
            if len(payload) < 8 or stream:
                raise _not_http2()
            self._leaving = True
            if self._stream == _NONE or int.from_bytes(payload[:4], "big") & LARGEST_WINDOW < self._stream:
                raise Lost(End.CLOSED)  # the server has not looked at this stream, and never will
        elif kind == _RESET and 0 < stream <= self._last:
            pass  # of a stream that has ended
        elif kind in _OF_AN_ANSWER or kind == Frame.PUSH_PROMISE:
            raise _not_http2()
        return b""

    def _settle(self, payload: bytes) -> None:
        for name, value in SETTING.iter_unpack(payload):
            if name == Setting.INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise _not_http2()
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif name == Setting.MAX_FRAME_SIZE:
                if not LARGEST_FRAME <= value < 1 << 24:
                    raise _not_http2()
                self._largest = value
        self._settled = True

    def _open_window(self, stream: int, payload: bytes) -> None:
        more = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if len(payload) != 4 or not more:
            raise _not_http2()
        if not stream:
            self._window += more
        elif stream == self._stream:
            self._stream_window += more
        if max(self._window, self._stream_window) > LARGEST_WINDOW:
            raise _not_http2()

    def release(self) -> bool:
        self._keep = not self._leaving and self._body is None
        self._stream = _NONE
        return super().release()

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _keep_heads(self, kind: int, whole: memoryview) -> None:
        """Header blocks, as long as no message has come. Those before a message say nothing where they say 200."""
        assert self._said is not None
        if kind != _DATA:
            self._said += whole[: MOST_HEAD - len(self._said)]
        elif _STATUS_200 in self._said[_HEAD_SIZE : _HEAD_SIZE + 2]:
            self._said = None

    @property
    def refusal(self) -> Refusal | None:
        return read_refusal(self._said) if self._said else None


class Http2TlsConnection(Http2Connection, TlsConnection):
    """Through TLS. An event takes the stamp of the read that completed its TLS record."""

    def _greet(self) -> None:
        if self._tls.selected_alpn_protocol() != "h2":
            raise Lost(End.TLS_FAILED, reason="the server offers no HTTP/2 (by ALPN)")
        super()._greet()

    def _queue(self, data: bytes) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise Lost(End.BROKEN) from error
        super()._queue(self._out.read())

    def _read(self, room: memoryview, spool: Spool | None) -> int:
        control, now = self._take()
        kernel = kernel_ns(control)
        try:
            while not (self.complete and self._leaving):
                held = len(self._held)
                room[:held] = self._held
                if (data := self._decrypted(room[held:])) is None:
                    break
                self._take_frames(room, held + len(data), spool, kernel, now)
                if spool is not None:
                    room = spool.room()
            self._give()
        except Lost:
            if not self.complete:
                raise
            self._leaving = True
        return now


def http2_context(tls: Tls) -> ssl.SSLContext:
    """As HTTP/1.1's, but that HTTP/2 is asked for."""
    context = tls_context(tls)
    context.set_alpn_protocols(["h2"])
    return context


def _not_http2() -> Lost:
    return Lost(End.NOT_HTTP, reason="what came is not HTTP/2")
