"""Runs one planned point: spells its requests, has the fleet send them, and joins what came back into records."""

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from backends.base import Chosen, Request
from latency_profile.chunks.upload import Chunks, note_taker, storing
from latency_profile.client_counts import Looks, client_counts
from latency_profile.early_end import watching
from latency_profile.errors import ServerUnavailable, StorageError, UsageError
from latency_profile.interrupt import Interrupt
from latency_profile.merge import merge
from latency_profile.open_files import SPARE_FILES
from latency_profile.outcome import Status
from latency_profile.plan import NS
from latency_profile.points import PlannedPoint
from latency_profile.records import PointContext, Records, Stopping
from latency_profile.report.progress import Snapshot
from latency_profile.sender.clock import now_ns
from latency_profile.sender.fleet import Fleet, Live, Ran
from latency_profile.sender.job import Collect, Collected, Point, Target
from latency_profile.settings import Settings
from latency_profile.shards.meeting import Begin, Meeting
from latency_profile.shards.slicing import first_of, part_of
from latency_profile.shards.structure import Part, share
from latency_profile.spelling import Asked, spell
from latency_profile.telemetry.processor import ProcessorReading, ProcessorUse, between, read

# What a server that is only starting does not say.
FINAL = frozenset({Status.HTTP_UNAUTHORIZED, Status.HTTP_REDIRECT, Status.CONTENT_TYPE, Status.TLS_FAILED})
FIRST_REQUEST_TOKENS = 8  # out; and about so many in
# Answers of a point whose text is tokenized although somebody counted them. An error that nine answers in ten show is
# seen in far fewer; tokenizing two hundred answers takes tens of milliseconds.
SAMPLED_TEXTS = 200


class Prompts(Protocol):
    """Where requests come from: a profile's workload, or what a calibration has in its place."""

    @property
    def description(self) -> dict[str, Any]:
        """What the requests were made from, as JSON."""

    def requests(self, start: int, count: int) -> Iterator[Request]:
        """Requests start .. start + count - 1."""

    def count_tokens(self, texts: list[str]) -> list[int]:
        """Tokens of each text: for answers whose server gave no count."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all points of a profile share."""

    settings: Settings
    chosen: Chosen
    targets: list[Target]
    urls: list[str]
    models: tuple[str, ...]
    workload: Prompts
    nonce: str
    secrets: tuple[str, ...]
    open_files: int  # how many a process may have
    folder: Path  # where spools lie while a point runs
    first_prompt: int = 0  # that goes out under this nonce
    chunks: Chunks | None = None  # where a point is stored while it runs
    when_spelled: Callable[[], None] = lambda: None  # told when all is ready and nothing has been sent
    when_sent: Callable[[], None] = lambda: None  # told when a point's last answer has ended, before they are read


@contextmanager
def run_point(
    bench: Bench,
    point: PlannedPoint,
    fleet: Fleet,
    interrupt: Interrupt,
    look: Callable[[Snapshot], None],
    finish: Callable[[int, int], dict[str, Any]],
    meeting: Meeting | None = None,
) -> Iterator[Records]:
    """One point. `finish(start, end)`, in Unix ns, gives what the context still needs: server_metrics, provenance.

    Its spool is removed when the block has done with the records, as saving them; where anything fails before, it
    stays. With a `meeting` the point starts when all of its shards do.
    """
    with _scratch(bench.folder, f"point-{point.number}") as folder, storing(bench.chunks, point.number, folder):
        requests = bench.workload.requests(point.first_prompt, point.prompts)
        asked = spell(bench.chosen, bench.models, requests, point.prompts, folder)
        begin: Begin | None = None
        bench.when_spelled()

        def parts(cut_short: str | None) -> list[Part]:
            workers = _shards(bench, point, fleet)
            return [part_of(point, meeting, begin, workers, cut_short)] if meeting and begin else []

        show = note_taker(
            folder,
            asked,
            lambda start_ns: msgspec.structs.replace(
                _context(bench, point, start_ns, time.time_ns() - now_ns() + start_ns), parts=parts(None)
            ),
            (point.pod, point.pods),
            _looker(bench, point, asked, look),
        )
        begin = meeting.meet(point.number) if meeting else None
        if meeting and begin is None and not interrupt:  # or this shard's slice would pass for the whole
            raise ServerUnavailable(f"--shards: the start of point {point.number + 1} is not to be read in the store")
        sending = _send(bench, point, asked, fleet, interrupt, show, bench.settings.request_timeout, begin)
        ran, orders, collected = sending.ran, sending.orders, sending.collected
        measured_ns = ran.ended_ns - ran.start_ns
        stopped_s = sending.stopping.stopped_after_s if sending.stopping else None
        context = msgspec.structs.replace(
            _context(bench, point, ran.start_ns, ran.started_unix_ns),
            duration_s=point.duration_s if stopped_s is None else stopped_s,
            measured_ns=measured_ns,
            cut_short=interrupt.reason,
            until_ci=sending.stopping,
            parts=parts(interrupt.reason),
            client=client_counts(ran.finished, collected, measured_ns / NS, sending.use, sending.looks),
            **finish(ran.started_unix_ns, ran.started_unix_ns + measured_ns),
        )
        records = merge(
            context,
            [order.columns for order in orders],
            due_ns=point.due_ns,
            ended_ns=measured_ns if stopped_s is None else round(stopped_s * NS),
            asked=asked.columns,
            urls=len(bench.urls),
            pod=(point.pod, point.pods),
            count_tokens=bench.workload.count_tokens,
        )
        try:
            yield records
        except StorageError as error:
            raise StorageError(f"{error}; what was measured is in {folder}, for latency-profile recover") from error


