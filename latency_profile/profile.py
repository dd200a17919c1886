"""One profile, from settings to files: prepares everything, runs point after point, stores each as it ends."""

import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backends
from latency_profile import results
from latency_profile.cache_hygiene import CacheHygiene
from latency_profile.calibration.run import calibrate_points
from latency_profile.calibration.structure import Calibration
from latency_profile.compare.nightly import comparison_files, place_of_nights, tonight
from latency_profile.compare.nights import Readable
from latency_profile.compare.structure import Comparison
from latency_profile.compare.text import compared_line
from latency_profile.errors import Exit, ProfileError, ServerUnavailable
from latency_profile.interrupt import Interrupt, ending, interrupts
from latency_profile.live.board import Board, Watched
from latency_profile.live.server import LiveServer
from latency_profile.live.stay import stay, stays_after
from latency_profile.live.termination import LOG
from latency_profile.live.view import Phase
from latency_profile.open_files import check_open_files
from latency_profile.parts import (
    choose_door,
    chunks_of,
    default_model,
    meeting_of,
    metrics_source,
    open_stores,
    secrets_of,
    sender_processes,
    servers_of,
    workload_spec,
)
from latency_profile.plan import NS
from latency_profile.point_run import Bench, ask_once, run_point
from latency_profile.points import PlannedPoint, plan_points
from latency_profile.provenance import provenance
from latency_profile.readiness import wait_for
from latency_profile.report.closing import closing_line
from latency_profile.report.console import TableRow, render_table
from latency_profile.report.progress import make_progress
from latency_profile.report.rows import log_line, table_row
from latency_profile.resume import Earlier, Ledger, index_of, may_resume
from latency_profile.sender.fleet import Fleet
from latency_profile.server import models_to_ask, server_version
from latency_profile.settings import Settings
from latency_profile.shards.agreement import agreement, check_points
from latency_profile.shards.meeting import Meeting
from latency_profile.shards.whole import whole_of
from latency_profile.verdict import exit_code
from latency_profile.workload import prepare

if TYPE_CHECKING:
    from latency_profile.telemetry.source import MetricsSource

PAUSE_STEP_S = 0.1
FIRST_REQUEST_PAUSE_S = 1.0
SHORTEST_FIRST_REQUEST_S = 1.0  # what it gets of the time to wait, where health took all of it


def run(settings: Settings, environ: Mapping[str, str]) -> Exit:
    """Runs the profile that the settings ask for, in view of whoever watches the pod. Raises ProfileError where nothing
    could be measured."""
    LOG.path = settings.termination_log or LOG.path
    board = Board()
    if settings.dry_run:
        return _measure(settings, environ, board)
    with LiveServer(board, settings.metrics_port) if settings.metrics_port else nullcontext():
        code = _measure(settings, environ, board)
        if settings.stay and stays_after(code):
            stay()
        return code


def _measure(settings: Settings, environ: Mapping[str, str], board: Board) -> Exit:
    backend = backends.load(settings.backend)
    chosen = choose_door(settings, backend)
    points = plan_points(settings)
    check_points(settings, points)
    nonce = settings.nonce or secrets.token_hex(8)
    stores = open_stores(settings)
    meeting = meeting_of(settings, stores)
    if meeting and not settings.dry_run:
        stores[-1].check()
        meeting.say = lambda text: print(text, file=sys.stderr, flush=True)  # there is no progress to show yet
        nonce = meeting.join(nonce)
    default = default_model(settings, backend, chosen)
    models = settings.models or (default or "",)  # the server is asked, once all else is right
    workload = prepare(workload_spec(settings, models, nonce), sum(point.prompts for point in points))
    servers = servers_of(settings, environ, chosen.door.framing == "grpc")
    processes = sender_processes(settings, points, workload)
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # a sender takes all that it may
    too_few_files = check_open_files(points, open_files, processes, settings.tcp_conn_limit, len(servers))
    if settings.dry_run:
        from latency_profile.dry_run import describe

        describe(settings, chosen, points, workload, servers, sys.stdout)
        return Exit.DONE
    for store in stores:
        store.check()
    nights = place_of_nights(settings, stores)
    board.planned(len(points))
    with make_progress(sys.stderr) as shown, interrupts() as interrupt:
        progress = Watched(shown, board)
        deadline = time.monotonic() + (settings.wait_for_server or 0)
        if settings.wait_for_server is not None:
            health = chosen.door.health_path or backend.health_path
            board.phase(Phase.WAITING)
            wait_for(servers, health, settings.wait_for_server, lambda: bool(interrupt), progress.say)
        if interrupt:
            LOG.write(closing_line([], interrupt.exit_code))
            return interrupt.exit_code
        with ending():  # a server that hangs would keep a signal from being seen
            targets = [server.target() for server in servers]
            models = models_to_ask(servers, backend, settings.models, default)
            workload = workload.for_models(models)
            metrics = metrics_source(settings, servers)
        with _folder(settings) as folder, Fleet(processes) as fleet:
            ledger = Ledger(stores, settings.run_id, progress.say, lambda: bool(interrupt))
            urls = [server.url for server in servers]
            attempt = meeting.attempt if meeting else nonce
            resumes = may_resume(settings, environ, progress.say)
            if settings.run_id and (meeting is None or meeting.leads):
                ledger.begin(index_of(settings, chosen.name, models, workload.description, urls, points), resumes)
            bench = Bench(
                settings=settings,
                chosen=chosen,
                targets=targets,
                urls=urls,
                models=models,
                workload=workload,
                nonce=nonce,
                secrets=secrets_of(settings, environ),
                open_files=open_files,
                folder=folder,
                first_prompt=0 if meeting else ledger.first_prompt(points),  # shards keep the run's nonce
                chunks=chunks_of(settings, attempt, secrets_of(settings, environ), progress.say),
                when_sent=board.sending_is_over,
            )
            if settings.wait_for_server is not None:
                _first_request(bench, fleet, interrupt, deadline, progress.say)
            for notice in filter(None, (*workload.notices, too_few_files)):
                progress.say(notice)
            board.server_is_ready()
            version = server_version(servers[0], backend)
            reset = settings.reset_cache and (meeting is None or meeting.leads)
            hygiene = CacheHygiene(servers, backend, reset=reset, stop=lambda: bool(interrupt))
            if meeting:
                meeting.stopped, meeting.say = (lambda: bool(interrupt)), progress.say
                meeting.agreement = agreement(settings, points, models, bench.urls, workload.description)
            profile = _Profile(bench, fleet, interrupt, progress, metrics, hygiene, ledger, version, board, meeting)
            profile.nights = nights
            if settings.calibrate:
                board.phase(Phase.CALIBRATING)
                profile.calibrations = calibrate_points(
                    settings, ledger.to_measure(points), workload, fleet, interrupt, shown
                )
            profile.run(points)
    return profile.report()


