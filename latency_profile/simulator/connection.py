"""One HTTP/1.1 connection: requests are read and answered one after another, kept alive and pipelined or not."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import httptools

_MOST_PIPELINED = 8  # requests that may wait on one connection before it is read no further
_CHUNKED = b"content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n"


@dataclass(slots=True)
class HttpRequest:
    """A complete request. `arrival_ns` is CLOCK_MONOTONIC when the read that completed it returned."""

    method: str = ""
    path: str = ""
    body: bytes = b""
    request_id: str | None = None
    keep_alive: bool = True
    arrival_ns: int = 0
    parts: list[bytes] = field(default_factory=list)


class Application(Protocol):
    """What answers requests: calls `connection.reply`, or `begin_stream`, `write` and `end`."""

    def handle(self, connection: "Connection", request: HttpRequest) -> None:
        """Takes one request; its answer may come later."""

    def lost(self, connection: "Connection") -> None:
        """The client is gone, with or without an answer under way."""


class Connection(asyncio.Protocol):
    """asyncio's plain transport sends at once from `write` (TCP_NODELAY is set), so a time taken just before it is the
    time of the send. uvloop would queue the bytes until its turn of the loop ends: that is why it is not used here.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._parser = httptools.HttpRequestParser(self)
        self._request = HttpRequest()
        self._current: HttpRequest | None = None
        self._queue: deque[HttpRequest] = deque()
        self._read_ns = 0

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.write = transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        self._queue.clear()
        self._application.lost(self)
        del self._parser  # it and this object hold each other

    def data_received(self, data: bytes) -> None:
        self._read_ns = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an upgrade nobody serves: the request itself is complete and is answered as HTTP/1.1
        except httptools.HttpParserError:
            if self._current is not None:  # garbage behind a request that is being answered
                self._transport.close()
                return
            self._current = HttpRequest(keep_alive=False)
            self.reply(400, b"Invalid HTTP request received.", b"text/plain; charset=utf-8")

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
        request.arrival_ns = self._read_ns
        if self._current is not None:
            self._queue.append(request)
            if len(self._queue) == _MOST_PIPELINED:
                self._transport.pause_reading()
            return
        self._current = request
        self._application.handle(self, request)

    # for the application

    def reply(self, status: int, body: bytes, content_type: bytes = b"application/json") -> None:
        """A whole answer."""
        typed = b"content-type: %b\r\n" % content_type if body else b""
        fields = b"content-length: %d\r\n%bvary: Origin\r\n" % (len(body), typed)
        self.write(self._head(status, fields) + body)
        self.end()

    def begin_stream(self) -> None:
        """Sends the head of a chunked event stream at once, as uvicorn does, before there is any event."""
        self.write(self._head(200, _CHUNKED))

    def end(self) -> None:
        """The answer is complete: takes the next request of this connection, or closes it."""
        assert self._current is not None
        if not self._current.keep_alive:
            self._transport.close()
            return
        self._current = None
        if self._queue:
            if len(self._queue) == _MOST_PIPELINED:
                self._transport.resume_reading()
            self._current = self._queue.popleft()
            self._application.handle(self, self._current)

    def close(self) -> None:
        self._transport.close()

    def _head(self, status: int, fields: bytes) -> bytes:
        close = b"" if self._current is None or self._current.keep_alive else b"connection: close\r\n"
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