def _context(bench: Bench, point: PlannedPoint, start_ns: int, started_unix_ns: int) -> PointContext:
    """What is known of a point when it starts."""
    return PointContext(
        settings=bench.settings.as_dict(),
        point=point.number,
        request_rate=None if point.rate is None or np.isinf(point.rate) else point.rate,
        concurrency=point.concurrency,
        duration_s=point.duration_s,
        warmup_s=bench.settings.warmup_seconds,
        cooldown_s=bench.settings.cooldown_seconds,
        models=list(bench.models),
        urls=bench.urls,
        traffic_split=list(bench.settings.traffic_split) if bench.settings.traffic_split else None,
        backend=bench.settings.backend,
        endpoint=bench.chosen.name,
        streaming=bench.settings.stream_request,
        tokenizer=bench.settings.tokenizer,
        date=datetime.fromtimestamp(started_unix_ns / NS, UTC).strftime("%Y%m%d-%H%M%S"),
        started_ns=started_unix_ns,
        started_monotonic_ns=start_ns,
        measured_ns=0,
        nonce=bench.nonce,
        cut_short=None,
        first_prompt=point.first_prompt,
        first_sent=bench.first_prompt,
        client={},
        server_metrics={},
        provenance={"workload": bench.workload.description},
    )


class Failure(NamedTuple):
    """Why a first request was not answered; `final` where the server will say the same however long one waits."""

    reason: str
    final: bool


def ask_once(bench: Bench, fleet: Fleet, interrupt: Interrupt, timeout_s: float) -> Failure | None:
    """Sends one short request to every URL, as a point does, and keeps nothing of it. Why one failed, or None.

    Its prompt is none of the profile's, and shares no beginning with them.
    """
    count = len(bench.targets)
    point = PlannedPoint(0, math.inf, None, np.zeros(count, dtype=np.int64), 0, count, None)
    requests = (
        Request(
            number, bench.models[0], f"{number} {bench.nonce}: say hello.", FIRST_REQUEST_TOKENS, FIRST_REQUEST_TOKENS
        )
        for number in range(count)
    )
    with _scratch(bench.folder, "first-request") as folder:
        asked = spell(bench.chosen, bench.models, requests, count, folder)
        try:
            collected = _send(bench, point, asked, fleet, interrupt, lambda _: None, timeout_s).collected
        except ServerUnavailable as error:
            return Failure(str(error), final=False)
    errors = [(status, messages[0]) for part in collected for status, messages in part.errors.items()]
    if not errors:
        return None
    status, message = errors[0]
    return Failure(f"{status}: {message.partition(' × ')[2]}".rstrip(": "), final=Status[status] in FINAL)


class _Sending(NamedTuple):
    ran: Ran
    orders: list[Collect]
    collected: list[Collected]
    use: ProcessorUse  # of the CPU, from just before the connections were opened until the last answer had ended
    looks: list[list[int]]
    stopping: Stopping | None


