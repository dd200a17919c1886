"""What a run says while it runs: a live bar on a terminal, plain dated lines everywhere else (`kubectl logs`).

Nothing here starts a thread or reads a server: whoever runs the point feeds snapshots, a few each second.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console, Group

PLAIN_INTERVAL_S = 8.0  # with snapshots at least every 2 s: a line at least every 10 s, never two within 5 s
LIVE_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at a running point. Times in s from the point's start; counts since then."""

    elapsed_s: float
    planned_s: float | None  # None: a burst, or a closed loop without a time limit
    total: int | None  # requests of the plan
    sent: int
    in_flight: int
    completed: int
    failed: int
    tokens_per_s: float  # over the last second or so; while running one read counts as one token
    lateness_p99_ms: float  # over the last seconds


class Progress(Protocol):
    """Where a run reports to. None of these raises for what it is told."""

    def point_started(self, label: str, number: int, of: int | None) -> None:
        """Point `number` of `of` (None: nobody knows) begins; its label is like "4 req/s", "32 in flight" or
        "unlimited"."""

    def update(self, snapshot: Snapshot) -> None:
        """The point goes on; cheap enough for several calls a second."""

    def point_finished(self, line: str) -> None:
        """The point ended; `line` is its result in one line."""

    def say(self, text: str) -> None:
        """A notice."""


def make_progress(stream: TextIO, interactive: bool | None = None) -> AbstractContextManager[Progress]:
    """Progress on `stream` (usually stderr), live or in plain lines; `interactive` None asks the stream."""
    if interactive is None:
        interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
    return _live(stream) if interactive else _plain(stream)


def clock_text(seconds: float) -> str:
    """Minutes and seconds, `1:05`; with hours where there are any, `1:00:05`."""
    whole = max(0, int(seconds))
    minutes, hours = whole // 60, whole // 3600
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def rate_text(per_second: float) -> str:
    """A running rate, without digits that it does not have."""
    return f"{per_second:.1f}" if per_second < 10 else f"{per_second:,.0f}"


def lateness_text(milliseconds: float) -> str:
    """Lateness in ms, or in s where it is no small thing any more."""
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def fraction_done(snapshot: Snapshot) -> float | None:
    """How far the point is, 0 to 1: by its time where time bounds it, else by its requests; None where neither does."""
    if snapshot.planned_s:
        return min(1.0, snapshot.elapsed_s / snapshot.planned_s)
    if snapshot.total:
        return min(1.0, (snapshot.completed + snapshot.failed) / snapshot.total)
    return None


class PlainProgress:
    """One dated line at a time, without control characters."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last = -math.inf
        self._head = ""

    def point_started(self, label: str, number: int, of: int | None) -> None:
        self._head = f"[{number}{'' if of is None else f'/{of}'}] {label}"
        self._last = self._clock()
        self.say(f"{self._head}: started")

    def update(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now - self._last < PLAIN_INTERVAL_S:
            return
        self._last = now
        planned = f"/{clock_text(snapshot.planned_s)}" if snapshot.planned_s else ""
        total = f"/{snapshot.total}" if snapshot.total is not None else ""
        self.say(
            f"{self._head}: {clock_text(snapshot.elapsed_s)}{planned}  sent {snapshot.sent}{total}"
            f"  in flight {snapshot.in_flight}  done {snapshot.completed}  failed {snapshot.failed}"
            f"  ~{rate_text(snapshot.tokens_per_s)} tokens/s  lateness p99 {lateness_text(snapshot.lateness_p99_ms)}"
        )

    def point_finished(self, line: str) -> None:
        self.say(f"{self._head}: {line}")

    def say(self, text: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._stream.write(f"{stamp} {text}\n")
        self._stream.flush()


@contextmanager
def _plain(stream: TextIO) -> Iterator[Progress]:
    yield PlainProgress(stream)


class LiveProgress:
    """A bar and a line of counts that redraw themselves; results and notices scroll above them.

    It draws only when it is fed, from the caller's thread: a timer thread would not survive a fork, and would take
    the processor from the senders.
    """

    def __init__(self, console: "Console", clock: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live
        from rich.text import Text

        self._console = console
        self._clock = clock
        self._last = -math.inf
        self._head = Text()
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def point_started(self, label: str, number: int, of: int | None) -> None:
        from rich.text import Text

        place = f"point {number}" + ("" if of is None else f" of {of}")
        self._head = Text.assemble((label, "bold"), "  ", (place, "dim"))
        self._last = -math.inf
        self.update(Snapshot(0.0, None, None, 0, 0, 0, 0, 0.0, 0.0))
        self._last = -math.inf

    def update(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now - self._last < LIVE_INTERVAL_S:
            return
        self._last = now
        self._live.update(self.drawing(snapshot), refresh=True)

    def point_finished(self, line: str) -> None:
        from rich.text import Text

        self._live.update(Text(), refresh=True)
        self._console.print(Text.assemble(self._head, "  ", line), soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def drawing(self, snapshot: Snapshot) -> "Group":
        """Two lines: how far the point is, and what is happening."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done = fraction_done(snapshot)
        bar = ProgressBar(
            total=1.0,
            completed=done or 0.0,
            width=36,
            pulse=done is None,
            animation_time=snapshot.elapsed_s,
            complete_style="cyan",
            finished_style="cyan",
            pulse_style="cyan",
        )
        planned = f" / {clock_text(snapshot.planned_s)}" if snapshot.planned_s else ""
        top = Table.grid(padding=(0, 2))
        top.add_row(self._head, bar, Text(f"{clock_text(snapshot.elapsed_s)}{planned}"))

        total = f"/{snapshot.total}" if snapshot.total is not None else ""
        late = "bold yellow" if snapshot.lateness_p99_ms >= 10 else ""
        facts = [
            ("sent", f"{snapshot.sent}{total}", ""),
            ("in flight", f"{snapshot.in_flight}", ""),
            ("done", f"{snapshot.completed}", ""),
            ("failed", f"{snapshot.failed}", "bold red" if snapshot.failed else ""),
            ("tokens/s", f"~{rate_text(snapshot.tokens_per_s)}", ""),
            ("lateness p99", lateness_text(snapshot.lateness_p99_ms), late),
        ]
        line = Text("  ", overflow="ellipsis", no_wrap=True)
        for name, value, style in facts:
            line.append(f"{name} ", style="dim").append(value, style=style).append("   ")
        return Group(top, line)


@contextmanager
def _live(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console

    progress = LiveProgress(Console(file=stream, force_terminal=True))
    progress.start()
    try:
        yield progress
    finally:
        progress.stop()
