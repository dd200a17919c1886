"""Points for `latency-profile cost`: what it needs of those that `results.found` finds."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from latency_profile.cost.work import Work
from latency_profile.local_path import readable
from latency_profile.rates import Rates
from latency_profile.results.found import PointHead, found_at
from latency_profile.results.point import ALL_MODELS

_OF_LOAD = ("load", "burst_of")  # of what a fingerprint covers


class _Throughput(msgspec.Struct, frozen=True):
    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float


class _Idle(msgspec.Struct, frozen=True):
    utilization: float


class _Cost(msgspec.Struct, frozen=True):
    machine_cost_per_hour_usd: float
    with_idle: _Idle | None = None


class _Metrics(msgspec.Struct, frozen=True):
    num_prompts_attempted: int
    num_prompts_succeeded: int
    total_input_tokens: int
    total_output_token: int


class _Dimensions(msgspec.Struct, frozen=True):
    date: str
    backend: str


class _Fingerprint(msgspec.Struct, frozen=True):
    of: dict[str, Any] = {}


class _Url(msgspec.Struct, frozen=True):
    url: str


class _Cache(msgspec.Struct, frozen=True):
    hits_tokens: int | None
    intended_hit_rate: float


class _Result(PointHead, frozen=True):
    metrics: _Metrics
    dimensions: _Dimensions
    throughput: _Throughput | None = None
    cost: _Cost | None = None
    fingerprint: _Fingerprint = _Fingerprint()  # schema 1.2 had none
    by_url: list[_Url] | None = None
    cache: _Cache | None = None
    work: dict[str, Any] | None = None


class CostPoint(msgspec.Struct, frozen=True):
    """One point of a server."""

    file: str
    result: _Result

    @property
    def load(self) -> str:
        return self.result.load_name

    @property
    def barred(self) -> str | None:
        """Why the point's numbers must not be used; None where they may."""
        return self.result.barred

    @property
    def saturated(self) -> bool:
        return self.result.saturated

    @property
    def work(self) -> Work | None:
        """None too where another version of this program has other figures of it."""
        try:
            return None if self.result.work is None else msgspec.convert(self.result.work, Work)
        except msgspec.ValidationError:
            return None

    @property
    def cache_unknown(self) -> bool:
        """Whether prompts were meant to come out of the server's cache, and it does not tell how much of them did."""
        cache = self.result.cache
        return cache is not None and cache.hits_tokens is None and cache.intended_hit_rate > 0

    @property
    def burst(self) -> bool:
        return self.result.load.request_rate is None and self.result.load.concurrency is None

    @property
    def server(self) -> str:
        """Which machines' time it was, as far as results tell: models, protocol, and how many URLs shared the load."""
        of, urls = self.result, len(self.result.by_url or [None])
        alone = of.config.num_models > 1 and of.config.model != ALL_MODELS
        models = [of.config.model] if alone else of.fingerprint.of.get("models", [of.config.model])
        said = f"{', '.join(map(str, models))} by {of.fingerprint.of.get('backend', of.dimensions.backend)}"
        return said if urls == 1 else f"{said} at {urls} URLs"

    @property
    def workload(self) -> bytes | None:
        """Equal where points differ in their load only; None where the file does not tell what was asked."""
        if not self.result.fingerprint.of:
            return None
        of = {name: value for name, value in self.result.fingerprint.of.items() if name not in _OF_LOAD}
        return msgspec.json.encode(of, order="sorted")

    @property
    def rates(self) -> Rates | None:
        found = self.result.throughput
        if found is None:
            return None
        return Rates(found.requests_per_s, found.input_tokens_per_s, found.output_tokens_per_s)


def points_at(places: Iterable[str], named: Callable[[Path], str] = str) -> list[CostPoint]:
    """The points of files, and of folders and all below them, each once. named: as of `found_at`. Raises UsageError
    where one has none.

    What several models have of a point is left out, unless it is named: machines that serve them are shared by them.
    """
    points: dict[tuple[object, ...], CostPoint] = {}
    for place in places:
        for found in found_at(place, _Result, named):
            if not (found.result.of_all_models or found.name == Path(place).name):
                continue
            key, point = found.result.key, CostPoint(readable(found.place), found.result)
            if key not in points or (points[key].work is None and point.work is not None):  # analysed again since
                points[key] = point
    return list(points.values())