def _send(
    bench: Bench,
    point: PlannedPoint,
    asked: Asked,
    fleet: Fleet,
    interrupt: Interrupt,
    look: Callable[[Live], None],
    timeout_s: float,
    begin: Begin | None = None,
) -> _Sending:
    """Sends what was spelled, and has the spools turned into columns."""
    shards = _shards(bench, point, fleet)
    whole = shards * point.pods
    first = first_of(point, begin) if begin else 0
    jobs = [_job(bench, point, asked, timeout_s, shard, whole, first) for shard in range(point.pod, whole, point.pods)]
    looks = Looks()
    with watching(bench.settings, bench.chosen.name, jobs, point.probe) as watch, ExitStack() as over:
        over.callback(bench.when_sent)  # also where a sender dies: nothing is looked at any more
        before = _processor(fleet, shards)
        ran = fleet.run(
            jobs,
            lambda: bool(interrupt),
            looks.through(watch.through(look) if watch else look),
            watch.enough if watch else lambda: False,
            begin.at_ns if begin else None,
        )
        use = between(before, _processor(fleet, shards))
    orders = [_order(bench, job, ran) for job in jobs]
    stopping = watch.stopping(ran, point.duration_s) if watch else None
    return _Sending(ran, orders, fleet.collect(orders), use, looks.kept, stopping)


def _shards(bench: Bench, point: PlannedPoint, fleet: Fleet) -> int:
    """Sender processes that have a part of the point."""
    return point.shards(len(fleet), bench.settings.tcp_conn_limit, len(bench.targets))


def _processor(fleet: Fleet, shards: int) -> ProcessorReading:
    return read(now_ns(), time.process_time_ns(), fleet.pids[:shards])


@contextmanager
def _scratch(parent: Path, name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    try:
        yield folder
    except (UsageError, ServerUnavailable):  # nothing was sent, and there is nothing to keep
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _job(
    bench: Bench, point: PlannedPoint, asked: Asked, timeout_s: float, shard: int, shards: int, first: int
) -> Point:
    folder = asked.bodies.parent
    plan = folder / "plan"
    if point.due_ns is not None and not plan.exists():
        point.due_ns.tofile(plan)
    most = max(1, bench.open_files - SPARE_FILES)
    limit = bench.settings.tcp_conn_limit
    return Point(
        targets=bench.targets,
        bodies=str(asked.bodies),
        bounds=str(asked.bounds),
        paths=asked.paths,
        path_of=str(asked.path_of) if asked.path_of else None,
        plan=str(plan) if point.due_ns is not None else None,
        spool=str(folder / f"spool-{shard}"),
        request_id=f"{bench.nonce}-{point.number}-",
        shard=shard,
        shards=shards,
        first=first,
        concurrency=share(point.concurrency or 0, shard, shards),
        duration_ns=round(point.duration_s * NS) if point.duration_s is not None else None,
        timeout_ns=round(timeout_s * NS),
        retries=bench.settings.retries,
        ahead=min(max(1, share(_at_once(point, shards), shard, shards)), most),
        connection_limit=min(share(limit, shard, shards), most) if limit else most,
    )


def _at_once(point: PlannedPoint, shards: int) -> int:
    """Connections to open before the start: all that a burst or a closed loop needs at once."""
    if point.concurrency is not None:
        return min(point.concurrency, point.prompts)
    if point.rate is not None and np.isinf(point.rate):
        return point.prompts
    return 2 * shards


def _order(bench: Bench, job: Point, ran: Ran) -> Collect:
    return Collect(
        spool=job.spool,
        columns=str(Path(job.spool).with_name(f"columns-{job.shard}")),
        start_ns=ran.start_ns,
        backend=bench.settings.backend,
        endpoint=bench.chosen.name,
        streaming=bench.settings.stream_request,
        bodies=job.bodies,
        bounds=job.bounds,
        secrets=list(bench.secrets),
        sampled_texts=share(SAMPLED_TEXTS, job.shard, job.shards),
    )


def _looker(
    bench: Bench, point: PlannedPoint, asked: Asked, look: Callable[[Snapshot], None]
) -> Callable[[Live], None]:
    """Turns the fleet's looks into what progress shows. While a point runs, nothing is parsed: one read of a stream
    stands for one token, and an answer that is not streamed for the length that was asked for."""
    mean_wanted = float(asked.columns["wanted_tokens"].mean()) if point.prompts else 0.0

    def show(live: Live) -> None:
        late = np.percentile(live.lateness_ns, 99) / 1e6 if live.lateness_ns else 0.0
        tokens = live.reads_per_s if bench.settings.stream_request else live.completed_per_s * mean_wanted
        in_flight = live.sent - live.completed - live.failed
        total = None if point.due_ns is None and point.duration_s is not None else point.own(point.prompts)
        look(
            Snapshot(
                elapsed_s=live.elapsed_s,
                planned_s=point.planned_s,
                total=total,
                sent=live.sent,
                in_flight=max(in_flight, 0),
                completed=live.completed,
                failed=live.failed,
                tokens_per_s=tokens,
                lateness_p99_ms=float(late),
            )
        )

    return show
