"""One profile, from settings to files: prepares everything, runs point after point, stores each as it ends."""

import math
import os
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backends
from backends.base import Backend, Door, Options, Unsupported
from latency_profile import results
from latency_profile.errors import Exit, ProfileError, StorageError, UsageError
from latency_profile.interrupt import Interrupt, interrupts
from latency_profile.plan import NS
from latency_profile.point_run import Bench, run_point
from latency_profile.points import PlannedPoint, plan_points
from latency_profile.provenance import provenance
from latency_profile.report.console import TableRow, render_table
from latency_profile.report.progress import Progress, make_progress
from latency_profile.report.rows import log_line, table_row
from latency_profile.sender.fleet import Fleet
from latency_profile.server import Server, models_to_ask, server_at, server_version
from latency_profile.settings import Settings
from latency_profile.storage import Store, open_bucket, open_folder
from latency_profile.verdict import exit_code
from latency_profile.workload import Lengths, Workload, WorkloadSpec, prepare

if TYPE_CHECKING:
    from latency_profile.telemetry.source import MetricsSource

EVENTS_PER_PROCESS = 20_000  # a second: a third of what one was measured to stamp on a core of its own
PAUSE_STEP_S = 0.1


def run(settings: Settings, environ: Mapping[str, str]) -> Exit:
    """Runs the profile that the settings ask for. Raises ProfileError where nothing could be measured."""
    backend = backends.load(settings.backend)
    door_name, door = choose_door(settings, backend)
    points = plan_points(settings)
    nonce = settings.nonce or secrets.token_hex(8)
    stores = _stores(settings)
    models = settings.models or ("",)  # without a name: the server is asked, once all else is right
    workload = prepare(_workload_spec(settings, models, nonce), sum(point.prompts for point in points))
    if settings.dry_run:
        from latency_profile.dry_run import describe

        describe(settings, door, points, workload, server_of(settings, environ), sys.stdout)
        return Exit.DONE
    server = server_of(settings, environ)
    target = server.target(door.path)
    models = models_to_ask(server, backend, settings.models)
    workload = workload.for_models(models)
    for store in stores:
        store.check()
    metrics = _metrics_source(settings, server)
    with (
        make_progress(sys.stderr) as progress,
        interrupts() as interrupt,
        _folder(settings) as folder,
        Fleet(_processes(settings, points, workload)) as fleet,
    ):
        bench = Bench(
            settings=settings,
            door_name=door_name,
            door=door,
            target=target,
            models=models,
            workload=workload,
            nonce=nonce,
            secrets=_secrets(settings, environ),
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            folder=folder,
        )
        for notice in workload.notices:
            progress.say(notice)
        profile = _Profile(bench, fleet, interrupt, progress, metrics, stores, server_version(server, backend))
        profile.run(points)
    return profile.report()


class _Profile:
    """The points that have run so far, and what became of them."""

    def __init__(
        self,
        bench: Bench,
        fleet: Fleet,
        interrupt: Interrupt,
        progress: Progress,
        metrics: "MetricsSource | None",
        stores: list[Store],
        version: str | None,
    ) -> None:
        self._bench, self._fleet, self._interrupt, self._progress = bench, fleet, interrupt, progress
        self._metrics, self._stores, self._server_version = metrics, stores, version
        self._outcomes: list[results.Outcome] = []
        self._rows: list[TableRow] = []
        self._places: list[str] = []
        self._failure: ProfileError | None = None

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
        if self._rows:
            closed = bool(self._bench.settings.concurrencies)
            render_table(
                self._rows, sys.stdout, load=("in", "flight") if closed else ("req/s", "rate"), files=self._places
            )
        if self._interrupt:
            return self._interrupt.exit_code
        if self._failure is not None:
            if not self._rows:
                raise self._failure
            return self._failure.exit_code
        return exit_code(outcome.result.verdict for outcome in self._outcomes)

    def _point(self, point: PlannedPoint) -> None:
        if self._metrics:
            self._metrics.point_started()
        records = run_point(
            self._bench, point, self._fleet, self._interrupt, self._progress.update, self._rest_of_context
        )
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
                self._progress.say(f"  {status}: {message}")
        files: list[str] = []
        if self._bench.settings.save_json_results:
            records.save(_free_path(self._bench.settings.output_dir / results.records_name(records.context)))
            for name, data in results.point_files(records).items():
                files.append(self._store(name, data))
        self._outcomes.append(results.Outcome(records.context, result, files))
        self._rows.append(row)

    def _rest_of_context(self, start_ns: int, end_ns: int) -> dict[str, Any]:
        metrics: dict[str, dict[str, float]] = {}
        if self._metrics:
            metrics, notices = self._metrics.point_finished(start_ns / 1e9, end_ns / 1e9)
            for notice in notices:
                self._progress.say(notice)
        description = self._bench.workload.description
        return {
            "server_metrics": metrics,
            "provenance": provenance(description, self._server_version, len(self._fleet)),
        }

    def _store(self, name: str, data: bytes) -> str:
        """Puts a file into every store; the name under which the first has it. A store that fails is remembered."""
        places = []
        for store in self._stores:
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


