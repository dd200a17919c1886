"""Point after point: the one loop over a profile's loads."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from latency_profile import results
from latency_profile.cache_hygiene import CacheHygiene
from latency_profile.calibration.structure import Calibration
from latency_profile.capacity.structure import Capacity
from latency_profile.compare.earlier import Remembered
from latency_profile.compare.nightly import comparison_files, tonight
from latency_profile.compare.structure import Comparison
from latency_profile.compare.text import compared_line
from latency_profile.errors import Exit, ProfileError, StorageError
from latency_profile.interrupt import Interrupt
from latency_profile.live.board import Board, Watched
from latency_profile.live.termination import LOG
from latency_profile.plan import NS
from latency_profile.point_run import Bench, Prompts, run_point
from latency_profile.points import PlannedPoint
from latency_profile.provenance import provenance
from latency_profile.records import Records, load
from latency_profile.report.closing import closing_line
from latency_profile.report.console import render_table
from latency_profile.report.line import spelled
from latency_profile.report.rows import log_line, table_row
from latency_profile.report.table_row import TableRow
from latency_profile.results import PointResult
from latency_profile.resume import Earlier, Ledger
from latency_profile.sender.fleet import Fleet
from latency_profile.shards.meeting import Meeting, Reopened
from latency_profile.shards.rounds import Left, bench_of, is_begun_again, left_of
from latency_profile.shards.whole import joined, whole_of
from latency_profile.storage import Readable
from latency_profile.telemetry.readings import Readings

if TYPE_CHECKING:
    from latency_profile.hardware.exported import Exported
    from latency_profile.hardware.structure import HardwareReadings
    from latency_profile.hardware.watch import HardwareWatch, PointWatch
    from latency_profile.telemetry.source import Sources

PAUSE_STEP_S = 0.1


class Further(Protocol):
    """Points that are chosen when those before them are known."""

    @property
    def most(self) -> int | None:
        """Points of the profile, those that are known from the start among them; None: nobody knows."""

    @property
    def capacity(self) -> Capacity | None:
        """What a search for it has come to so far; None where that is not what the points are for."""

    def after(
        self, points: Sequence[PlannedPoint], results: Sequence[PointResult], last: Records | None
    ) -> PlannedPoint | None:
        """The point after `points`, from what was measured so far; None where there is to be none. last: the records of
        the last one; of what an earlier attempt of the run measured only where the points are probes."""


class Sweep:
    """Runs the points of a profile in order, stores each as it ends, and keeps what became of them."""

    def __init__(
        self,
        bench: Bench,
        fleet: Fleet,
        interrupt: Interrupt,
        progress: Watched,
        metrics: "Sources | None",
        hygiene: CacheHygiene,
        ledger: Ledger,
        version: str | None,
        board: Board,
        meeting: Meeting | None = None,
    ) -> None:
        self._bench, self._fleet, self._interrupt, self._progress = bench, fleet, interrupt, progress
        self._metrics, self._ledger, self._server_version = metrics, ledger, version
        self._hygiene, self._board, self._meeting = hygiene, board, meeting
        self._outcomes: list[results.Outcome] = []
        self._rows: list[TableRow] = []
        self._last: Records | None = None  # of the last point
        self._failure: ProfileError | None = None
        self._comparison: Comparison | None = None
        self._earlier: Readable | None = None  # the nights that it read
        self._hardware: HardwareWatch | None = None
        self._exported: Exported | None = None  # what a Prometheus knows of the last point's accelerators
        self._said: set[str] = set()  # of the accelerators: why there are no figures, what went wrong with single ones
        self.calibrations: dict[int, Calibration] = {}  # by the points' numbers
        self.prompts: Callable[[str], Prompts] = lambda _: bench.workload  # under another nonce
        self._further: Further | None = None
        self.nights: Readable | None = None  # where earlier profiles are that this one is compared with

    @property
    def _capacity(self) -> Capacity | None:
        return None if self._further is None else self._further.capacity

    def run(self, planned: Sequence[PlannedPoint], further: Further | None = None) -> None:
        """Runs them in order, and then those that `further` gives, until one cannot be measured or a signal comes."""
        self._further = further
        points = list(planned)
        todo = deque(points)
        most = further.most if further else len(points)
        while todo or self._another(points, todo, further):
            point = todo.popleft()
            earlier = self._ledger.earlier(point.number)
            if earlier is not None:
                self._take_over(point, earlier)
                continue
            if point.number:
                self._pause()
            if self._interrupt:
                break
            try:
                left = left_of(self._meeting, point, self._bench.folder) if self._meeting else Left.SEND
                if left is Left.NOTHING:
                    self._progress.say(f"point {point.number + 1}: this shard's part of it is over")
                else:
                    self._board.point_started(point)
                    self._progress.point_started(point.label, point.number + 1, most)
                    (self._point if left is Left.SEND else self._join)(point)
                if not todo and self._begun_again(point):
                    todo.append(point)
            except Reopened as again:
                todo = deque(points[again.point :])
            except ProfileError as error:
                self._failure = error
                self._progress.say(str(error))
                break
        if self._outcomes and self._bench.settings.save_json_results:
            name, data = results.profile_file(self._outcomes, self._capacity)
            stored = self._ledger.put(name, data)
            self._ledger.profile_is(stored)
            self._ledger.settle()
            self._compare(self._ledger.name(name), data)
            self._page(stored)

    def _another(self, points: list[PlannedPoint], todo: deque[PlannedPoint], further: Further | None) -> bool:
        """Whether there is one more, which then is the last of both."""
        if further is None or self._interrupt:
            return False
        point = further.after(points, [outcome.result for outcome in self._outcomes], self._last)
        if point is None:
            return False
        self._ledger.planned(point)
        points.append(point)
        todo.append(point)
        return True

    def _compare(self, name: str, data: bytes) -> None:
        """Sets a whole profile against earlier ones, where that is asked for."""
        if self.nights is None or self._interrupt or self._failure is not None:
            return
        self._earlier = Remembered(self.nights)  # the page draws them
        try:
            self._comparison = tonight(self._bench.settings, self._earlier, name, data)
        except ProfileError as error:
            self._failure = error
            self._progress.say(str(error))
            return
        for file, content in comparison_files(self._comparison).items():
            self._ledger.put(file, content)

    def _page(self, profile: str) -> None:
        """The profile as a page. Whatever is wrong with it is said, and costs nobody the results, which are stored."""
        if not self._bench.settings.html_report or self._interrupt:  # time is short: a command makes it at any time
            return
        from latency_profile.page.after import profile_page

        try:
            nights = None if self._comparison is None else self._earlier
            name, data = profile_page(profile, self._outcomes, self._bench.folder, nights, self._progress.say)
        except Exception as error:
            self._progress.say(f"there is no HTML page of this profile: {type(error).__name__}: {error}")
            return
        self._ledger.put(name, data)

    def report(self) -> Exit:
        """Prints the table; the exit code, the worst of all that happened."""
        code = self._code()
        if self._further is not None:
            self._rows.sort(key=lambda row: float(row.load))
        slo = results.slo_of(outcome.result for outcome in self._outcomes)
        closing = closing_line(self._rows, code, slo, self._capacity)
        if self._comparison is not None:
            closing = f"{closing} {compared_line(self._comparison)}"
        failure = self._failure or self._ledger.failure
        LOG.write(f"error: {str(failure).rstrip('.')}. {closing}" if failure else closing)
        self._board.done(int(code), closing)
        if self._rows:
            load = ("in", "flight") if self._bench.settings.concurrencies else ("req/s", "rate")
            with suppress(BrokenPipeError):  # whoever read our output has gone; the exit code is still owed
                render_table(self._rows, sys.stdout, load=load, files=self._ledger.places)
                print(spelled(closing, sys.stdout), flush=True)
        return code

    def _code(self) -> Exit:
        if self._interrupt:
            return self._interrupt.exit_code
        failure = self._failure or self._ledger.failure
        if failure is not None:
            if not self._rows:
                raise failure
            return failure.exit_code
        code = results.exit_code((outcome.result for outcome in self._outcomes), self._capacity)
        if code is Exit.DONE and self._comparison is not None:
            return Exit(self._comparison.exit_code)
        return code

    def _take_over(self, point: PlannedPoint, earlier: Earlier) -> None:
        """A point that an earlier attempt of this run has measured."""
        self._progress.say(f"point {point.number + 1}, {point.label}: in the index of this run, and not measured again")
        self._outcomes.append(results.Outcome(earlier.origin, earlier.result, earlier.files))
        self._last = None if earlier.records is None else load(earlier.records)
        self._rows.append(table_row(point.load, earlier.result))
        self._board.point_kept(earlier.result.verdict.verdict)
        if self._meeting and earlier.result.load.shards:  # that attempt may have ended before it could tell the others
            with suppress(StorageError):  # who waits for this goes on without it, later
                self._meeting.merged(point.number, earlier.result.load.shards)

    def _begun_again(self, last: PlannedPoint) -> bool:
        """Whether all shards are to send the last point again, which shard 0 left unfinished. Only it can tell."""
        if self._meeting is None or self._meeting.leads or self._interrupt:
            return False
        return is_begun_again(self._meeting, last.number)

    def _join(self, point: PlannedPoint) -> None:
        """A point that all shards have sent, and that an earlier attempt of shard 0 has not put into the index."""
        assert self._meeting is not None
        records = joined(self._meeting, point.number, self._bench.folder)
        if records is None:
            self._progress.point_finished("not all shards' records are there yet")
        else:
            self._judge(point, records, records, self._save(point, records))

    def _point(self, point: PlannedPoint) -> None:
        bench = bench_of(self._bench, self._meeting, point, self.prompts)
        chunks = bench.chunks
        self._ledger.begun(point, bench.nonce, chunks.folder(point.number) if chunks else None)
        self._hygiene.point_started()
        if self._metrics:
            bench = replace(bench, when_spelled=self._metrics.point_started)
        with (
            self._watched() as hardware,
            run_point(
                bench,
                point,
                self._fleet,
                self._interrupt,
                self._progress.update,
                partial(self._rest_of_context, bench),
                self._meeting,
            ) as measured,
        ):
            if hardware:
                measured.context.hardware = hardware.of(measured.context, self._exported)
                self._say_of(measured.context.hardware)
            records = whole_of(self._meeting, measured, self._bench.folder) if self._meeting else measured
            path = self._save(point, records) if records is not None and len(records) else None
        if records is None:
            self._board.point_measured(measured, None)
            self._progress.point_finished(f"{len(measured)} requests handed in; shard 0 judges the whole")
            return
        if not len(records):
            self._progress.point_finished("cut short before the first request was due")
            return
        self._judge(point, measured, records, path)

    def _judge(self, point: PlannedPoint, measured: Records, records: Records, path: Path | None) -> None:
        """What the point's records say, to all who are told. measured: what this pod sent; path: of the records."""
        result = results.point_result(records)
        self._board.point_measured(measured, result.verdict.verdict)  # what this pod sent, and the verdict on all
        row = table_row(point.load, result)
        self._progress.point_finished(log_line(row))
        bounded = point.duration_s is not None and point.probe is None  # by a time that the user gave
        if point.concurrency is not None and bounded and len(records) == point.prompts:
            self._progress.say(
                f"  --num-prompts={point.prompts} were used up after {records.context.measured_ns / NS:.1f} s of "
                f"{point.duration_s:g} s: a higher number keeps the loop closed for all of its time"
            )
        for status, messages in records.context.client["error_samples"].items():
            for message in messages:
                self._progress.say(f"  {status}: {message}".rstrip(" ×"))
        files: list[str] = []
        if path is not None:
            for name, data in results.point_files(records).items():
                files.append(self._ledger.put(name, data))
            self._ledger.put_records(path)
            self._ledger.ended(point, files, path.name, result, records.context.date)
        self._outcomes.append(results.Outcome(records.context, result, files))
        self._last = records
        self._rows.append(row)
        if self._meeting and result.load.shards and not result.cut_short:
            self._meeting.merged(point.number, result.load.shards)

    def _save(self, point: PlannedPoint, records: Records) -> Path | None:
        """Writes the whole point's records where results are kept: before anything is computed, as a node that goes
        away leaves seconds."""
        records.context.calibration = self.calibrations.get(point.number)
        if not self._bench.settings.save_json_results:
            return None
        path = results.free_path(self._bench.folder, results.records_name(records.context))
        records.save(path)
        return path

    @contextmanager
    def _watched(self) -> "Iterator[PointWatch | None]":
        """Watches server and machine for a point, where their metrics are asked for."""
        if self._metrics is None:
            yield None
            return
        if self._hardware is None:
            from latency_profile.hardware.watch import HardwareWatch

            self._hardware = HardwareWatch(self._bench.targets)
        try:
            with self._hardware.point() as watch:
                yield watch
        finally:
            self._metrics.point_abandoned()  # where the point failed, nobody else would stop looking

    def _say_of(self, readings: "HardwareReadings") -> None:
        """Why there are no figures of accelerators, or of single ones, each once for the profile."""
        absent = [] if readings.absent is None else [f"no GPU figures: {readings.absent}"]
        for line in [*absent, *readings.notices]:
            if line not in self._said:
                self._progress.say(line)
                self._said.add(line)

    def _rest_of_context(self, bench: Bench, start_ns: int, end_ns: int) -> dict[str, Any]:
        prefix_cache = self._hygiene.point_finished()
        metrics: dict[str, dict[str, float]] = {}
        readings: list[Readings] = []
        self._exported = None
        if self._metrics and self._interrupt:  # a Prometheus may have to be waited for, and there is no time left
            self._metrics.point_abandoned()
        elif self._metrics:
            metrics, readings, notices, self._exported = self._metrics.point_finished(start_ns / 1e9, end_ns / 1e9)
            for notice in notices:
                self._progress.say(notice)
        return {
            "server_metrics": metrics,
            "server_readings": readings,
            "prefix_cache": prefix_cache,
            "provenance": provenance(
                bench.settings, bench.workload.description, self._server_version, len(self._fleet)
            ),
        }

    def _pause(self) -> None:
        until = time.monotonic() + self._bench.settings.sleep_seconds
        while time.monotonic() < until and not self._interrupt:
            time.sleep(PAUSE_STEP_S)
