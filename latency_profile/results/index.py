"""The index of a run: which points it has, which of them are there, and in which files. Pure.

It lies in the run's folder (`<run id>/index.json`), and is replaced whenever a point begins or ends. A run that is
started again under its name measures what the index does not have.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from latency_profile.fingerprint import Fingerprint, differences
from latency_profile.points import PlannedPoint

INDEX_NAME = "index.json"
INDEX_VERSION = "1.0"
_DIGEST_BYTES = 8

State = Literal["planned", "begun", "done", "cut_short"]


class PlanOfPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a point is to be, by what decides each of its requests' times and prompts."""

    load: Annotated[str, Meta(description="requests/s ('inf': a burst), or '8 in flight'")]
    prompts: int
    first_prompt: int
    duration_s: float | None
    due: Annotated[str | None, Meta(description="BLAKE2b of the due times (int64 ns); null in a closed loop")]


class IndexPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the run, and what became of it."""

    number: int
    plan: PlanOfPoint
    state: Annotated[
        State,
        Meta(description="begun: it was being measured when the index was written. cut_short: a signal ended it"),
    ] = "planned"
    attempts: Annotated[
        list[str], Meta(description="nonces under which its prompts were sent, the last one its result's")
    ] = []
    date: Annotated[str | None, Meta(description="of its start, YYYYmmdd-HHMMSS, UTC")] = None
    verdict: str | None = None
    files: Annotated[list[str], Meta(description="its results, in the run's folder; the first is of all models")] = []
    records: Annotated[str | None, Meta(description="its records' file")] = None
    parts: Annotated[
        str | None, Meta(description="folder of what was stored while it ran, until `records` takes its place")
    ] = None
    parts_superseded: Annotated[bool, Meta(description="`records` is there, and has all that the parts have")] = False


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A run, started once or more often."""

    index_version: str = INDEX_VERSION
    run_id: str
    fingerprint: Annotated[Fingerprint, Meta(description="of the first point")]
    urls: list[str]
    points: list[IndexPoint]
    slo: Annotated[list[str], Meta(description="objectives that its points are judged by")] = []
    adaptive_rates: Annotated[
        int | None,
        Meta(description="points of --adaptive-rates, which are here as far as they are known; null: all are"),
    ] = None
    find_capacity: Annotated[
        bool, Meta(description="its points are probes of --find-capacity, which are here as far as they are known")
    ] = False
    profile: Annotated[str | None, Meta(description="the file of the whole profile, in the run's folder")] = None

    def with_point(self, number: int, **changes: object) -> "Index":
        points = [msgspec.structs.replace(p, **changes) if p.number == number else p for p in self.points]
        return msgspec.structs.replace(self, points=points)

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def new_index(
    run_id: str,
    fingerprint: Fingerprint,
    urls: Sequence[str],
    points: Sequence[PlannedPoint],
    slo: Sequence[str] = (),
    adaptive_rates: int | None = None,
    find_capacity: bool = False,
) -> Index:
    """Of a run of which nothing is there yet."""
    planned = [IndexPoint(number=point.number, plan=plan_of(point)) for point in points]
    return Index(
        run_id=run_id,
        fingerprint=fingerprint,
        urls=list(urls),
        points=planned,
        slo=list(slo),
        adaptive_rates=adaptive_rates,
        find_capacity=find_capacity,
    )


def plan_of(point: PlannedPoint) -> PlanOfPoint:
    due = None
    if point.due_ns is not None:
        due = hashlib.blake2b(point.due_ns.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
    return PlanOfPoint(
        load=point.label if point.concurrency is not None else point.load,
        prompts=point.prompts,
        first_prompt=point.first_prompt,
        duration_s=point.duration_s,
        due=due,
    )


def read_index(data: bytes) -> Index:
    """Raises ValueError where the bytes are no index of this version."""
    try:
        index = msgspec.json.decode(data, type=Index)
    except msgspec.DecodeError as error:
        raise ValueError(f"it is no index of this version of latency-profile: {error}") from None
    if index.index_version != INDEX_VERSION:
        raise ValueError(f"its version is {index.index_version}, and {INDEX_VERSION} is known")
    return index


def changes(there: Index, now: Index) -> list[str]:
    """What is not as it was when the run was first started, each as "name: then, now"; none where nothing is."""
    found = differences(there.fingerprint, now.fingerprint)
    if there.urls != now.urls:
        found.append(f"servers: {_shown(there.urls)}, {_shown(now.urls)}")
    if there.slo != now.slo:
        found.append(f"slo: {_shown(there.slo)}, {_shown(now.slo)}")
    for name in ("adaptive_rates", "find_capacity"):
        then, today = getattr(there, name), getattr(now, name)
        if then != today:
            found.append(f"{name}: {_shown(then)}, {_shown(today)}")
    all_known = not any((each.find_capacity or each.adaptive_rates is not None) for each in (there, now))
    if all_known and len(there.points) != len(now.points):
        found.append(f"points: {len(there.points)}, {len(now.points)}")
    for this, that in zip(there.points, now.points, strict=False):
        for name in PlanOfPoint.__struct_fields__:
            then, today = getattr(this.plan, name), getattr(that.plan, name)
            if then != today:
                label = "due times" if name == "due" else name.replace("_", " ")
                found.append(f"point {this.number + 1}, {label}: {_shown(then)}, {_shown(today)}")
    return found


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()
