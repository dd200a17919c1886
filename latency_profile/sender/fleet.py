"""The sender processes of a profile, seen from the parent: starts them, gives each its shard, gathers their counts."""

import contextlib
import os
import selectors
import signal
import subprocess
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from latency_profile import children
from latency_profile.errors import ProfileError, ServerUnavailable
from latency_profile.sender.clock import clock_pair, now_ns
from latency_profile.sender.job import (
    Beat,
    Collect,
    Collected,
    Command,
    Drain,
    Finished,
    Point,
    Ready,
    Report,
    Start,
    Stop,
)

START_DELAY_NS = 50_000_000  # for the start command to reach every process
LOOK_S = 0.1
_reports = msgspec.json.Decoder(Report)
_Recent = deque[tuple[int, int, int, list[int]]]  # (time, reads, completed, lateness) of the last seconds
_T = TypeVar("_T", bound=Report)


class Live(msgspec.Struct):
    """A look at a running point: the sum over its processes."""

    elapsed_s: float = 0.0
    sent: int = 0
    completed: int = 0
    failed: int = 0
    reads_per_s: float = 0.0
    completed_per_s: float = 0.0
    lateness_ns: Sequence[int] = ()  # of the requests sent in the last seconds
    start_ns: int = 0  # monotonic


class Ran(msgspec.Struct):
    """A point that is over."""

    start_ns: int  # monotonic
    started_unix_ns: int
    ended_ns: int
    finished: list[Finished]
    drained_ns: int | None = None  # monotonic: nothing that was due later was sent; None: all was


class _Process:
    def __init__(self, number: int) -> None:
        self.number = number
        self._process, self._in, self.out = children.start("latency_profile.sender")
        self.pid = self._process.pid
        self._pending = b""

    def tell(self, command: Command) -> None:
        try:
            self._in.write(msgspec.json.encode(command) + b"\n")
            self._in.flush()
        except BrokenPipeError:
            raise self.died() from None

    def hear(self) -> list[Report]:
        """All reports that have come. Blocks until there is one."""
        data = os.read(self.out.fileno(), 1 << 20)
        if not data:
            raise self.died()
        *lines, self._pending = (self._pending + data).split(b"\n")
        return [_reports.decode(line) for line in lines]

    def died(self) -> ProfileError:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return ProfileError(f"sender process {self.number} ended with {how} in mid-point; its spool is kept")

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died, and what it was told last is still in the buffer
            self._in.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.out.close()


