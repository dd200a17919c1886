"""One profile, from settings to files: prepares everything, and has the points run."""

import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import backends
from latency_profile.adaptive.source import AdaptiveRates
from latency_profile.cache_hygiene import CacheHygiene
from latency_profile.calibration.run import calibrate_points
from latency_profile.capacity.source import CapacitySearch
from latency_profile.compare.nightly import place_of_nights
from latency_profile.errors import Exit, ServerUnavailable
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
from latency_profile.point_run import Bench, ask_once
from latency_profile.points import plan_points, prompts_of
from latency_profile.readiness import wait_for
from latency_profile.report.closing import closing_line
from latency_profile.report.progress import make_progress
from latency_profile.resume import Ledger, index_of, may_resume
from latency_profile.sender.fleet import Fleet
from latency_profile.server import models_to_ask, server_version
from latency_profile.settings import Settings
from latency_profile.shards.agreement import agreement, check_points
from latency_profile.sweep import Further, Sweep
from latency_profile.workload import prepare

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
    workload = prepare(workload_spec(settings, models, nonce), prompts_of(settings, points))
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
    board.planned(settings.adaptive_rates or len(points))
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
        # A server that hangs would keep a signal from being seen.
        with ending(lambda: LOG.write(closing_line([], Exit.SIGTERM))):
            targets = [server.target() for server in servers]
            models = models_to_ask(servers, backend, settings.models, default)
            workload = workload.for_models(models)
            leads = meeting is None or meeting.leads  # the merged point has shard 0's view of the server
            metrics = metrics_source(settings, servers, models) if leads else None
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
                first_prompt=0 if meeting else ledger.first_prompt(),  # shards keep the run's nonce
                chunks=chunks_of(settings, attempt, secrets_of(settings, environ), progress.say),
                when_sent=board.sending_is_over,
            )
            if settings.wait_for_server is not None:
                _first_request(bench, fleet, interrupt, deadline, progress.say)
                if metrics:
                    metrics.used()
            for notice in filter(None, (*workload.notices, too_few_files)):
                progress.say(notice)
            board.server_is_ready()
            version = server_version(servers[0], backend)
            reset = settings.reset_cache and (meeting is None or meeting.leads)
            hygiene = CacheHygiene(servers, backend, reset=reset, stop=lambda: bool(interrupt))
            if meeting:
                meeting.stopped, meeting.say = (lambda: bool(interrupt)), progress.say
                meeting.agreement = agreement(settings, points, models, bench.urls, workload.description)
            profile = Sweep(bench, fleet, interrupt, progress, metrics, hygiene, ledger, version, board, meeting)
            profile.nights, profile.prompts = nights, workload.for_nonce
            if settings.calibrate:
                board.phase(Phase.CALIBRATING)
                profile.calibrations = calibrate_points(
                    settings, ledger.to_measure(points), workload, fleet, interrupt, shown
                )
            further: Further | None = None
            if settings.adaptive_rates is not None:
                further = AdaptiveRates(settings, settings.adaptive_rates, progress.say)
            elif settings.find_capacity:
                further = CapacitySearch(settings)
            profile.run(points, further)
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
