"""Runs a calibration: the sender of a profile, on its own processes, against a loopback server of known timing.

The server is a process of this machine that ends with the calibration. Nothing is sent to the server under test.
"""

import dataclasses
import itertools
import resource
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

import backends
from backends.base import Options
from latency_profile import children
from latency_profile.calibration.compare import compare
from latency_profile.calibration.encoded import MODEL
from latency_profile.calibration.load import LoadToRun, of_point, of_rate
from latency_profile.calibration.schedule import Cadence
from latency_profile.calibration.search import MOST_STEPS, highest_rate, step_of
from latency_profile.calibration.structure import Calibration, HighestRate, Step
from latency_profile.calibration.text import short_text
from latency_profile.errors import ProfileError, ServerUnavailable
from latency_profile.interrupt import Interrupt
from latency_profile.measures import is_burst
from latency_profile.plan import NS
from latency_profile.point_run import Bench, run_point
from latency_profile.points import PlannedPoint
from latency_profile.report.progress import Progress, Snapshot
from latency_profile.sender.fleet import Fleet
from latency_profile.server import server_at
from latency_profile.settings import Settings
from latency_profile.simulator.log import read_log
from latency_profile.workload import Workload

POINT_S = 10.0  # of a planned point
STEP_S = 3.0  # of the search for the highest event rate
TIMEOUT_S = 120.0
_SPEAKS = ("vllm", "openai")  # of the backends, what the server of known timing speaks; others are taken as the last
_STOP_S = 30.0  # for the server to write its log

Look = Callable[[Snapshot], None]


def calibrate(
    load: LoadToRun, settings: Settings, fleet: Fleet, interrupt: Interrupt, look: Look
) -> Calibration | None:
    """One load, with the settings and the processes of the profile. None where a signal ended it. Raises ProfileError.

    Of the settings, those of the client hold (streaming, limit on connections); those of the user's server do not.
    """
    with tempfile.TemporaryDirectory(prefix="latency-profile-calibration-") as name:
        folder = Path(name)
        load.schedule.save(folder / "schedule.npz")
        with known_server(folder) as port:
            bench = _bench(settings, port, load, folder)
            with run_point(bench, load.point, fleet, interrupt, look, _nothing_more) as records:
                pass  # they are compared when the server has written its log
        if interrupt:
            return None
        try:
            found = compare(records, read_log(folder / "truth.npz"))
        except ValueError as error:
            raise ProfileError(f"calibration: {error}") from None
    due = load.point.due_ns
    return Calibration(
        cadence=load.cadence,
        planned_s=load.seconds if due is None else min(load.seconds, float(due[-1]) / NS),
        processes=load.point.shards(len(fleet), settings.tcp_conn_limit, 1),
        burst=is_burst(records.context),
        highest=None,
        **{field.name: getattr(found, field.name) for field in dataclasses.fields(found)},
    )


def calibrate_points(
    settings: Settings,
    points: Sequence[PlannedPoint],
    workload: Workload,
    fleet: Fleet,
    interrupt: Interrupt,
    progress: Progress,
    *,
    seconds: float = POINT_S,
) -> dict[int, Calibration]:
    """Each point's own plan in the assumed cadence, and once for all of them the highest event rate. By the points'
    numbers; without those that a signal left out."""
    found: dict[int, Calibration] = {}
    steepest = 0.0
    tokens = 1.0
    cadence = Cadence(*settings.calibration_cadence)
    for place, point in enumerate(points, 1):
        if interrupt:
            break
        if not point.prompts:
            continue  # so low a rate that nothing is due in its time
        progress.point_started(f"calibration, {point.label}", place, len(points))
        lengths = [
            (each.input_length, each.output_length) for each in workload.requests(point.first_prompt, point.prompts)
        ]
        inputs, outputs = ([pair[side] for pair in lengths] for side in (0, 1))
        load = of_point(point, inputs, outputs, cadence, seconds, settings.seed)
        calibration = calibrate(load, settings, fleet, interrupt, progress.update)
        if calibration is not None:
            progress.point_finished(short_text(calibration))
            found[point.number] = calibration
            steepest = max(steepest, load.events_per_s)
            tokens = float(np.mean(outputs))
    if not settings.calibration_search or interrupt or not found:
        return found
    highest = highest_events(settings, steepest, tokens, fleet, interrupt, progress)
    return {number: msgspec.structs.replace(each, highest=highest) for number, each in found.items()}


def highest_events(
    settings: Settings,
    plan_events_per_s: float,
    mean_tokens: float,
    fleet: Fleet,
    interrupt: Interrupt,
    progress: Progress,
) -> HighestRate | None:
    """The highest event rate of these processes on this machine; None where a signal ended the search."""
    cadence = Cadence(*settings.calibration_cadence)
    streamed = dataclasses.replace(settings, stream_request=True)
    numbers = itertools.count(1)

    def run(rate: float) -> Step | None:
        load = of_rate(rate, mean_tokens, cadence, STEP_S, settings.seed)
        progress.point_started(f"calibration, {rate:,.0f} events/s", next(numbers), MOST_STEPS)
        found = calibrate(load, streamed, fleet, interrupt, progress.update)
        if found is None:
            return None
        step = step_of(rate, found)
        progress.point_finished("within the limits" if step.limit is None else f"the {step.limit} falls short")
        return step

    return highest_rate(plan_events_per_s, run)


@contextmanager
def known_server(folder: Path) -> Iterator[int]:
    """The server of known timing on a free port, answering as `schedule.npz` in the folder says; by the end of the
    block it has ended and written `truth.npz`. Raises ServerUnavailable."""
    files = ("--schedule", str(folder / "schedule.npz"), "--log", str(folder / "truth.npz"))
    command = children.command("latency_profile.calibration.server", "--until-eof", *files)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # it ends with us, however we do
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=children.environment(),
    ) as server:
        assert server.stdout
        try:
            line = server.stdout.readline()  # "listening on http://127.0.0.1:PORT"
            if not line:
                raise ServerUnavailable("the server of known timing did not start")
            yield int(line.rstrip().rpartition(":")[2])
        finally:
            server.terminate()
            try:
                server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _bench(settings: Settings, port: int, load: LoadToRun, folder: Path) -> Bench:
    name = settings.backend if settings.backend in _SPEAKS else _SPEAKS[-1]
    chosen = backends.load(name).choose("completions", Options(stream=settings.stream_request), grpc=None)
    server = server_at("127.0.0.1", port, None, [], None, verify=True)
    changed = dataclasses.replace(
        settings,
        backend=name,
        retries=0,
        until_ci=None,
        request_timeout=TIMEOUT_S,
        warmup_seconds=0.0,
        cooldown_seconds=0.0,
        header=(),
        models=(MODEL,),
        traffic_split=None,
    )
    return Bench(
        settings=changed,
        chosen=chosen,
        targets=[server.target()],
        urls=[server.url],
        models=(MODEL,),
        workload=load.prompts,
        nonce=secrets.token_hex(8),
        secrets=(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        folder=folder,
    )


def _nothing_more(start_ns: int, end_ns: int) -> dict[str, object]:
    del start_ns, end_ns
    return {"server_metrics": {}, "provenance": {}}