class Fleet:
    """`with Fleet(n) as fleet:` n processes that stay for all points of a profile."""

    def __init__(self, processes: int) -> None:
        self._processes = [_Process(number) for number in range(processes)]
        self._active = self._processes  # those that have a part in the present point
        self._selector = selectors.DefaultSelector()
        for process in self._processes:
            self._selector.register(process.out, selectors.EVENT_READ, process)
        self._inbox: list[deque[Report]] = [deque() for _ in range(processes)]

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def pids(self) -> list[int]:
        """Of the sender processes, in their order."""
        return [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for process in self._processes:
            process.close()

    def run(
        self,
        points: Sequence[Point],
        stopped: Callable[[], bool],
        look: Callable[[Live], None],
        enough: Callable[[], bool] = lambda: False,
        at_ns: int | None = None,
    ) -> Ran:
        """Runs one point, `points[i]` on process i (further processes rest); returns when all answers have ended, or
        soon after `stopped()`. From `enough()` on, nothing more is sent. `at_ns`: when it starts, or has started, on
        the monotonic clock; None: as soon as all are ready.

        Raises ServerUnavailable where there is a target to which no process could open a single connection.
        """
        self._active = self._processes[: len(points)]
        for process, point in zip(self._active, points, strict=True):
            process.tell(point)
        ready = self._each(Ready, stopped)
        dead = _unreachable(ready)
        if dead is not None and not stopped():
            self._all(Stop())
            self._each(Finished)
            number, error = dead
            raise ServerUnavailable(f"cannot connect to {points[0].targets[number].host_and_port}: {error}")
        realtime_ns, monotonic_ns = clock_pair()
        start_ns = monotonic_ns + START_DELAY_NS if at_ns is None else at_ns
        started_unix_ns = realtime_ns + start_ns - monotonic_ns
        self._all(Start(start_ns))
        finished, drained_ns = self._watch(start_ns, stopped, look, enough)
        ended_ns = max(start_ns, *(report.ended_ns for report in finished))  # a stop may come before the start
        return Ran(start_ns, started_unix_ns, ended_ns, finished, drained_ns)

    def _watch(
        self, start_ns: int, stopped: Callable[[], bool], look: Callable[[Live], None], enough: Callable[[], bool]
    ) -> tuple[list[Finished], int | None]:
        finished: dict[int, Finished] = {}
        beats: dict[int, Beat] = {}
        recent: _Recent = deque()
        told_to_stop = False
        drained_ns: int | None = None
        while len(finished) < len(self._active):
            if stopped() and not told_to_stop:
                self._all(Stop())
                told_to_stop = True
            if drained_ns is None and not told_to_stop and enough():
                drained_ns = now_ns()  # before it is told: what is due by now is still sent
                self._all(Drain())
            lateness: list[int] = []
            self._hear(LOOK_S)
            for number, inbox in enumerate(self._inbox):
                while inbox:
                    report = inbox.popleft()
                    if isinstance(report, Finished):
                        finished[number] = report
                    elif isinstance(report, Beat):
                        beats[number] = report
                        lateness.extend(report.lateness_ns)
            if beats:
                look(_live(now_ns(), start_ns, beats, recent, lateness))
        return [finished[number] for number in sorted(finished)], drained_ns

    def collect(self, orders: Sequence[Collect]) -> list[Collected]:
        """Has each process turn its spool into columns."""
        for process, order in zip(self._active, orders, strict=True):
            process.tell(order)
        return self._each(Collected)

    def _all(self, command: Command) -> None:
        for process in self._active:
            process.tell(command)

    def _hear(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            process: _Process = key.data
            self._inbox[process.number].extend(process.hear())

    def _each(self, kind: type[_T], stopped: Callable[[], bool] = lambda: False) -> list[_T]:
        """The next report of this kind from each process; what comes before it no longer matters."""
        found: dict[int, _T] = {}
        told_to_stop = False
        while len(found) < len(self._active):
            if stopped() and not told_to_stop:
                self._all(Stop())
                told_to_stop = True
            self._hear(LOOK_S)
            for number, inbox in enumerate(self._inbox):
                while inbox and number not in found:
                    report = inbox.popleft()
                    if isinstance(report, kind):
                        found[number] = report
        return [found[number] for number in sorted(found)]


def _unreachable(ready: Sequence[Ready]) -> tuple[int, str] | None:
    """The first target to which nobody has a connection, and why."""
    reached: Counter[int] = Counter()
    errors: dict[int, str] = {}
    for report in ready:
        reached.update(report.connections)
        errors |= report.errors
    return next(
        ((number, errors.get(number, "no connection")) for number in sorted(reached) if not reached[number]), None
    )


RECENT_NS = 2_000_000_000  # what "now" means in the progress line


def _live(
    now: int,
    start_ns: int,
    beats: dict[int, Beat],
    recent: _Recent,
    lateness: list[int],
) -> Live:
    reads = sum(beat.reads for beat in beats.values())
    completed = sum(beat.completed for beat in beats.values())
    recent.append((now, reads, completed, lateness))
    while recent[0][0] < now - RECENT_NS:
        recent.popleft()
    then, reads_then, completed_then, _ = recent[0]
    seconds = (now - then) / 1e9
    return Live(
        elapsed_s=(now - start_ns) / 1e9,
        sent=sum(beat.sent for beat in beats.values()),
        completed=completed,
        failed=sum(beat.failed for beat in beats.values()),
        reads_per_s=(reads - reads_then) / seconds if seconds else 0.0,
        completed_per_s=(completed - completed_then) / seconds if seconds else 0.0,
        lateness_ns=[value for _, _, _, values in recent for value in values],
        start_ns=start_ns,
    )
