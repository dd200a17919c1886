"""What is compared: one row a measure. Pure.

A measure takes one number from a point (`AT_LOAD`), or from the points that all nights have (`WHOLE`). To add one is to
add a row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from latency_profile.compare.history import BASE_NIGHTS
from latency_profile.compare.names import AUTO
from latency_profile.compare.nights import Latency, Night, Point
from latency_profile.compare.structure import Better


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of a point. latency: one that a saturated point cannot give."""

    name: str
    unit: str
    better: Better
    of: Callable[[Point], float | None]
    latency: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """A number of the points at `loads`, all of which a night has to have. saturating: one that tells of the server
    only where the highest load is more than it carries; below that it is the plan's own."""

    name: str
    unit: str
    better: Better
    of: Callable[[Sequence[Point]], float | None]
    saturating: bool = False


def _percentile(name: str, level: str) -> Callable[[Point], float | None]:
    def of(point: Point) -> float | None:
        latency: Latency | None = getattr(point, name)
        known = None if latency is None else getattr(latency, level)
        return known.value_s if known is not None and known.resolved else None

    return of


def _latency(name: str, level: str) -> Measure:
    return Measure(f"{name}_{level}", "s", "lower", _percentile(name, level), latency=True)


def _cost(point: Point) -> float | None:
    return None if point.cost is None else point.cost.usd_per_million_output_tokens


def _highest_completed_rate(points: Sequence[Point]) -> float | None:
    rates = [point.completed_requests_per_s for point in points if point.completed_requests_per_s is not None]
    return max(rates, default=None)


AT_LOAD = (
    Measure("output_tokens_per_s", "tokens/s", "higher", attrgetter("output_tokens_per_s")),
    Measure("requests_per_s", "requests/s", "higher", attrgetter("completed_requests_per_s")),
    *(_latency(name, level) for name in ("ttft", "tpot", "e2e") for level in ("p50", "p99")),
    Measure("usd_per_million_output_tokens", "USD", "lower", _cost),
)
WHOLE = (
    # Not the capacity: what a rate far beyond it leaves of it may be less.
    Whole("highest_completed_rate", "requests/s", "higher", _highest_completed_rate, saturating=True),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One measure at one load (None: over the whole profile)."""

    measure: Measure | Whole
    load: str | None
    loads: tuple[str, ...]  # that a night has to have for it
    missing: str = ""  # why no night has it; empty where nights may

    @property
    def label(self) -> str:
        return self.measure.name if self.load is None else f"{self.measure.name} at {self.load}"

    def value(self, night: Night) -> tuple[float | None, str]:
        """The night's number, above 0; or None, and why."""
        if self.missing:
            return None, self.missing
        points = []
        for load in self.loads:
            point = night.points.get(load)
            if point is None:
                return None, f"no point at {load}"
            if point.barred is not None:
                return None, f"{load}: {point.barred}"
            points.append(point)
        found = self.measure.of(points) if isinstance(self.measure, Whole) else self.measure.of(points[0])
        return (found, "") if found is not None and found > 0 else (None, f"no {self.label}")


def all_series(tonight: Night, earlier: Sequence[Night]) -> list[Series]:
    """What tonight's profile can be compared in: over the loads that any earlier night has too."""
    loads = [load for load in tonight.points if any(load in night.points for night in earlier)]
    if not loads:
        return []
    whole = [Series(measure, None, tuple(loads), _untold(measure, tonight, loads, earlier)) for measure in WHOLE]
    return whole + [
        Series(measure, load, (load,)) for load in loads for measure in AT_LOAD if _tells(measure, load, earlier)
    ]


def _tells(measure: Measure, load: str, earlier: Sequence[Night]) -> bool:
    """A saturated point's latencies describe the run's length. Of nights that were mostly not, one that is counts with
    what it measured: at least that slow."""
    return not measure.latency or not mostly_saturated(load, earlier)


def _untold(measure: Whole, tonight: Night, loads: Sequence[str], earlier: Sequence[Night]) -> str:
    """Why the measure tells nothing of the server over these loads; empty where it does."""
    highest = max(loads, key=lambda load: _height(tonight, load))
    return "no load saturates" if measure.saturating and not mostly_saturated(highest, earlier) else ""


def mostly_saturated(load: str, nights: Sequence[Night]) -> bool:
    """On the first nights that could use it: how a server was when it was good decides what is compared, not what has
    become of it."""
    points = (night.points.get(load) for night in nights)
    there = [point for point in points if point is not None and point.barred is None][:BASE_NIGHTS]
    return 2 * sum(point.saturated for point in there) > len(there)


def primary(name: str, series: Sequence[Series], tonight: Night, earlier: Sequence[Night]) -> Series | None:
    """The measure that decides; None where tonight's profile does not have it.

    At the highest load that could be used on most earlier nights, where a server has least to spare. `auto`: output
    tokens/s where the server sets the pace (a saturated rate, a closed loop, an unlimited rate), which is then the
    least noisy number and what one pays for; E2E p50 where the plan sets it: the throughput of a load that is carried
    is the plan's own, however slow the server. All of it is chosen by the earlier nights alone.
    """
    loads = {each.load for each in series if each.load is not None and _mostly_usable(each.load, earlier)}
    highest = max(
        (load for load in tonight.points if load in loads), key=lambda load: _height(tonight, load), default=""
    )
    if name == AUTO:
        paced = highest in loads and tonight.points[highest].request_rate is not None
        name = "e2e_p50" if paced and not mostly_saturated(highest, earlier) else "output_tokens_per_s"
    return next((each for each in series if each.measure.name == name and each.load in (None, highest)), None)


def _mostly_usable(load: str, nights: Sequence[Night]) -> bool:
    there = [point for night in nights if (point := night.points.get(load)) is not None][:BASE_NIGHTS]
    return 2 * sum(point.barred is None for point in there) > len(there)


def _height(night: Night, load: str) -> float:
    point = night.points[load]
    if point.concurrency is not None:
        return point.concurrency
    return math.inf if point.request_rate is None else point.request_rate