def _first_request(
    bench: Bench, fleet: Fleet, interrupt: Interrupt, deadline: float, say: Callable[[str], None]
) -> None:
    """One real request to every URL, again until all are answered: healthy is not yet able. Raises ServerUnavailable at
    the deadline, in time.monotonic() seconds, and at once where no waiting would help."""
    said = ""
    while not interrupt:
        left = max(deadline - time.monotonic(), SHORTEST_FIRST_REQUEST_S)
        failure = ask_once(bench, fleet, interrupt, min(left, bench.settings.request_timeout))
        if failure is None:
            return
        if failure.final or time.monotonic() + FIRST_REQUEST_PAUSE_S > deadline:
            raise ServerUnavailable(f"the server is up, and a first request fails: {failure.reason}")
        if failure.reason != said:
            say(f"waiting: a first request fails: {failure.reason}")
            said = failure.reason
        time.sleep(FIRST_REQUEST_PAUSE_S)


class _Profile:
    """The points that have run so far, and what became of them."""

    def __init__(
        self,
        bench: Bench,
        fleet: Fleet,
        interrupt: Interrupt,
        progress: Watched,
        metrics: "MetricsSource | None",
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
        self._failure: ProfileError | None = None
        self._comparison: Comparison | None = None
        self.calibrations: dict[int, Calibration] = {}  # by the points' numbers
        self.nights: Readable | None = None  # where earlier profiles are that this one is compared with

    def run(self, points: list[PlannedPoint]) -> None:
        """Runs them in order until one cannot be measured or a signal comes."""
        for point in points:
            earlier = self._ledger.earlier(point.number)
            if earlier is not None:
                self._take_over(point, earlier)
                continue
            if point.number:
                self._pause()
            if self._interrupt:
                break
            if self._meeting and self._meeting.over(point.number):
                self._progress.say(f"point {point.number + 1} is over: its shards have measured it")
                continue
            self._board.point_started(point)
            self._progress.point_started(point.label, point.number + 1, len(points))
            try:
                self._point(point)
            except ProfileError as error:
                self._failure = error
                self._progress.say(str(error))
                break
        if self._outcomes and self._bench.settings.save_json_results:
            name, data = results.profile_file(self._outcomes)
            self._ledger.profile_is(self._ledger.put(name, data))
            self._ledger.settle()
            self._compare(self._ledger.name(name), data)

    def _compare(self, name: str, data: bytes) -> None:
        """Sets a whole profile against earlier ones, where that is asked for."""
        if self.nights is None or self._interrupt or self._failure is not None:
            return
        try:
            self._comparison = tonight(self._bench.settings, self.nights, name, data)
        except ProfileError as error:
            self._failure = error
            self._progress.say(str(error))
            return
        for file, content in comparison_files(self._comparison).items():
            self._ledger.put(file, content)

    def report(self) -> Exit:
        """Prints the table; the exit code, the worst of all that happened."""
        code = self._code()
        closing = closing_line(self._rows, code)
        if self._comparison is not None:
            closing = f"{closing} {compared_line(self._comparison)}"
        failure = self._failure or self._ledger.failure
        LOG.write(f"error: {str(failure).rstrip('.')}. {closing}" if failure else closing)
        self._board.done(int(code), closing)
        if self._rows:
            load = ("in", "flight") if self._bench.settings.concurrencies else ("req/s", "rate")
            with suppress(BrokenPipeError):  # whoever read our output has gone; the exit code is still owed
                render_table(self._rows, sys.stdout, load=load, files=self._ledger.places)
                print(closing, flush=True)
        return code

    def _code(self) -> Exit:
        if self._interrupt:
            return self._interrupt.exit_code
        failure = self._failure or self._ledger.failure
        if failure is not None:
            if not self._rows:
                raise failure
            return failure.exit_code
        code = exit_code(outcome.result.verdict for outcome in self._outcomes)
        if code is Exit.DONE and self._comparison is not None:
            return Exit(self._comparison.exit_code)
        return code

    def _take_over(self, point: PlannedPoint, earlier: Earlier) -> None:
        """A point that an earlier attempt of this run has measured."""
        self._progress.say(f"point {point.number + 1}, {point.label}: in the index of this run, and not measured again")
        self._outcomes.append(results.Outcome(earlier.origin, earlier.result, earlier.files))
        self._rows.append(table_row(point.load, earlier.result))
        self._board.point_kept(earlier.result.verdict.verdict)

    def _point(self, point: PlannedPoint) -> None:
        chunks = self._bench.chunks
        self._ledger.begun(point, self._bench.nonce, chunks.folder(point.number) if chunks else None)
        self._hygiene.point_started()
        if self._metrics:
            self._metrics.point_started()
        measured = run_point(
            self._bench,
            point,
            self._fleet,
            self._interrupt,
            self._progress.update,
            self._rest_of_context,
            self._meeting,
        )
        records = whole_of(self._meeting, measured, self._bench.folder) if self._meeting else measured
        if records is None:
            self._board.point_measured(measured, None)
            self._progress.point_finished(f"{len(measured)} requests handed in; shard 0 judges the whole")
            return
        records.context.calibration = self.calibrations.get(point.number)
        if not len(records):
            self._progress.point_finished("cut short before the first request was due")
            return
        path = results.free_path(self._bench.folder, results.records_name(records.context))
        if self._bench.settings.save_json_results:  # before anything is computed: a node that goes away leaves seconds
            records.save(path)
        result = results.point_result(records)
        self._board.point_measured(measured, result.verdict.verdict)  # what this pod sent, and the verdict on all
        row = table_row(point.load, result)
        self._progress.point_finished(log_line(row))
        if point.concurrency is not None and point.duration_s is not None and len(records) == point.prompts:
            self._progress.say(
                f"  --num-prompts={point.prompts} were used up after {records.context.measured_ns / NS:.1f} s of "
                f"{point.duration_s:g} s: a higher number keeps the loop closed for all of its time"
            )
        for status, messages in records.context.client["error_samples"].items():
            for message in messages:
                self._progress.say(f"  {status}: {message}".rstrip(" ×"))
        files: list[str] = []
        if self._bench.settings.save_json_results:
            for name, data in results.point_files(records).items():
                files.append(self._ledger.put(name, data))
            self._ledger.put_records(path)
            self._ledger.ended(point, files, path.name, result, records.context.date)
        if self._meeting and result.load.shards and not result.cut_short:
            self._meeting.merged(point.number, result.load.shards)
        self._outcomes.append(results.Outcome(records.context, result, files))
        self._rows.append(row)

    def _rest_of_context(self, start_ns: int, end_ns: int) -> dict[str, Any]:
        prefix_cache = self._hygiene.point_finished()
        metrics: dict[str, dict[str, float]] = {}
        if self._metrics and not self._interrupt:  # a Prometheus may have to be waited for, and there is no time left
            metrics, notices = self._metrics.point_finished(start_ns / 1e9, end_ns / 1e9)
            for notice in notices:
                self._progress.say(notice)
        description = self._bench.workload.description
        return {
            "server_metrics": metrics,
            "prefix_cache": prefix_cache,
            "provenance": provenance(self._bench.settings, description, self._server_version, len(self._fleet)),
        }

    def _pause(self) -> None:
        until = time.monotonic() + self._bench.settings.sleep_seconds
        while time.monotonic() < until and not self._interrupt:
            time.sleep(PAUSE_STEP_S)


@contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    """Where spools lie: beside the results where there are any, so that nothing is lost when the machine goes."""
    if settings.save_json_results:
        folder = settings.output_dir / settings.run_id if settings.run_id else settings.output_dir
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="latency-profile-") as temporary:
        yield Path(temporary)
