"""The only part with a clock and sockets: sends each request of a shard when it is due, and stamps what comes back.

In an open loop request k is due at start + offset[k], whatever happened to k - 1. In a closed loop the next request
goes when an answer is complete. Nothing here parses an event, counts a token or writes a log line.
"""

import select
import time
from collections.abc import Callable
from pathlib import Path

from latency_profile.outcome import Flag
from latency_profile.sender.clock import LEAD_NS, Timer, now_ns, wait_until
from latency_profile.sender.connection import IDLE, IN, OUT, Connection, Lost
from latency_profile.sender.job import BEAT_NS, Beat, Finished, Point, Ready
from latency_profile.sender.pool import OUT_OF_SOCKETS, ByFd, Pool
from latency_profile.sender.protocol import connector
from latency_profile.sender.retries import Retries
from latency_profile.sender.shard import Shard
from latency_profile.sender.spool import End, Kind, Spool
from latency_profile.sender.turns import Turns

TICK_NS = 100_000_000
BEAT_TICKS = BEAT_NS // TICK_NS
TIMEOUT_LOOKS = 10  # what never ends is given up within a tenth of its timeout (or a tick), and within a second
SPARE_SAFETY = 2  # connections kept ready: what can fall due while one more is being opened, times this
_NEVER = 1 << 62


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
        self._shard = Shard(point)
        self._retries = Retries(point.retries)
        self._connections: ByFd = {}
        self._pools: dict[int, Pool] = {}  # by target
        for number, limit in self._shard.connection_limits().items():
            connect = connector(point.targets[number], point)
            pool = Pool(connect, self._epoll, limit, point.timeout_ns, self._connections)
            pool.on_failed = self._connect_failed
            self._pools[number] = pool
        self._resent: set[int] = set()
        self._busy = 0
        self._start = 0
        self._next_due = _NEVER
        self._open_loop = point.plan is not None
        self._stopping = False
        self._running = False
        self._sent = self._completed = self._failed = self._reads = self._reused = 0
        self._most_waiting = 0
        self._turns = Turns()
        self._looked = now_ns()  # when it was last seen who has something to read
        self._lateness: list[int] = []
        self._ticks = 0
        self._timeout_every = max(1, min(1_000_000_000, point.timeout_ns // TIMEOUT_LOOKS) // TICK_NS)
        self._ended = 0
        for fd in (control_fd, self._due_timer.fd, self._tick_timer.fd, self._retries.timer.fd):
            self._epoll.register(fd, select.EPOLLIN)

    # -- before the start ---------------------------------------------------------------------------------------------

    def prepare(self) -> Ready:
        """Opens the connections that the start needs."""
        self._tick_timer.set(now_ns(), TICK_NS)
        ahead = max(1, -(-self._point.ahead // len(self._pools)))
        while not self._stopping and self._opens_more(ahead):
            self._turn()
        self._shard.read_ahead()
        failures = {number: pool.last_failure for number, pool in self._pools.items() if not pool.opened}
        return Ready(
            {number: pool.idle for number, pool in self._pools.items()},
            {number: failure.reason for number, failure in failures.items() if failure},
        )

    def _opens_more(self, ahead: int) -> bool:
        """Opens connections to each target. False when it has `ahead`, or when waiting will bring no more: it refuses,
        or closes them as fast as they are opened."""
        more = False
        for pool in self._pools.values():
            wanted = min(ahead, pool.limit or ahead)
            pool.keep(wanted)
            more |= pool.idle < wanted and not pool.last_failure and pool.opened < 2 * wanted
        return more

    # -- the point ----------------------------------------------------------------------------------------------------

    def run(self, start_ns: int) -> Finished:
        """Sends the shard, the first request at `start_ns` + its offset, and waits for all answers."""
        cpu = time.process_time_ns()
        self._start = start_ns
        self._turns = Turns()
        self._running = True
        self._spool.clock()
        for pool in self._pools.values():
            pool.spare = self._spares(pool)
        if self._open_loop:
            self._arm()
        else:
            self._due_timer.set(start_ns)
            self._next_due = start_ns
        while not self._stopping and (self._busy or self._goes_on):
            if self._open_loop:  # in a closed one the next request waits for what is read
                self._turns.rest(self._next_due)
            self._turn()
        self._ended = now_ns()
        self._spool.clock()
        self._close()
        pools = self._pools.values()
        return Finished(
            ended_ns=self._ended,
            reads=self._reads,
            connections_opened=sum(pool.opened for pool in pools),
            connections_failed=sum(pool.failed for pool in pools),
            connections_closed_by_server=sum(pool.closed_by_server for pool in pools),
            reused=self._reused,
            resent=len(self._resent),
            retried=self._retries.requests,
            retries=self._retries.attempts,
            cpu_ns=time.process_time_ns() - cpu,
            slowest_flush_ns=self._spool.slowest_flush_ns,
            longest_turn_ns=self._turns.longest_ns,
            stalls=self._turns.stalls,
            stalled_ns=self._turns.stalled_ns,
            most_waiting_for_connection=self._most_waiting,
        )

    def stop(self) -> None:
        """Cuts the point short: what is in flight ends here, what is not sent never is."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        return self._stopping

    def drain(self) -> None:
        """Begins no request after those that are due by now; `run` returns when all that were begun have ended."""
        if self._running and now_ns() >= self._next_due:
            self._send_due()
        self._shard.end()

    @property
    def _goes_on(self) -> bool:
        """Whether anything is to be sent, though nothing is in flight."""
        if self._retries.waiting or (self._shard.more and not self._past_duration()):
            return True
        return any(pool.waiting or pool.again for pool in self._pools.values())

    def _past_duration(self) -> bool:
        limit = self._point.duration_ns
        return not self._open_loop and limit is not None and now_ns() >= self._start + limit

    def _turn(self) -> None:
        away = now_ns() - self._looked
        events = self._epoll.poll()
        began = now = self._looked = now_ns()
        self._spool.turn(away)
        for fd, mask in events:
            if (found := self._connections.get(fd)) is not None:
                pool, connection = found
                now = self._serve(pool, connection, mask)
            elif fd == self._due_timer.fd:
                self._due_timer.clear()
                if 0 < self._next_due - now <= LEAD_NS:
                    wait_until(self._next_due)
                    now = self._next_due
            elif fd == self._tick_timer.fd:
                self._tick_timer.clear()
                self._tick()
            elif fd == self._retries.timer.fd:
                self._retries.timer.clear()
                self._send_retries()
            elif fd == self._control_fd:
                self._on_control()
            if now >= self._next_due:  # between two reads too: a long batch of them must not hold up what is due
                self._send_due()
        self._turns.took(now_ns() - began)

    def _serve(self, pool: Pool, connection: Connection, mask: int) -> int:
        if connection.opening:
            if pool.advance(connection, mask):
                self._use_connections(pool)
            return now_ns()
        try:
            if mask & select.EPOLLOUT and connection.flush():
                self._epoll.modify(connection.fd, IN)
            if mask & ~select.EPOLLOUT:
                now = connection.receive(self._spool)
                self._reads += 1
                if connection.complete:
                    self._answered(pool, connection, now, bool(mask & select.EPOLLRDHUP))
                elif connection.unsent:  # what came wants an answer, or opened the way for what was held back
                    self._epoll.modify(connection.fd, OUT)
                return now
        except Lost as lost:
            self._lost(pool, connection, lost)
        return now_ns()

    # -- sending ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._open_loop and self._shard.more:
            self._next_due = self._start + self._shard.next_due_ns
            self._due_timer.set_early(self._next_due)
        else:
            self._next_due = _NEVER

    def _send_due(self) -> None:
        if not self._open_loop:
            self._next_due = _NEVER
            for _ in range(self._point.concurrency):
                self._send_next()
            return
        passed = now_ns() - self._start
        shard = self._shard
        while shard.more and shard.next_due_ns <= passed and not self._stopping:
            self._send_next()
        self._arm()
        shard.read_ahead()

    def _send_next(self) -> None:
        if not self._shard.more or self._past_duration():
            return
        self._send_or_wait(*self._shard.take())

    def _send_or_wait(self, index: int, message: bytes) -> None:
        pool = self._pools[self._shard.target_of(index)]
        connection = pool.take() if not pool.waiting else None
        if connection is None:
            pool.waiting.append(index)
            self._most_waiting = max(self._most_waiting, sum(len(each.waiting) for each in self._pools.values()))
            self._keep_connections(pool)
        else:
            self._send(pool, connection, index, message)

    def _send(self, pool: Pool, connection: Connection, index: int, message: bytes, flag: int = 0) -> None:
        reused = connection.used
        self._busy += 1
        self._reused += reused
        failure: Lost | None = None
        try:
            connection.send(index, message)
        except Lost as lost:
            failure = lost
        self._spool.sent(index, connection.sent_at, now_ns(), flag | (Flag.REUSED_CONNECTION if reused else 0))
        if not flag and not self._retries.has_sent(index):
            self._sent += 1
            if self._open_loop:
                self._lateness.append(connection.sent_at - self._start - self._shard.due_ns(index))
        if failure:
            self._lost(pool, connection, failure)
            return
        if connection.unsent:
            self._epoll.modify(connection.fd, OUT)
        self._keep_connections(pool)

    def _send_retries(self) -> None:
        for index in self._retries.due(now_ns()):
            self._send_or_wait(index, self._shard.message(index))

    def _use_connections(self, pool: Pool) -> None:
        """Connections have become free: the requests that wait for one go."""
        while pool.again and (connection := pool.take(fresh=True)):
            index = pool.again.popleft()
            self._send(pool, connection, index, self._shard.message(index), Flag.RESENT)
        if pool.again:
            self._keep_connections(pool)  # before those that wait take what could make room for a fresh one
        self._drop_late(pool)
        while pool.waiting and (connection := pool.take()):
            index = pool.waiting.popleft()
            self._send(pool, connection, index, self._shard.message(index))

    def _drop_late(self, pool: Pool) -> None:
        """When the time of a closed loop is over, what has not been sent yet is not sent any more."""
        if pool.waiting and self._past_duration():
            begun = [index for index in pool.waiting if self._retries.has(index)]
            pool.waiting.clear()
            pool.waiting.extend(begun)

    def _keep_connections(self, pool: Pool) -> None:
        pool.keep(pool.spare if self._shard.more else 0)

    def _spares(self, pool: Pool) -> int:
        """In an open loop: one, and what falls due while a connection is being opened. A closed loop has its own."""
        rate_per_ns = self._shard.rate_per_ns / len(self._pools)
        return 1 + int(SPARE_SAFETY * rate_per_ns * pool.median_connect_ns) if rate_per_ns else 0

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _answered(self, pool: Pool, connection: Connection, now: int, hung_up: bool) -> None:
        """The answer is whole, at `now`; too late if that is after its timeout, which the ticks look for less often."""
        index, refusal = connection.request, connection.refusal
        too_late = refusal is None and now - connection.sent_at > self._point.timeout_ns
        self._busy -= 1
        if connection.release() and not hung_up:
            pool.give_back(connection)
        else:
            pool.drop(connection)
        if refusal is None or not self._put_off(index, refusal.after_s):
            self._end(index, End.TIMEOUT if too_late else End.COMPLETE)
        self._freed(pool)

    def _freed(self, pool: Pool) -> None:
        if pool.waiting or pool.again:
            self._use_connections(pool)
        self._keep_connections(pool)

    def _lost(self, pool: Pool, connection: Connection, lost: Lost) -> None:
        index, refusal = connection.request, connection.refusal
        pool.drop(connection)
        if index == IDLE:
            pool.closed_while_idle(connection)
            self._keep_connections(pool)
            return
        self._busy -= 1
        unanswered = lost.end in (End.CLOSED, End.BROKEN) and (not connection.answered or refusal is not None)
        if unanswered and connection.used and not connection.answered and index not in self._resent:
            # RFC 9112, 9.3.1: a server may close an idle connection at any time, and has then not seen this request.
            self._resent.add(index)
            pool.again.append(index)
        elif not (unanswered and self._put_off(index, refusal.after_s if refusal else None)):
            self._end(index, lost.end, lost.errno)
        self._freed(pool)

    def _connect_failed(self, pool: Pool, lost: Lost) -> None:
        """Those that wait for a connection fail with it: the server refuses now. Where this machine is out of sockets,
        they wait for one to come free, and are late."""
        if lost.errno in OUT_OF_SOCKETS or not self._running:
            return
        failed = [(index, True) for index in pool.again] + [(index, False) for index in pool.waiting]
        pool.again.clear()
        pool.waiting.clear()
        for index, sent in failed:
            if not self._put_off(index, sent=sent):
                self._end(index, lost.end, lost.errno)

    def _put_off(self, index: int, asked_s: int | None = None, sent: bool = True) -> bool:
        """An attempt has failed. True where there will be another."""
        now = now_ns()
        attempt = self._retries.put_off(index, now, asked_s, sent)
        if attempt:
            self._spool.note(Kind.RETRY, index, now, min(attempt, 255))
        return attempt > 0

    def _end(self, index: int, end: End, number: int = 0) -> None:
        """The request is over. In a closed loop the next takes its place."""
        self._spool.note(Kind.END, index, now_ns(), end, number)
        self._retries.over(index)
        if end == End.COMPLETE:
            self._completed += 1
        else:
            self._failed += 1
        if not self._open_loop and self._running:
            self._send_next()
            self._shard.read_ahead()

    def _tick(self) -> None:
        now = now_ns()
        self._spool.clock()
        self._spool.flush()
        self._ticks += 1
        if self._ticks % self._timeout_every == 0:
            self._drop_slow(now)
        if self._running:
            self._turns.look(self._reads)
            for pool in self._pools.values():
                self._drop_late(pool)
                self._keep_connections(pool)
            if self._ticks % BEAT_TICKS == 0:
                self._beat(Beat(self._sent, self._completed, self._failed, self._reads, self._lateness))
                self._lateness = []

    def _drop_slow(self, now: int) -> None:
        for pool in self._pools.values():
            pool.drop_slow_handshakes(now)
        for pool, connection in list(self._connections.values()):
            if connection.request != IDLE and now - connection.sent_at > self._point.timeout_ns:
                index = connection.request
                pool.drop(connection)
                self._busy -= 1
                self._end(index, End.TIMEOUT)
                self._freed(pool)

    def _close(self) -> None:
        left = {connection.request for _, connection in self._connections.values()} - {IDLE}
        left.update(self._retries.all, *(pool.again for pool in self._pools.values()))
        for index in sorted(left):
            self._spool.note(Kind.END, index, self._ended, End.STOPPED)
        for pool in self._pools.values():
            pool.close()
        self._spool.close()
        self._shard.close()
        self._retries.close()
        self._due_timer.close()
        self._tick_timer.close()
        self._epoll.close()