def choose_door(settings: Settings, backend: Backend) -> tuple[str, Door]:
    """The door that --endpoint names. Raises UsageError."""
    options = Options(
        stream=settings.stream_request,
        ignore_eos=settings.ignore_eos,
        best_of=settings.best_of,
        use_beam_search=settings.use_beam_search,
        top_k=settings.top_k,
        temperature=settings.temperature,
        extra_body=settings.extra_body,
    )
    try:
        return backend.door(settings.endpoint, options)
    except KeyError:
        doors = ", ".join(f"{name} ({door.path})" for name, door in backend.doors.items())
        raise UsageError(
            f"{settings.spelled('endpoint')}: got {settings.endpoint!r}, takes generate (the first) or one of {doors}"
        ) from None
    except Unsupported as error:
        raise UsageError(str(error)) from None


def server_of(settings: Settings, environ: Mapping[str, str]) -> Server:
    """The server that the settings name, with the headers that every request carries."""
    headers = list(settings.header)
    key = settings.api_key(environ)
    if key and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("authorization", f"Bearer {key}"))
    ca_file = str(settings.ca_file) if settings.ca_file else None
    return server_at(settings.host, settings.port, settings.url, headers, ca_file, not settings.insecure)


def _secrets(settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What no message may repeat: the key, and the values of the user's headers."""
    key = settings.api_key(environ)
    return tuple(filter(None, [key, *(value for _, value in settings.header)]))


def _workload_spec(settings: Settings, models: tuple[str, ...], nonce: str) -> WorkloadSpec:
    return WorkloadSpec(
        tokenizer=settings.tokenizer,
        dataset=settings.dataset,
        dummy_text=settings.use_dummy_text,
        input_lengths=_lengths(
            settings.input_len, settings.input_len_stddev, settings.input_len_min, settings.input_len_max
        ),
        output_lengths=_lengths(
            settings.output_len, settings.output_len_stddev, settings.output_len_min, settings.output_len_max
        ),
        models=models,
        traffic_split=settings.traffic_split,
        max_input_length=settings.max_input_length,
        max_output_length=settings.max_output_length,
        seed=settings.seed,
        nonce=nonce,
        unique=settings.unique_prompts,
        trust_remote_code=settings.trust_remote_code,
        cache_dir=settings.cache_dir,
    )


def _lengths(mean: int | None, stddev: float, low: int | None, high: int | None) -> Lengths | None:
    if mean is None:
        return None
    if not stddev:
        return Lengths.fixed(mean)
    return Lengths(mean=mean, stddev=stddev, low=low or 1, high=high or math.ceil(mean + 6 * stddev))


def _processes(settings: Settings, points: list[PlannedPoint], workload: Workload) -> int:
    """Sender processes: as many as the steepest point's events need, and one core is left for the rest."""
    if settings.workers:
        return settings.workers
    finite = [point.rate for point in points if point.rate is not None and not math.isinf(point.rate)]
    lengths = [request.output_length for request in workload.requests(0, min(100, points[0].prompts))]
    events = max(finite, default=0.0) * (sum(lengths) / len(lengths) if settings.stream_request and lengths else 1)
    cores = len(os.sched_getaffinity(0))
    return max(1, min(math.ceil(events / EVENTS_PER_PROCESS), cores - 1))


def _stores(settings: Settings) -> list[Store]:
    if not settings.save_json_results:
        return []
    stores = [open_folder(settings.output_dir)]
    if settings.output_bucket:
        stores.append(open_bucket(settings.output_bucket, settings.output_bucket_filepath))
    return stores


def _metrics_source(settings: Settings, server: Server) -> "MetricsSource | None":
    if not settings.scrape_server_metrics:
        return None
    from latency_profile.telemetry.source import MetricsSpec, open_source

    source = open_source(
        MetricsSpec(
            kind="auto",
            base_url=server.url,
            prometheus_url=settings.prometheus_url,
            namespace=_pod_monitoring(settings, "pm_namespace"),
            job=_pod_monitoring(settings, "pm_job"),
            backend=settings.backend,
            headers=dict(server.headers),
            verify=server.ca_file or server.verify,
        )
    )
    source.check()
    return source


def _pod_monitoring(settings: Settings, name: str) -> str | None:
    """Which pods' metrics to take. The defaults are those of Google's PodMonitoring; a Prometheus of one's own has
    other names, and is asked without any unless they are given."""
    value: str = getattr(settings, name)
    return value if settings.given(name) or settings.prometheus_url is None else None


@contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    """Where spools lie: beside the results where there are any, so that nothing is lost when the machine goes."""
    if settings.save_json_results:
        settings.output_dir.mkdir(parents=True, exist_ok=True)
        yield settings.output_dir
        return
    with tempfile.TemporaryDirectory(prefix="latency-profile-") as folder:
        yield Path(folder)


def _free_path(path: Path) -> Path:
    """`path`, or its first numbered form that is not there yet: results are never overwritten."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(path.name.replace(".records.npz", f"-{number}.records.npz"))
        number += 1
    return free
