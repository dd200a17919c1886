"""The board that a profile keeps for whoever watches it: written by the main thread only, read by any."""

import time
from dataclasses import replace

from latency_profile.live.view import Phase, View, with_point, with_verdict
from latency_profile.points import PlannedPoint
from latency_profile.records import Records
from latency_profile.report.progress import Progress, Snapshot
from latency_profile.verdict import Kind

# While a point is sent, the parent looks at its senders ten times a second. One that has not for a minute hangs, most
# likely in writing to a log that nobody takes.
LONGEST_BETWEEN_LOOKS_S = 60.0


class Board:
    """`view` is replaced as a whole at each change."""

    def __init__(self) -> None:
        self.view = View()
        self._looked_at: float | None = None  # monotonic; None: no point is being sent

    def planned(self, points: int) -> None:
        self.view = replace(self.view, points=points)

    def phase(self, phase: Phase) -> None:
        self.view = replace(self.view, phase=phase)

    def server_is_ready(self) -> None:
        self.view = replace(self.view, ready=True, waits_for="")

    def point_kept(self, verdict: Kind) -> None:
        """A point is there from an earlier attempt, and is not measured again."""
        self.view = with_verdict(self.view, verdict)

    def point_started(self, point: PlannedPoint) -> None:
        load = ("in_flight", float(point.concurrency)) if point.concurrency is not None else None
        if point.rate is not None:
            load = ("requests_per_second", point.rate)
        self.view = replace(self.view, phase=Phase.MEASURING, label=point.label, load=load, running=None)

    def looked(self, snapshot: Snapshot) -> None:
        self._looked_at = time.monotonic()
        self.view = replace(self.view, running=snapshot, lateness_p99_ms=snapshot.lateness_p99_ms)

    def sending_is_over(self) -> None:
        self._looked_at = None
        running = self.view.running
        if running is not None:
            self.view = replace(self.view, running=replace(running, in_flight=0, tokens_per_s=0.0))

    def point_measured(self, records: Records, verdict: Kind | None) -> None:
        """`records`: of what was sent here. verdict: None where another pod gives it."""
        self.view = replace(with_verdict(with_point(self.view, records), verdict), last_point_unix_s=time.time())

    def said(self, text: str) -> None:
        if not self.view.ready:
            self.view = replace(self.view, waits_for=text)

    def done(self, exit_code: int, closing: str) -> None:
        self.view = replace(self.view, phase=Phase.DONE, exit_code=exit_code, closing=closing)

    @property
    def turns(self) -> bool:
        """Whether the main thread still does what it has to."""
        looked_at = self._looked_at
        return looked_at is None or time.monotonic() - looked_at < LONGEST_BETWEEN_LOOKS_S


class Watched:
    """Progress that the board sees too."""

    def __init__(self, shown: Progress, board: Board) -> None:
        self._shown, self._board = shown, board

    def point_started(self, label: str, number: int, of: int | None) -> None:
        self._shown.point_started(label, number, of)

    def update(self, snapshot: Snapshot) -> None:
        self._board.looked(snapshot)
        self._shown.update(snapshot)

    def point_finished(self, line: str) -> None:
        self._shown.point_finished(line)

    def say(self, text: str) -> None:
        self._board.said(text)
        self._shown.say(text)
