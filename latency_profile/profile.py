"""One profile, from settings to files: prepares everything, runs point after point, stores each as it ends."""

import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backends
from latency_profile import results
from latency_profile.cache_hygiene import CacheHygiene
from latency_profile.calibration.run import calibrate_points
from latency_profile.calibration.structure import Calibration
from latency_profile.errors import Exit, ProfileError, ServerUnavailable, StorageError
from latency_profile.interrupt import Interrupt, interrupts
from latency_profile.parts import (
    choose_door,
    default_model,
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
from latency_profile.report.progress import Progress, make_progress
from latency_profile.report.rows import log_line, table_row
from latency_profile.sender.fleet import Fleet
from latency_profile.server import models_to_ask, server_version
from latency_profile.settings import Settings
from latency_profile.storage import Store
from latency_profile.verdict import exit_code
from latency_profile.workload import prepare

if TYPE_CHECKING:
    from latency_profile.telemetry.source import MetricsSource

PAUSE_STEP_S = 0.1
FIRST_REQUEST_PAUSE_S = 1.0
SHORTEST_FIRST_REQUEST_S = 1.0  # what it gets of the time to wait, where health took all of it


def run(settings: Settings, environ: Mapping[str, str]) -> Exit:
    """Runs the profile that the settings ask for. Raises ProfileError where nothing could be measured."""
    backend = backends.load(settings.backend)
    chosen = choose_door(settings, backend)
    points = plan_points(settings)
    nonce = settings.nonce or secrets.token_hex(8)
    stores = open_stores(settings)
    default = default_model(settings, backend, chosen)
    models = settings.models or (default or "",)  # the server is asked, once all else is right
    workload = prepare(workload_spec(settings, models, nonce), sum(point.prompts for point in points))
    servers = servers_of(settings, environ, chosen.door.framing == "grpc")
    if settings.dry_run:
        from latency_profile.dry_run import describe

        describe(settings, chosen, points, workload, servers, sys.stdout)
        return Exit.DONE
    for store in stores:
        store.check()
    with make_progress(sys.stderr) as progress, interrupts() as interrupt:
        deadline = time.monotonic() + (settings.wait_for_server or 0)
        if settings.wait_for_server is not None:
            health = chosen.door.health_path or backend.health_path
            wait_for(servers, health, settings.wait_for_server, lambda: bool(interrupt), progress.say)
            if interrupt:
                return interrupt.exit_code
        targets = [server.target() for server in servers]
        models = models_to_ask(servers, backend, settings.models, default)
        workload = workload.for_models(models)
        metrics = metrics_source(settings, servers)
        with _folder(settings) as folder, Fleet(sender_processes(settings, points, workload)) as fleet:
            bench = Bench(
                settings=settings,
                chosen=chosen,
                targets=targets,
                urls=[server.url for server in servers],
                models=models,
                workload=workload,
                nonce=nonce,
                secrets=secrets_of(settings, environ),
                open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                folder=folder,
            )
            if settings.wait_for_server is not None:
                _first_request(bench, fleet, interrupt, deadline, progress.say)
            for notice in workload.notices:
                progress.say(notice)
            version = server_version(servers[0], backend)
            hygiene = CacheHygiene(servers, backend, reset=settings.reset_cache, stop=lambda: bool(interrupt))
            profile = _Profile(bench, fleet, interrupt, progress, metrics, hygiene, stores, version)
            if settings.calibrate:
                profile.calibrations = calibrate_points(settings, points, workload, fleet, interrupt, progress)
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
        progress: Progress,
        metrics: "MetricsSource | None",
        hygiene: CacheHygiene,
        stores: list[Store],
        version: str | None,
    ) -> None:
        self._bench, self._fleet, self._interrupt, self._progress = bench, fleet, interrupt, progress
        self._metrics, self.stores, self._server_version = metrics, stores, version
        self._hygiene = hygiene
        self._outcomes: list[results.Outcome] = []
        self._rows: list[TableRow] = []
        self._places: list[str] = []
        self._failure: ProfileError | None = None
        self.calibrations: dict[int, Calibration] = {}  # by the points' numbers

    def run(self, points: list[PlannedPoint]) -> None:
        """Runs them in order until one cannot be measured or a signal comes."""
        for point in points:
            if point.number:
                self._pause()
            if self._interrupt:
                break
            self._progress.point_started(point.label, point.number + 1, len(points))
            try:
                self._point(point)
            except ProfileError as error:
                self._failure = error
                self._progress.say(str(error))
                break
        if self._outcomes and self._bench.settings.save_json_results:
            self._store(*results.profile_file(self._outcomes))

    def report(self) -> Exit:
        """Prints the table; the exit code, the worst of all that happened."""
        code = self._code()
        if self._rows:
            load = ("in", "flight") if self._bench.settings.concurrencies else ("req/s", "rate")
            with suppress(BrokenPipeError):  # whoever read our output has gone; the exit code is still owed
                render_table(self._rows, sys.stdout, load=load, files=self._places)
                print(closing_line(self._rows, code), flush=True)
        return code

    def _code(self) -> Exit:
        if self._interrupt:
            return self._interrupt.exit_code
        if self._failure is not None:
            if not self._rows:
                raise self._failure
            return self._failure.exit_code
        return exit_code(outcome.result.verdict for outcome in self._outcomes)

    def _point(self, point: PlannedPoint) -> None:
        self._hygiene.point_started()
        if self._metrics:
            self._metrics.point_started()
        records = run_point(
            self._bench, point, self._fleet, self._interrupt, self._progress.update, self._rest_of_context
        )
        records.context.calibration = self.calibrations.get(point.number)
        if not len(records):
            self._progress.point_finished("cut short before the first request was due")
            return
        result = results.point_result(records)
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
            records.save(results.free_path(self._bench.settings.output_dir, results.records_name(records.context)))
            for name, data in results.point_files(records).items():
                files.append(self._store(name, data))
        self._outcomes.append(results.Outcome(records.context, result, files))
        self._rows.append(row)

    def _rest_of_context(self, start_ns: int, end_ns: int) -> dict[str, Any]:
        prefix_cache = self._hygiene.point_finished()
        metrics: dict[str, dict[str, float]] = {}
        if self._metrics:
            metrics, notices = self._metrics.point_finished(start_ns / 1e9, end_ns / 1e9)
            for notice in notices:
                self._progress.say(notice)
        description = self._bench.workload.description
        return {
            "server_metrics": metrics,
            "prefix_cache": prefix_cache,
            "provenance": provenance(self._bench.settings, description, self._server_version, len(self._fleet)),
        }

    def _store(self, name: str, data: bytes) -> str:
        """Puts a file into every store; the name under which the first has it. A store that fails is remembered."""
        places = []
        for store in self.stores:
            try:
                places.append(store.put(name, data))
            except StorageError as error:
                self._failure = error
                self._progress.say(str(error))
        self._places.extend(places)
        return Path(places[0]).name if places else name

    def _pause(self) -> None:
        until = time.monotonic() + self._bench.settings.sleep_seconds
        while time.monotonic() < until and not self._interrupt:
            time.sleep(PAUSE_STEP_S)


@contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    """Where spools lie: beside the results where there are any, so that nothing is lost when the machine goes."""
    if settings.save_json_results:
        settings.output_dir.mkdir(parents=True, exist_ok=True)
        yield settings.output_dir
        return
    with tempfile.TemporaryDirectory(prefix="latency-profile-") as folder:
        yield Path(folder)
