"""Connections to one target: opened before they are needed, reused, and replaced when the server has closed them."""

import errno
import select
from collections import deque
from collections.abc import Callable

from latency_profile.sender.clock import now_ns
from latency_profile.sender.connection import IDLE, IN, OUT, Connection, Lost
from latency_profile.sender.spool import End

MOST_OPENING = 64  # handshakes at a time: more could overflow the server's accept queue, and a lost SYN costs a second
CONNECT_TIMEOUT_NS = 30_000_000_000
PAUSE_AFTER_FAILURE_NS = 100_000_000
OUT_OF_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


class Pool:
    """Idle connections are taken last in, first out: the warmest is the least likely to have been closed meanwhile."""

    def __init__(
        self, connect: Callable[[], Connection], epoll: select.epoll, limit: int, patience_ns: int, by_fd: "ByFd"
    ) -> None:
        """limit: most connections at a time, 0 for none. patience_ns: how long a handshake may take, and no longer
        than CONNECT_TIMEOUT_NS. by_fd: where it enters those that it has open."""
        self._connect = connect
        self._epoll = epoll
        self.limit = limit
        self._patience_ns = min(patience_ns, CONNECT_TIMEOUT_NS)
        self._by_fd = by_fd
        self._idle: list[Connection] = []
        self._opening: set[Connection] = set()
        self._pause_until = 0
        self.all: dict[int, Connection] = {}
        self.waiting: deque[int] = deque()  # requests that are due, and without a connection
        self.again: deque[int] = deque()  # found a dead pooled connection: go on a fresh one, once
        self.spare = 1  # how many idle ones there should be while there is more to send
        self.opened = self.failed = self.closed_by_server = 0
        self.connect_ns: list[int] = []  # of the first few: how long a handshake takes
        self.last_failure: Lost | None = None
        self.on_failed: Callable[[Pool, Lost], None] = lambda _pool, _lost: None

    @property
    def median_connect_ns(self) -> int:
        """0 where none was opened."""
        return sorted(self.connect_ns)[len(self.connect_ns) // 2] if self.connect_ns else 0

    def take(self, fresh: bool = False) -> Connection | None:
        """An idle connection; with `fresh`, one that has never carried a request."""
        if not fresh:
            return self._idle.pop() if self._idle else None
        for place, connection in enumerate(self._idle):
            if not connection.used:
                return self._idle.pop(place)
        return None

    def give_back(self, connection: Connection) -> None:
        self._idle.append(connection)

    @property
    def idle(self) -> int:
        return len(self._idle)

    def keep(self, spare: int) -> None:
        """Opens connections until there are, idle and opening ones together, one for each request that waits and
        `spare` more, and a new one for each that is sent again.

        At the limit none is opened, but that an idle one which has been used makes room for a fresh one.
        """
        fresh = len(self.again)
        wanted = len(self.waiting) + fresh + spare
        while (opening := len(self._opening)) < MOST_OPENING:
            lacks_fresh = fresh > opening and fresh > opening + self._unused
            if not lacks_fresh and len(self._idle) + opening >= wanted:
                return
            if now_ns() < self._pause_until or (self._at_limit and not (lacks_fresh and self._retire())):
                return
            try:
                self._open()
            except Lost as lost:
                self._failure(lost)
                return
            except OSError as error:  # no socket to be had
                self._failure(Lost(End.CONNECT_FAILED, error.errno or 0))
                return

    @property
    def _unused(self) -> int:
        return sum(not connection.used for connection in self._idle)

    def _retire(self) -> bool:
        """Closes the idle connection that has been used and rests longest. False where there is none."""
        for connection in self._idle:
            if connection.used:
                self.drop(connection)
                return True
        return False

    @property
    def _at_limit(self) -> bool:
        return bool(self.limit) and len(self.all) >= self.limit

    def _open(self) -> None:
        connection = self._connect()
        self.all[connection.fd] = connection
        self._by_fd[connection.fd] = self, connection
        self._opening.add(connection)
        self._epoll.register(connection.fd, OUT)

    def advance(self, connection: Connection, mask: int) -> bool:
        """Goes on with an opening connection's handshake. True when it can be used."""
        try:
            if not connection.open(mask):
                self._epoll.modify(connection.fd, connection.opening_mask)
                return False
        except Lost as lost:
            self.drop(connection)
            self._failure(lost)
            return False
        self._epoll.modify(connection.fd, IN)
        self._opening.remove(connection)
        self.opened += 1
        if len(self.connect_ns) < MOST_OPENING:
            self.connect_ns.append(now_ns() - connection.opened_at)
        self._idle.append(connection)
        return True

    def _failure(self, lost: Lost) -> None:
        self.failed += 1
        self.last_failure = lost
        self._pause_until = now_ns() + PAUSE_AFTER_FAILURE_NS
        self.on_failed(self, lost)

    def closed_while_idle(self, connection: Connection) -> None:
        """Takes note of it. A server that closes new connections at once would be asked for another without an end."""
        self.closed_by_server += 1
        now = now_ns()
        if not connection.used and now - connection.opened_at < PAUSE_AFTER_FAILURE_NS:
            self._pause_until = now + PAUSE_AFTER_FAILURE_NS

    def drop(self, connection: Connection) -> None:
        """Closes a connection, whatever it was doing."""
        del self.all[connection.fd], self._by_fd[connection.fd]
        if connection in self._opening:
            self._opening.remove(connection)
        elif connection.request == IDLE and connection in self._idle:
            self._idle.remove(connection)
        connection.close()  # which also takes it out of epoll

    def drop_slow_handshakes(self, now: int) -> None:
        for connection in list(self._opening):
            if now - connection.opened_at > self._patience_ns:
                self.drop(connection)
                self._failure(Lost(End.CONNECT_TIMEOUT))

    def close(self) -> None:
        for connection in self.all.values():
            del self._by_fd[connection.fd]
            connection.close()
        self.all.clear()
        self._idle.clear()
        self._opening.clear()


ByFd = dict[int, tuple[Pool, Connection]]
