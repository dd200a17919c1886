"""Runs one planned point: spells its requests, has the fleet send them, and joins what came back into records."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends.base import Chosen, Request
from latency_profile.errors import ServerUnavailable
from latency_profile.interrupt import Interrupt
from latency_profile.merge import merge
from latency_profile.outcome import Status
from latency_profile.plan import NS
from latency_profile.points import PlannedPoint
from latency_profile.records import PointContext, Records
from latency_profile.report.progress import Snapshot
from latency_profile.sender.fleet import Fleet, Live, Ran
from latency_profile.sender.job import Collect, Collected, Finished, Point, Target
from latency_profile.settings import Settings
from latency_profile.spelling import Asked, spell
from latency_profile.workload import Workload

SPARE_FILES = 200  # open files that are not connections
# What a server that is only starting does not say.
FINAL = frozenset({Status.HTTP_UNAUTHORIZED, Status.HTTP_REDIRECT, Status.CONTENT_TYPE, Status.TLS_FAILED})
FIRST_REQUEST_TOKENS = 8  # out; and about so many in


@dataclass(frozen=True, slots=True)
class Bench:
    """What all points of a profile share."""

    settings: Settings
    chosen: Chosen
    targets: list[Target]
    urls: list[str]
    models: tuple[str, ...]
    workload: Workload
    nonce: str
    secrets: tuple[str, ...]
    open_files: int  # how many a process may have
    folder: Path  # where spools lie while a point runs


def run_point(
    bench: Bench,
    point: PlannedPoint,
    fleet: Fleet,
    interrupt: Interrupt,
    look: Callable[[Snapshot], None],
    finish: Callable[[int, int], dict[str, Any]],
) -> Records:
    """One point. `finish(start, end)`, in Unix ns, gives what the context still needs: server_metrics, provenance.

    Its spool is removed when the records are whole; where anything fails before, it stays.
    """
    with _scratch(bench.folder, f"point-{point.number}") as folder:
        requests = bench.workload.requests(point.first_prompt, point.prompts)
        asked = spell(bench.chosen, bench.models, requests, point.prompts, folder)
        show = _looker(bench, point, asked, look)
        ran, orders, collected = _send(bench, point, asked, fleet, interrupt, show, bench.settings.request_timeout)
        measured_ns = ran.ended_ns - ran.start_ns
        context = PointContext(
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
            date=datetime.fromtimestamp(ran.started_unix_ns / NS, UTC).strftime("%Y%m%d-%H%M%S"),
            started_ns=ran.started_unix_ns,
            started_monotonic_ns=ran.start_ns,
            measured_ns=measured_ns,
            nonce=bench.nonce,
            cut_short=interrupt.reason,
            client=_client(ran.finished, collected),
            **finish(ran.started_unix_ns, ran.started_unix_ns + measured_ns),
        )
        return merge(
            context,
            [order.columns for order in orders],
            due_ns=point.due_ns,
            ended_ns=measured_ns,
            asked=asked.columns,
            urls=len(bench.urls),
            count_tokens=bench.workload.count_tokens,
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
            _, _, collected = _send(bench, point, asked, fleet, interrupt, lambda _: None, timeout_s)
        except ServerUnavailable as error:
            return Failure(str(error), final=False)
    errors = [(status, messages[0]) for part in collected for status, messages in part.errors.items()]
    if not errors:
        return None
    status, message = errors[0]
    return Failure(f"{status}: {message.partition(' × ')[2]}".rstrip(": "), final=Status[status] in FINAL)


def _send(
    bench: Bench,
    point: PlannedPoint,
    asked: Asked,
    fleet: Fleet,
    interrupt: Interrupt,
    look: Callable[[Live], None],
    timeout_s: float,
) -> tuple[Ran, list[Collect], list[Collected]]:
    """Sends what was spelled, and has the spools turned into columns."""
    shards = point.shards(len(fleet), bench.settings.tcp_conn_limit, len(bench.targets))
    jobs = [_job(bench, point, asked, timeout_s, shard, shards) for shard in range(shards)]
    ran = fleet.run(jobs, lambda: bool(interrupt), look)
    orders = [_order(bench, job, ran) for job in jobs]
    return ran, orders, fleet.collect(orders)


@contextmanager
def _scratch(parent: Path, name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    yield folder
    shutil.rmtree(folder)


def _job(bench: Bench, point: PlannedPoint, asked: Asked, timeout_s: float, shard: int, shards: int) -> Point:
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
        concurrency=_share(point.concurrency or 0, shard, shards),
        duration_ns=round(point.duration_s * NS) if point.duration_s is not None else None,
        timeout_ns=round(timeout_s * NS),
        retries=bench.settings.retries,
        ahead=min(max(1, _share(_at_once(point, shards), shard, shards)), most),
        connection_limit=min(_share(limit, shard, shards), most) if limit else most,
    )


def _share(number: int, shard: int, shards: int) -> int:
    """The part of `number` things that one of `shards` equal shards has."""
    return len(range(shard, number, shards))


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
        total = None if point.due_ns is None and point.duration_s is not None else point.prompts
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


def _client(finished: list[Finished], collected: list[Collected]) -> dict[str, Any]:
    """The client's own counts over the point, all processes together."""
    errors: dict[str, list[str]] = {}
    for part in collected:
        for status, messages in part.errors.items():
            errors.setdefault(status, []).extend(messages)
    return {
        "processes": len(finished),
        "reads": sum(part.reads for part in finished),
        "connections_opened": sum(part.connections_opened for part in finished),
        "connections_failed": sum(part.connections_failed for part in finished),
        "connections_closed_by_server": sum(part.connections_closed_by_server for part in finished),
        "requests_on_reused_connections": sum(part.reused for part in finished),
        "requests_resent": sum(part.resent for part in finished),
        "requests_retried": sum(part.retried for part in finished),
        "retries": sum(part.retries for part in finished),
        "most_waiting_for_connection": max(part.most_waiting_for_connection for part in finished),
        "cpu_s": sum(part.cpu_ns for part in finished) / NS,
        "longest_turn_s": max(part.longest_turn_ns for part in finished) / NS,
        "slowest_spool_flush_s": max(part.slowest_flush_ns for part in finished) / NS,
        "error_samples": errors,
    }
