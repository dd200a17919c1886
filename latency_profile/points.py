"""The points of a profile, planned before anything is sent. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_profile.adaptive.chooser import middle
from latency_profile.capacity.asked import first_probe, most_requests
from latency_profile.capacity.probe import Probe, Running
from latency_profile.errors import UsageError
from latency_profile.plan import NS, offsets_ns
from latency_profile.settings import Settings
from latency_profile.shards.structure import share


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """One load level. `prompts` are taken from the profile's one sequence of them, from `first_prompt` on."""

    number: int
    rate: float | None  # requests/s; infinite: a burst; None: closed loop
    concurrency: int | None  # closed loop
    due_ns: NDArray[np.int64] | None
    first_prompt: int
    prompts: int
    duration_s: float | None  # where time bounds it
    pod: int = 0  # which pod's requests are sent here: those whose index is `pod` mod `pods`
    pods: int = 1
    probe: Running | None = None  # of --find-capacity: what looks at it need to know

    @property
    def label(self) -> str:
        if self.concurrency is not None:
            return f"{self.concurrency} in flight"
        assert self.rate is not None
        return "unlimited" if math.isinf(self.rate) else f"{self.rate:.12g} req/s"

    @property
    def load(self) -> str:
        """As the user wrote it."""
        return str(self.concurrency) if self.concurrency is not None else f"{self.rate:.12g}"

    @property
    def planned_s(self) -> float | None:
        """How long sending takes: by the time that bounds it, else by its plan; None where neither tells."""
        if self.duration_s is not None:
            return self.duration_s
        if self.due_ns is None or not len(self.due_ns) or not self.due_ns[-1]:
            return None
        return float(self.due_ns[-1]) / NS

    def own(self, number: int) -> int:
        """This pod's part of `number` things."""
        return share(number, self.pod, self.pods)

    def shards(self, processes: int, connection_limit: int, urls: int) -> int:
        """Into how many shards this pod's part of the point is cut: none without a request that it may keep in flight,
        and none whose part of the limit on connections is less than one for each URL that it has requests for."""
        most = max(1, min(processes, (self.concurrency or self.prompts) // self.pods, self.prompts // self.pods))
        if not connection_limit:
            return most
        pods = self.pods
        fits = (
            count
            for count in range(most, 1, -1)
            if connection_limit // (count * pods) >= urls // math.gcd(count * pods, urls)
        )
        return next(fits, 1)


def plan_points(settings: Settings) -> list[PlannedPoint]:
    """All points, in the order of the flags; of --adaptive-rates and --find-capacity those that need nothing to be
    known: the ends and the rate between them, or the first probe.

    Time bounds a point where --benchmark-time-seconds is given, but for bursts; else --num-prompts does. A closed loop
    has no plan: it has --num-prompts prompts, and stops early when its time is over. Raises UsageError where a point's
    time is too short for a request.
    """
    points = [plan_probe(settings, *first_probe(settings), 0, 0)] if settings.find_capacity else list(_points(settings))
    for point in points:
        if not point.prompts:
            name = "max_duration" if settings.find_capacity else "benchmark_time_seconds"
            raise UsageError(
                f"{settings.spelled(name)}: got {getattr(settings, name):.12g}, takes a time in which a request is "
                f"due; at {point.label} none is"
            )
    return points


def _points(settings: Settings) -> Iterator[PlannedPoint]:
    first = 0
    rates = settings.rates if settings.adaptive_rates is None else (*settings.rates, middle(*settings.rates))
    loads: list[tuple[float | None, int | None]] = [(rate, None) for rate in rates]
    loads += [(None, concurrency) for concurrency in settings.concurrencies]
    for number, (rate, concurrency) in enumerate(loads):
        point = plan_point(settings, number, rate, concurrency, first)
        yield point
        first += point.prompts


def plan_probe(settings: Settings, probe: Probe, running: Running, number: int, first_prompt: int) -> PlannedPoint:
    """One of --find-capacity. Its requests are drawn by its number, as of any list of points."""
    if probe.requests is None:
        point = plan_point(settings, number, probe.load, None, first_prompt, probe.seconds)
        return replace(point, probe=running)
    point = plan_point(settings, number, None, round(probe.load), first_prompt, probe.seconds)
    return replace(point, probe=running, prompts=probe.requests)


def plan_point(
    settings: Settings,
    number: int,
    rate: float | None,
    concurrency: int | None,
    first_prompt: int,
    seconds: float | None = None,
) -> PlannedPoint:
    """One point of the settings' profile, of a rate (requests/s) or a concurrency. seconds: its length, where that is
    not --benchmark-time-seconds."""
    duration = settings.benchmark_time_seconds if seconds is None else seconds
    due = None
    bounded = duration if rate is None or not math.isinf(rate) else None
    if rate is not None:
        due = offsets_ns(
            rate,
            count=settings.num_prompts if bounded is None else None,
            duration_s=bounded,
            seed=settings.seed,
            point=number,
            arrival=settings.arrival,
            burstiness=settings.burstiness,
        )
    count = settings.num_prompts if due is None else len(due)
    return PlannedPoint(
        number, rate, concurrency, due, first_prompt, count, bounded, settings.shard_index or 0, settings.shards
    )


def prompts_of(settings: Settings, points: Sequence[PlannedPoint]) -> int:
    """How many prompts the profile takes; with --adaptive-rates and --find-capacity at most, as no point has a higher
    rate than the end."""
    if settings.max_rate is not None:
        return math.ceil(settings.max_rate * settings.max_duration)
    if settings.find_capacity:
        return most_requests(settings)
    known = sum(point.prompts for point in points)
    if settings.adaptive_rates is None:
        return known
    return known + (settings.adaptive_rates - len(points)) * max(point.prompts for point in points)
