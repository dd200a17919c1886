"""The only part with a clock and sockets: sends each request of a shard when it is due, and stamps what comes back.

In an open loop request k is due at start + offset[k], whatever happened to k - 1. In a closed loop the next request
goes when an answer is complete. Nothing here parses an event, counts a token or writes a log line.
"""

import os
import select
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path

from latency_profile.outcome import Flag
from latency_profile.sender.clock import LEAD_NS, Timer, now_ns, wait_until
from latency_profile.sender.connection import IDLE, IN, OUT, Connection, Lost
from latency_profile.sender.job import Beat, Finished, Point, Ready
from latency_profile.sender.pool import OUT_OF_SOCKETS, Pool
from latency_profile.sender.spool import End, Kind, Spool

TICK_NS = 100_000_000
BEAT_TICKS = 2
TIMEOUT_LOOKS = 10  # a timeout is noticed within a tenth of itself, and within a second
SPARE_SAFETY = 2  # connections kept ready: what can fall due while one more is being opened, times this


class Loop:
    """One point in one process. `prepare`, then `run`; both return when done or when `stop` was called."""

    def __init__(
        self, point: Point, control_fd: int, on_control: Callable[[], None], beat: Callable[[Beat], None]
    ) -> None:
        self._point = point
        self._control_fd = control_fd
        self._on_control = on_control
        self._beat = beat
        self._spool = Spool(Path(point.spool))
        self._epoll = select.epoll()
        self._due_timer = Timer()
        self._tick_timer = Timer()
        self._pool = Pool(point.target, self._epoll, point.connection_limit)
        self._pool.on_failed = self._connect_failed
        self._bodies = os.open(point.bodies, os.O_RDONLY)
        self._bounds = _read_ints(point.bounds)
        count = len(self._bounds) - 1
        self._mine = range(point.shard, count, point.shards)
        self._plan: array[int] | None = None
        if point.plan is not None:
            self._plan = _read_ints(point.plan)[point.shard :: point.shards]
        self._next = 0  # place in _mine of the next request to send
        self._ahead: deque[bytes] = deque()  # messages of the next requests, read from disk before they are due
        self._waiting: deque[int] = deque()  # due, and without a connection
        self._again: deque[int] = deque()  # found a dead pooled connection: go on a fresh one, once
        self._resent: set[int] = set()
        self._busy = 0
        self._start = 0
        self._next_due = 1 << 62
        self._stopping = False
        self._running = False
        self._sent = self._completed = self._failed = self._reads = self._reused = 0
        self._longest_turn = self._most_waiting = 0
        self._lateness: list[int] = []
        self._ticks = 0
        self._timeout_every = max(1, min(1_000_000_000, point.timeout_ns // TIMEOUT_LOOKS) // TICK_NS)
        self._ended = 0
        for fd in (control_fd, self._due_timer.fd, self._tick_timer.fd):
            self._epoll.register(fd, select.EPOLLIN)

    # -- before the start ---------------------------------------------------------------------------------------------

    def prepare(self) -> Ready:
        """Opens the connections that the start needs."""
        self._tick_timer.set(now_ns(), TICK_NS)
        ahead = max(self._point.ahead, 1)
        if self._point.connection_limit:
            ahead = min(ahead, self._point.connection_limit)
        self._pool.keep(ahead)
        while self._pool.idle < ahead and not self._pool.last_failure and not self._stopping:
            if self._pool.opened >= 2 * ahead:
                break  # the server closes them as fast as they are opened
            self._turn()
            self._pool.keep(ahead)
        self._read_ahead()
        took = sorted(self._pool.connect_ns)
        failure = self._pool.last_failure
        error = failure.reason if failure and not self._pool.opened else None
        return Ready(self._pool.idle, error, took[len(took) // 2] if took else 0)

    # -- the point ----------------------------------------------------------------------------------------------------

    def run(self, start_ns: int) -> Finished:
        """Sends the shard, the first request at `start_ns` + its offset, and waits for all answers."""
        cpu = time.process_time_ns()
        self._start = start_ns
        self._running = True
        self._spool.clock()
        self._pool.spare = self._spares()
        if self._plan is not None:
            self._arm()
        else:
            self._due_timer.set(start_ns)
            self._next_due = start_ns
        while not self._over:
            self._turn()
        self._ended = now_ns()
        self._spool.clock()
        self._close()
        return Finished(
            ended_ns=self._ended,
            reads=self._reads,
            connections_opened=self._pool.opened,
            connections_failed=self._pool.failed,
            connections_closed_by_server=self._pool.closed_by_server,
            reused=self._reused,
            resent=len(self._resent),
            cpu_ns=time.process_time_ns() - cpu,
            slowest_flush_ns=self._spool.slowest_flush_ns,
            longest_turn_ns=self._longest_turn,
            most_waiting_for_connection=self._most_waiting,
        )

    def stop(self) -> None:
        """Cuts the point short: what is in flight ends here, what is not sent never is."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def _over(self) -> bool:
        if self._stopping:
            return True
        none_left = self._next >= len(self._mine) or self._past_duration()
        return none_left and not self._busy and not self._waiting and not self._again

    def _past_duration(self) -> bool:
        limit = self._point.duration_ns
        return self._plan is None and limit is not None and now_ns() >= self._start + limit

    def _turn(self) -> None:
        events = self._epoll.poll()
        began = now = now_ns()
        for fd, mask in events:
            connection = self._pool.all.get(fd)
            if connection is not None:
                now = self._serve(connection, mask)
            elif fd == self._due_timer.fd:
                self._due_timer.clear()
                if 0 < self._next_due - now <= LEAD_NS:
                    wait_until(self._next_due)
                    now = self._next_due
            elif fd == self._tick_timer.fd:
                self._tick_timer.clear()
                self._tick()
            elif fd == self._control_fd:
                self._on_control()
            if now >= self._next_due:  # between two reads too: a long batch of them must not hold up what is due
                self._send_due()
        self._longest_turn = max(self._longest_turn, now_ns() - began)

    def _serve(self, connection: Connection, mask: int) -> int:
        if connection.opening:
            if self._pool.advance(connection, mask):
                self._use_connections()
            return now_ns()
        try:
            if mask & select.EPOLLOUT and connection.flush():
                self._epoll.modify(connection.fd, IN)
            if mask & ~select.EPOLLOUT:
                now = connection.receive(self._spool)
                self._reads += 1
                if connection.complete:
                    self._answered(connection, bool(mask & select.EPOLLRDHUP))
                return now
        except Lost as lost:
            self._lost(connection, lost)
        return now_ns()

    # -- sending ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._plan is not None and self._next < len(self._mine):
            self._next_due = self._start + self._plan[self._next]
            self._due_timer.set_early(self._next_due)
        else:
            self._next_due = 1 << 62

    def _send_due(self) -> None:
        plan = self._plan
        if plan is None:
            self._next_due = 1 << 62
            for _ in range(self._point.concurrency):
                self._send_next()
            return
        passed = now_ns() - self._start
        while self._next < len(plan) and plan[self._next] <= passed and not self._stopping:
            self._send_next()
        self._arm()
        self._read_ahead()

    def _send_next(self) -> None:
        if self._next >= len(self._mine) or self._past_duration():
            return
        index = self._mine[self._next]
        message = self._ahead.popleft() if self._ahead else self._message(index)
        self._next += 1
        connection = self._pool.take() if not self._waiting else None
        if connection is None:
            self._waiting.append(index)
            self._most_waiting = max(self._most_waiting, len(self._waiting))
            self._keep_connections()
        else:
            self._send(connection, index, message)

    def _send(self, connection: Connection, index: int, message: bytes, flag: int = 0) -> None:
        reused = connection.used
        self._busy += 1
        self._sent += not flag  # one that is sent again has been counted
        self._reused += reused
        failure: Lost | None = None
        try:
            connection.send(index, message)
        except Lost as lost:
            failure = lost
        self._spool.note(Kind.SENT, index, connection.sent_at, flag | (Flag.REUSED_CONNECTION if reused else 0))
        if failure:
            self._lost(connection, failure)
            return
        if self._plan is not None:
            self._lateness.append(connection.sent_at - self._start - self._plan[index // self._point.shards])
        if connection.unsent:
            self._epoll.modify(connection.fd, OUT)
        self._keep_connections()

    def _use_connections(self) -> None:
        """Connections have become free: the requests that wait for one go."""
        while self._again and (connection := self._pool.take(fresh=True)):
            index = self._again.popleft()
            self._send(connection, index, self._message(index), Flag.RESENT)
        if self._again:
            self._keep_connections()  # before those that wait take what could make room for a fresh one
        while self._waiting and (connection := self._pool.take()):
            index = self._waiting.popleft()
            self._send(connection, index, self._message(index))

    def _keep_connections(self) -> None:
        again = len(self._again)
        spare = self._pool.spare if self._more_to_send else 0
        self._pool.keep(len(self._waiting) + again + spare, fresh=again)

    @property
    def _more_to_send(self) -> bool:
        return self._next < len(self._mine)

    def _spares(self) -> int:
        """In an open loop: one, and what falls due while a connection is being opened. A closed loop has its own."""
        if self._plan is None or not self._plan or not self._plan[-1]:
            return 0
        took = sorted(self._pool.connect_ns)
        rate_per_ns = len(self._plan) / self._plan[-1]
        return 1 + int(SPARE_SAFETY * rate_per_ns * (took[len(took) // 2] if took else 0))

    def _read_ahead(self) -> None:
        while len(self._ahead) < 4 and self._next + len(self._ahead) < len(self._mine):
            self._ahead.append(self._message(self._mine[self._next + len(self._ahead)]))

    def _message(self, index: int) -> bytes:
        begin, end = self._bounds[index], self._bounds[index + 1]
        body = os.pread(self._bodies, end - begin, begin)
        length = f"content-length: {len(body)}\r\nx-request-id: {self._point.request_id}{index}\r\n\r\n"
        return self._point.target.head + length.encode("ascii") + body

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _answered(self, connection: Connection, hung_up: bool) -> None:
        self._end(connection.request, End.COMPLETE)
        self._busy -= 1
        if connection.release() and not hung_up:
            self._pool.give_back(connection)
        else:
            self._pool.drop(connection)
        self._after_end()

    def _after_end(self) -> None:
        if self._plan is None and self._running:
            self._send_next()
            self._read_ahead()
        if self._waiting or self._again:
            self._use_connections()
        self._keep_connections()

    def _lost(self, connection: Connection, lost: Lost) -> None:
        index = connection.request
        self._pool.drop(connection)
        if index == IDLE:
            self._pool.closed_while_idle(connection)
            self._keep_connections()
            return
        self._busy -= 1
        dead_when_picked = connection.used and not connection.answered
        if dead_when_picked and index not in self._resent and lost.end in (End.CLOSED, End.BROKEN):
            # RFC 9112, 9.3.1: the server may close an idle connection at any time; it never saw this request.
            self._resent.add(index)
            self._again.append(index)
            self._use_connections()
            self._keep_connections()
            return
        self._end(index, lost.end, lost.errno)
        self._after_end()

    def _connect_failed(self, lost: Lost) -> None:
        """Those that wait for a connection fail with it: the server refuses now. Where this machine is out of sockets,
        they wait for one to come free, and are late."""
        if lost.errno in OUT_OF_SOCKETS or not self._running:
            return
        failed = [*self._again, *self._waiting]
        self._again.clear()
        self._waiting.clear()
        for index in failed:
            self._end(index, lost.end, lost.errno)
        if self._plan is None:
            for _ in failed:
                self._send_next()

    def _end(self, index: int, end: End, number: int = 0) -> None:
        self._spool.note(Kind.END, index, now_ns(), end, number)
        if end == End.COMPLETE:
            self._completed += 1
        else:
            self._failed += 1

    def _tick(self) -> None:
        now = now_ns()
        self._spool.clock()
        self._spool.flush()
        self._ticks += 1
        if self._ticks % self._timeout_every == 0:
            self._drop_slow(now)
        if self._running:
            self._keep_connections()
            if self._ticks % BEAT_TICKS == 0:
                self._beat(Beat(self._sent, self._completed, self._failed, self._reads, self._lateness))
                self._lateness = []

    def _drop_slow(self, now: int) -> None:
        self._pool.drop_slow_handshakes(now)
        for connection in list(self._pool.all.values()):
            if connection.request != IDLE and now - connection.sent_at > self._point.timeout_ns:
                index = connection.request
                self._pool.drop(connection)
                self._busy -= 1
                self._end(index, End.TIMEOUT)
                self._after_end()

    def _close(self) -> None:
        for connection in self._pool.all.values():
            if connection.request != IDLE:
                self._spool.note(Kind.END, connection.request, self._ended, End.STOPPED)
        for index in self._again:
            self._spool.note(Kind.END, index, self._ended, End.STOPPED)
        self._pool.close()
        self._spool.close()
        self._due_timer.close()
        self._tick_timer.close()
        self._epoll.close()
        os.close(self._bodies)


def _read_ints(path: str) -> "array[int]":
    numbers = array("q")
    numbers.frombytes(Path(path).read_bytes())
    return numbers
