"""One HTTP/1.1 connection: requests are read and answered one after another, kept alive and pipelined or not."""

import asyncio
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import httptools

from latency_profile.sender.clock import clock_pair, now_ns
from latency_profile.sender.stamps import CONTROL_ROOM, ask_for_stamps, kernel_ns

_LARGEST_READ = 1 << 18
_MOST_PIPELINED = 8  # requests that may wait on one connection before it is read no further
_RESET = struct.pack("ii", 1, 0)  # linger on, for no time: closing sends RST


@dataclass(slots=True)
class HttpRequest:
    """A complete request. `arrival_ns`: when the kernel had its last bytes, on CLOCK_MONOTONIC."""

    method: str = ""
    path: str = ""
    body: bytes = b""
    request_id: str | None = None
    keep_alive: bool = True
    arrival_ns: int = 0
    parts: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `fields`: header lines, each with its end."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    fields: bytes = b""
    chunked: bool = False  # one chunk instead of a content-length
    close: bool = False  # says `connection: close`, and does it
    broken: bool = False  # a chunked body that never ends: the connection is closed in its midst


class Exchange(Protocol):
    """One request's way back to the client; of HTTP/1.1 the connection itself, one answer after another."""

    def reply(self, reply: Reply) -> None:
        """A whole answer."""

    def message(self, reply: Reply) -> bytes:
        """The bytes of a whole answer."""

    def begin_stream(self, head: bytes) -> None:
        """Sends the head of a stream: its header lines are given."""

    def write(self, data: bytes) -> None:
        """Sends at once what the socket takes, and the rest when it takes more."""

    def end(self, close: bool = False) -> None:
        """The answer is complete."""

    def close(self) -> None:
        """Closes it once all is sent."""

    def reset(self) -> None:
        """Breaks it off with a TCP reset."""


class Closeable(Protocol):
    """A connection of any kind, as far as whoever accepted it has to know it."""

    def close(self) -> None:
        """Closes it once all is sent."""


class Application(Protocol):
    """What answers requests: calls `exchange.reply`, or `begin_stream`, `write` and `end`."""

    def handle(self, exchange: Exchange, request: HttpRequest) -> None:
        """Takes one request; its answer may come later."""

    def lost(self, exchange: Exchange) -> None:
        """The client is gone, with or without an answer under way."""

    def closed(self, connection: Closeable) -> None:
        """A connection is no more."""


class Connection:
    """HTTP/1.1. Implements `Exchange`, for the request that is being answered.

    A socket of its own instead of asyncio's transport: a request's arrival is then the kernel's stamp, not the time
    at which a busy server came round to reading it, and a time taken just before `write` is the time of the send.
    """

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        self._application = application
        self._loop = loop
        self._socket = client
        self._fd = client.fileno()
        self._parser = httptools.HttpRequestParser(self)
        self._request = HttpRequest()
        self._current: HttpRequest | None = None
        self._queue: deque[HttpRequest] = deque()
        self._arrival_ns = 0
        self._unsent = bytearray()
        self._closing = self._closed = False
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask_for_stamps(client)
        loop.add_reader(self._fd, self._readable)

    # the socket

    def _readable(self) -> None:
        try:
            data, control, _, _ = self._socket.recvmsg(_LARGEST_READ, CONTROL_ROOM)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not data:
            self._lost()
            return
        self._arrival_ns = _monotonic(kernel_ns(control))
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an upgrade nobody serves: the request itself is complete and is answered as HTTP/1.1
        except httptools.HttpParserError:
            if self._current is not None:  # garbage behind a request that is being answered
                self._lost()
                return
            self._current = HttpRequest(keep_alive=False)
            self.reply(Reply(400, b"Invalid HTTP request received.", b"text/plain; charset=utf-8"))

    def write(self, data: bytes) -> None:
        """Sends at once what the socket takes, and the rest when it takes more."""
        if self._closed:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost()
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not self._unsent:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._lost()

    def _lost(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._socket.close()
        self._queue.clear()
        self._application.lost(self)
        self._application.closed(self)
        del self._parser  # it and this object hold each other

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._request = HttpRequest()

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"x-request-id":
            self._request.request_id = value.decode("latin-1")
        elif lowered == b"expect" and value.lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._request.parts.append(body)

    def on_message_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.path = request.path.partition("?")[0]
        request.body = b"".join(request.parts)
        request.keep_alive = self._parser.should_keep_alive()
        request.arrival_ns = self._arrival_ns
        if self._current is not None:
            self._queue.append(request)
            if len(self._queue) == _MOST_PIPELINED:
                self._loop.remove_reader(self._fd)
            return
        self._current = request
        self._application.handle(self, request)

    # for the application

    def reply(self, reply: Reply) -> None:
        """A whole answer."""
        self.write(self.message(reply))
        self.end()

    def message(self, reply: Reply) -> bytes:
        """The bytes of a whole answer. One that closes takes effect with the next `end`."""
        if (reply.close or reply.broken) and self._current is not None:
            self._current.keep_alive = False
        body = reply.body
        length = b"content-length: %d\r\n" % len(body)
        if reply.chunked or reply.broken:
            length = b"transfer-encoding: chunked\r\n"
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if reply.broken else b"0\r\n\r\n"
        typed = b"content-type: %b\r\n" % reply.content_type if reply.body or reply.broken else b""
        return self._head(reply.status, length + typed + reply.fields, announce=not reply.broken) + body

    def begin_stream(self, head: bytes) -> None:
        """Sends the head of a stream, whose header lines are given."""
        self.write(self._head(200, head))

    def end(self, close: bool = False) -> None:
        """The answer is complete: takes the next request of this connection, or closes it."""
        if self._closed:
            return
        assert self._current is not None
        if close or not self._current.keep_alive:
            self.close()
            return
        self._current = None
        if self._queue:
            if len(self._queue) == _MOST_PIPELINED:
                self._loop.add_reader(self._fd, self._readable)
            self._current = self._queue.popleft()
            self._application.handle(self, self._current)

    def close(self) -> None:
        """Closes it once all is sent."""
        self._closing = True
        if not self._unsent:
            self._lost()

    def reset(self) -> None:
        """Breaks the connection off with a TCP reset; what the kernel has not delivered yet is lost with it."""
        if not self._closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._lost()

    def _head(self, status: int, fields: bytes, announce: bool = True) -> bytes:
        kept = self._current is None or self._current.keep_alive or not announce
        close = b"" if kept else b"connection: close\r\n"
        return b"%b%bdate: %b\r\nserver: latency-profile-simulator\r\n%b%b\r\n" % (
            b"HTTP/1.1 %d " % status,
            HTTPStatus(status).phrase.encode() + b"\r\n",
            _date(int(time.time())),
            fields,
            close,
        )


@lru_cache(maxsize=1)
def _date(now_s: int) -> bytes:
    """The date header's value, made once a second."""
    return formatdate(now_s, usegmt=True).encode()


def _monotonic(kernel_ns: int) -> int:
    """A kernel stamp, which is of the realtime clock, on the monotonic one; now where there is no stamp."""
    if not kernel_ns:
        return now_ns()
    realtime, monotonic = clock_pair()
    return kernel_ns - realtime + monotonic
