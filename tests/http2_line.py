"""One HTTP/2 connection of the sender with a loop of its own around it, as sender/loop.py goes about it."""

import select
import time
from pathlib import Path
from typing import Self

from latency_profile.http2_answer import Http2Answer
from latency_profile.sender import http2
from latency_profile.sender.connection import IN, OUT
from latency_profile.sender.http2 import Http2Connection
from latency_profile.sender.job import Target, Tls
from latency_profile.sender.spool import Entry, Kind, Spool, replay

PATH = "/jetstream_proto.Orchestrator/Decode"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "test/1"),
    ("Authorization", "Bearer secret"),
    ("x-team", "é"),
]


def target_at(port: int, tls: Tls | None = None) -> Target:
    return Target(("127.0.0.1", port), 2, http2.header_block(HEADERS), tls, protocol="grpc")


class Line:
    """`ask` sends one request and waits for its answer; `answer` reads it from the spool."""

    def __init__(self, port: int, folder: Path, tls: Tls | None = None) -> None:
        self.target = target_at(port, tls)
        self.connection = self._connected(tls)
        self._path = folder / "spool"
        self._spool = Spool(self._path)
        self._epoll = select.epoll()
        self._epoll.register(self.connection.fd, OUT)
        self.wakeups = self.requests = 0
        self.kept = False

    def _connected(self, tls: Tls | None) -> Http2Connection:
        if tls:
            return http2.Http2TlsConnection(self.target, http2.http2_context(tls), tls)
        return Http2Connection(self.target)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._epoll.close()
        self._spool.close()

    def open(self, within_s: float = 5.0) -> None:
        self._spool.clock()
        while not self.connection.open(self._mask(time.monotonic() + within_s)):
            self._epoll.modify(self.connection.fd, self.connection.opening_mask)
        self._epoll.modify(self.connection.fd, IN)

    def _mask(self, until: float) -> int:
        events = self._epoll.poll(max(until - time.monotonic(), 0))
        assert events, "nothing came in time"
        self.wakeups += 1
        return int(events[0][1])

    def begin(self, body: bytes = b"hello") -> int:
        """Sends the next request; gives its number."""
        number = self.requests
        self.requests += 1
        self.connection.send(number, http2.message(self.target, PATH, f"test-{number}", body))
        if self.connection.unsent:
            self._epoll.modify(self.connection.fd, OUT)
        return number

    def turn(self, within_s: float = 5.0) -> None:
        """One event. Raises Lost."""
        mask = self._mask(time.monotonic() + within_s)
        if mask & select.EPOLLOUT and self.connection.flush():
            self._epoll.modify(self.connection.fd, IN)
        if mask & ~select.EPOLLOUT:
            self.connection.receive(self._spool)
            if self.connection.unsent:
                self._epoll.modify(self.connection.fd, OUT)

    def ask(self, body: bytes = b"hello") -> Http2Answer:
        number = self.begin(body)
        while not self.connection.complete:
            self.turn()
        self.kept = self.connection.release()
        return self.answer(number)

    def reads(self, number: int) -> list[Entry]:
        self._spool.clock()
        self._spool.flush()
        return [entry for entry in replay(self._path) if entry.kind == Kind.READ and entry.request == number]

    def answer(self, number: int) -> Http2Answer:
        answer = Http2Answer()
        answer.feed(entry.data for entry in self.reads(number))
        return answer
