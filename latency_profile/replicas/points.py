"""Points for `latency-profile replicas`: what it needs of those that `results.found` finds."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from latency_profile.capacity.structure import Of
from latency_profile.errors import UsageError
from latency_profile.fingerprint import Fingerprint, differences
from latency_profile.replicas.searched import Search, search_of
from latency_profile.results.found import Found, PointHead, PointLoad, PointVerdict, found_at, profiles_beside
from latency_profile.slo.grammar import Objective, parse

# What points of one workload may differ in: how high the load was, and for how long it was watched.
_FREE = frozenset(
    {"load", "burst_of", "goodput", "benchmark_time_seconds", "until_ci"}
    | {"warmup_seconds", "find_warmup", "cooldown_seconds"}
)


class _Counts(msgspec.Struct, frozen=True):
    failed: int


class _Load(PointLoad, frozen=True):
    streaming: bool
    arrival_process: str
    offered_requests_per_s: float | None
    completed_requests_per_s: float | None
    counts: _Counts


class _Remark(msgspec.Struct, frozen=True):
    name: str
    text: str


class _Verdict(PointVerdict, frozen=True):
    remarks: list[_Remark]


class _Window(msgspec.Struct, frozen=True):
    rates_start_s: float
    end_s: float


class _Metrics(msgspec.Struct, frozen=True):
    num_prompts_succeeded: int
    total_output_token: int


class _Cost(msgspec.Struct, frozen=True):
    machine_cost_per_hour_usd: float


class _Cache(msgspec.Struct, frozen=True):
    intended_hit_rate: float


class _Url(msgspec.Struct, frozen=True):
    url: str


class _Named(msgspec.Struct, frozen=True):
    name: str


class _Slo(msgspec.Struct, frozen=True):
    objectives: list[_Named]


class _E2e(msgspec.Struct, frozen=True):
    n: int
    mean_s: float | None


class _OfE2e(msgspec.Struct, frozen=True):
    e2e: _E2e


class _Latency(msgspec.Struct, frozen=True):
    service: _OfE2e
    response: _OfE2e | None = None


class Result(PointHead, frozen=True):
    load: _Load
    verdict: _Verdict
    window: _Window
    metrics: _Metrics
    fingerprint: Fingerprint
    latency: dict[str, Any]
    cost: _Cost | None = None
    cache: _Cache | None = None
    by_url: list[_Url] | None = None
    slo: dict[str, Any] | None = None

    @property
    def kind(self) -> Of | None:
        """Of load; None for a burst, which has no steady one."""
        if self.load.concurrency is not None:
            return Of.CONCURRENCY
        return None if self.load.request_rate is None else Of.RATE

    @property
    def burst(self) -> bool:
        return self.kind is None

    @property
    def urls(self) -> int:
        return len(self.by_url or [None])

    @property
    def own_objectives(self) -> tuple[str, ...]:
        """Those that its run was given (--slo)."""
        if self.slo is None:
            return ()
        return tuple(each.name for each in msgspec.convert(self.slo, _Slo).objectives)

    @property
    def e2e(self) -> tuple[int, float | None]:
        """How many values, and their mean in s, from due."""
        of = msgspec.convert(self.latency, _Latency)
        e2e = (of.response or of.service).e2e
        return e2e.n, e2e.mean_s

    @property
    def output_tokens_mean(self) -> float | None:
        """Of an answer; None where none succeeded."""
        of = self.metrics
        return of.total_output_token / of.num_prompts_succeeded if of.num_prompts_succeeded else None


ReplicaPoint = Found[Result]


def points_at(places: Iterable[str], named: Callable[[Path], str] = str) -> list[ReplicaPoint]:
    """The points of files, and of folders and all below them, each once, by their load. named: as of `found_at`. Raises
    UsageError where a place has none, where all are bursts, and where they are not of one server and one workload.

    What several models have of a point is left out, unless it is named: machines that serve them are shared by them.
    """
    points: dict[tuple[object, ...], ReplicaPoint] = {}
    for place in places:
        for found in found_at(place, Result, named):
            if found.result.of_all_models or found.name == Path(place).name:
                points.setdefault(found.result.key, found)
    ordered = sorted(points.values(), key=_order)
    _check(ordered)
    return ordered


def kind_of(points: Iterable[ReplicaPoint]) -> Of:
    """Of load, of which a plan by these points is: where some are at rates the others tell it nothing."""
    return Of.RATE if any(point.result.kind is Of.RATE for point in points) else Of.CONCURRENCY


def searches_beside(points: Sequence[ReplicaPoint], named: Callable[[Path], str] = str) -> list[Search]:
    """What the profiles that have these points searched for, of the points' kind of load. Raises UsageError where one
    cannot be read."""
    beside = profiles_beside(points)
    profiles = dict.fromkeys(beside[path] for point in points if (path := point.path.parent / point.name) in beside)
    try:
        found = [search_of(path.read_bytes(), named(path), kind_of(points)) for path in profiles]
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror or error}") from None
    return [search for search in found if search is not None]


def _order(point: ReplicaPoint) -> tuple[float, int, str]:
    load = point.result.load
    return load.request_rate or 0.0, load.concurrency or 0, point.name


def _check(points: Sequence[ReplicaPoint]) -> None:
    used = [point for point in points if point.result.kind is kind_of(points)]
    if not used:
        raise UsageError(
            "replicas: takes points of request rates (--request-rates) or of a closed loop (--concurrencies), got "
            + ", ".join(dict.fromkeys(point.result.load_name for point in points))
            + ": a burst has no steady load"
        )
    first = used[0]
    for other in used[1:]:
        differ = [
            text
            for text in differences(first.result.fingerprint, other.result.fingerprint)
            if text.partition(":")[0] not in _FREE
        ]
        if first.result.urls != other.result.urls:
            differ.append(f"URLs: {first.result.urls}, {other.result.urls}")
        if differ:
            raise UsageError(
                f"replicas: takes points of one server and one workload; {first.place} and {other.place} differ in "
                + "; ".join(differ)
            )


def objectives_of(points: Iterable[ReplicaPoint]) -> tuple[Objective, ...]:
    """Those that all the points' runs were given. Raises ValueError, with what they had, where that is not the same."""
    given = sorted({point.result.own_objectives for point in points})
    if len(given) != 1 or not given[0]:
        told = " and ".join(f'"{", ".join(names)}"' if names else "none" for names in given)
        raise ValueError(f"the points' own objectives are {told}")
    return tuple(parse(name) for name in given[0])
