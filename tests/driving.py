"""Drives sender processes against a server, without settings, workload or results: what tests of the sender look at."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from latency_profile.merge import merge
from latency_profile.records import PointContext, Records, Status
from latency_profile.sender.fleet import Fleet, Live, Ran
from latency_profile.sender.job import MOST_ANSWER_BYTES, Collect, Collected, Finished, Point, Target
from latency_profile.server import server_at
from tests.servers import odd
from tests.servers.odd import Call, Odd

MS = 1_000_000
SECOND = 1_000_000_000


@dataclass
class Load:
    """What one point asks of a server: an open loop's plan `due_ms`, or a closed loop's `concurrency` and `count`."""

    due_ms: Sequence[float] | None = None
    count: int = 0
    concurrency: int = 0
    duration_s: float | None = None
    timeout_s: float = 10.0
    ahead: int = 1  # of each process
    connection_limit: int = 0  # of each process
    bodies: Sequence[bytes] | None = None
    backend: str = "vllm"
    endpoint: str = "completions"
    streaming: bool = True
    stopped: Callable[[], bool] = lambda: False
    enough: Callable[[], bool] = lambda: False
    secrets: list[str] = field(default_factory=list)
    targets: Sequence[Target] = ()  # further ones, beside the one that is driven
    paths: Sequence[str] = ("/v1/completions",)
    path_of: Sequence[int] | None = None  # which path each request has; None: all the first
    retries: int = 0
    most_answer_bytes: int = MOST_ANSWER_BYTES

    def __len__(self) -> int:
        return self.count if self.due_ms is None else len(self.due_ms)


@dataclass
class Driven:
    """What a point came to."""

    records: Records
    ran: Ran
    collected: list[Collected]
    looks: list[Live]

    @property
    def statuses(self) -> list[Status]:
        return [Status(value) for value in self.records["status"]]

    @property
    def finished(self) -> Finished:
        """The counts of the only process."""
        (only,) = self.ran.finished
        return only

    def total(self, name: str) -> int:
        return sum(getattr(part, name) for part in self.ran.finished)


def target_of(host: str, port: int, **server: Any) -> Target:
    """`server`: the other arguments of server_at."""
    known: dict[str, Any] = {"url": None, "headers": [], "ca_file": None, "verify": True}
    return server_at(host, port, **(known | server)).target()


def drive(fleet: Fleet, target: Target, folder: Path, load: Load) -> Driven:
    """Runs one point and joins what came of it."""
    count, shards = len(load), min(len(fleet), load.concurrency or len(fleet))
    bodies = load.bodies or [b'{"prompt":"%d"}' % number for number in range(count)]
    (folder / "bodies").write_bytes(b"".join(bodies))
    np.cumsum([0, *map(len, bodies)], dtype=np.int64).tofile(folder / "bounds")
    due = None
    if load.due_ms is not None:
        due = np.rint(np.asarray(load.due_ms) * MS).astype(np.int64)
        due.tofile(folder / "plan")
    if load.path_of is not None:
        np.asarray(load.path_of, dtype=np.uint16).tofile(folder / "path-of")
    points = [
        Point(
            targets=[target, *load.targets],
            paths=list(load.paths),
            path_of=None if load.path_of is None else str(folder / "path-of"),
            bodies=str(folder / "bodies"),
            bounds=str(folder / "bounds"),
            plan=None if due is None else str(folder / "plan"),
            spool=str(folder / f"spool-{shard}"),
            request_id="test-0-",
            shard=shard,
            shards=shards,
            concurrency=len(range(shard, load.concurrency, shards)),
            duration_ns=None if load.duration_s is None else round(load.duration_s * SECOND),
            timeout_ns=round(load.timeout_s * SECOND),
            ahead=load.ahead,
            connection_limit=load.connection_limit,
            retries=load.retries,
            most_answer_bytes=load.most_answer_bytes,
        )
        for shard in range(shards)
    ]
    looks: list[Live] = []
    ran = fleet.run(points, load.stopped, looks.append, load.enough)
    collected = fleet.collect([_order(point, folder, ran, load) for point in points])
    zeros = np.zeros(count, dtype=np.int64)
    records = merge(
        cast("PointContext", None),
        [str(folder / f"columns-{shard}") for shard in range(shards)],
        due_ns=due,
        ended_ns=ran.ended_ns - ran.start_ns,
        asked={"model": zeros, "input_tokens": zeros, "wanted_tokens": zeros},
        urls=1 + len(load.targets),
        count_tokens=lambda texts: [len(text.split()) for text in texts],
    )
    return Driven(records, ran, collected, looks)


def send(fleet: Fleet, server: Odd, folder: Path, load: Load) -> Driven:
    """Drives that server, in the clear."""
    return drive(fleet, target_of(server.host, server.port), folder, load)


def _order(point: Point, folder: Path, ran: Ran, load: Load) -> Collect:
    return Collect(
        spool=point.spool,
        columns=str(folder / f"columns-{point.shard}"),
        start_ns=ran.start_ns,
        backend=load.backend,
        endpoint=load.endpoint,
        streaming=load.streaming,
        bodies=point.bodies,
        bounds=point.bounds,
        secrets=load.secrets,
    )


def answer(call: Call) -> None:
    """What a healthy server says: three tokens."""
    call.send(odd.whole(3))


class After:
    """True from so many seconds after it was first asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def __call__(self) -> bool:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._seconds


def pid_of(fleet: Fleet, number: int = 0) -> int:
    """The process of that number."""
    return int(fleet._processes[number]._process.pid)


def open_files(pid: int) -> int:
    """How many descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
