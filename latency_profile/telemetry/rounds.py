"""From a Prometheus' samples to looks at each replica, as if they had been taken directly. Pure.

A look is what a replica's series last said. Of one replica, looks are its scrapes. Several are scraped at different
moments: they share rounds, at the scrapes of the one that was scraped least often, and a round has of each replica the
last scrape before it, which is older by less than an interval.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from latency_profile.telemetry.exposition import Family, Kind, Scrape
from latency_profile.telemetry.fold import COUNTED, Folded
from latency_profile.telemetry.promql import Series
from latency_profile.telemetry.readings import COUNTED_S

LOOKBACK_S = 300.0  # how old a last sample may be, as Prometheus has it
STALE = 2.5  # intervals after which a replica that is no longer scraped counts as gone


@dataclass(frozen=True, slots=True)
class Rounds:
    """When each replica was scraped, and when all of them are looked at. Times in Unix s."""

    scrapes: Mapping[str, Sequence[float]]  # ascending, by replica
    ages_s: Mapping[str, float]  # how old a replica's last sample may be before it counts as gone
    start_s: float  # of the point
    end_s: float

    def before(self, name: str) -> float | None:
        """Its last scrape before the point, if it was there."""
        return self.seen(name, self.start_s)

    def seen(self, name: str, at_s: float) -> float | None:
        """Its last scrape by then, if it was there."""
        place = bisect_right(self.scrapes[name], at_s) - 1
        found = self.scrapes[name][place] if place >= 0 else -math.inf
        return found if found >= at_s - self.ages_s[name] else None

    def there(self, series: Series) -> bool:
        """Whether a series had not ended before the point."""
        return bool(series.at_s) and series.at_s[-1] > self.start_s - self.ages_s[series.instance]

    @property
    def late(self) -> list[str]:
        """Who was there before the point, or at all where nobody was, and has no scrape from after it."""
        there = [name for name in self.scrapes if self.before(name) is not None] or list(self.scrapes)
        return sorted(name for name in there if self.scrapes[name][-1] < self._counted_s)

    @property
    def _counted_s(self) -> float:
        """When the server has counted all of the point."""
        return self.end_s + COUNTED_S

    @property
    def first_s(self) -> float | None:
        """The last round before the point; None where nobody was scraped before it."""
        return max((at for name in self.scrapes if (at := self.before(name)) is not None), default=None)

    @property
    def last_s(self) -> float:
        """The first round that has everybody after the point, or the last one there is."""
        from_s = self._counted_s
        after = [next(at for at in of if at >= from_s) for of in self.scrapes.values() if of[-1] >= from_s]
        return max(after, default=max(of[-1] for of in self.scrapes.values()))

    @property
    def steady(self) -> bool:
        """Whether everybody was there at the first round and at the last one."""
        return all(self.before(name) and self.seen(name, self.last_s) for name in self.scrapes)

    def times_s(self) -> list[float]:
        """Of all rounds, ascending."""
        first_s, last_s = self.first_s, self.last_s
        from_s = self.start_s if first_s is None else first_s
        inner = {name: [at for at in of if from_s < at < last_s] for name, of in self.scrapes.items()}
        whole = [name for name in inner if self.before(name) is not None and name not in self.late] or list(inner)
        rarest = min(whole, key=lambda name: len(inner[name]))
        return sorted({*([] if first_s is None else [first_s]), *inner[rarest], last_s})

    def inside(self) -> int:
        """How many scrapes lie within the point, of the replica that has fewest."""
        return min(sum(self.start_s < at <= self.end_s for at in of) for of in self.scrapes.values())


def rounds(pulse: Sequence[Series], start_s: float, end_s: float) -> Rounds:
    """By the scrapes of one metric that every replica has; of several series of a replica the longest tells."""
    scrapes: dict[str, Sequence[float]] = {}
    for series in pulse:
        if len(series.at_s) > len(scrapes.get(series.instance, ())):
            scrapes[series.instance] = series.at_s
    gaps = {name: [after - before for before, after in pairwise(of)] for name, of in scrapes.items()}
    ages_s = {name: STALE * median(of) if of else LOOKBACK_S for name, of in gaps.items()}
    return Rounds(scrapes, ages_s, start_s, end_s)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was answered of one family. edges: only the first and the last round's values, nothing having been reset."""

    kind: Kind
    series: Sequence[Series]
    edges: bool = False


def folded(
    over: Rounds, families: Mapping[str, Asked], tracked: Collection[str], models: Collection[str]
) -> tuple[dict[str, Folded], list[str]]:
    """Each replica's looks; and in words who has none: one that was never there after the point's start."""
    since_s = over.start_s if over.first_s is None else over.first_s
    found: dict[str, Folded] = {}
    lacking: list[str] = []
    times_s = over.times_s()
    for name in over.scrapes:
        own = {
            family: Asked(asked.kind, mine, asked.edges)
            for family, asked in families.items()
            if (mine := [series for series in asked.series if series.instance == name])
        }
        looks = [look for at in times_s if (look := _look(over, name, at, own)) is not None]
        if not any(look.at_s > over.start_s for look in looks):
            lacking.append(f"{called(name)} was not scraped after the point's start")
            continue
        folds = Folded(tracked, since_s if over.before(name) is None else None, models)
        for look in looks:
            folds.add(look)
        found[name] = folds
    return found, lacking


def appeared(over: Rounds, families: Mapping[str, Asked]) -> list[str]:
    """The families of which a replica that was there before the point got series only later."""
    late = set()
    for family, asked in families.items():
        if asked.kind in COUNTED and not asked.edges:
            for series in asked.series:
                if over.before(series.instance) is not None and series.at_s[0] > over.start_s:
                    late.add(family)
    return sorted(late)


def stragglers(over: Rounds, families: Mapping[str, Asked]) -> list[str]:
    """The families of which a series ends before its replica's last scrape: it ended, or has not arrived yet."""
    early = set()
    for family, asked in families.items():
        if asked.kind in COUNTED and not asked.edges:
            for series in asked.series:
                last_s = over.seen(series.instance, over.last_s)
                if last_s is not None and series.at_s[-1] < last_s:
                    early.add(family)
    return sorted(early)


def _look(over: Rounds, name: str, at_s: float, families: Mapping[str, Asked]) -> Scrape | None:
    """What the replica said at a round; None where it was not there."""
    if over.seen(name, at_s) is None:
        return None
    known: dict[str, Family] = {}
    for family, asked in families.items():
        values = {}
        oldest_s = -math.inf if asked.edges else at_s - over.ages_s[name]
        for series in asked.series:
            place = bisect_right(series.at_s, at_s) - 1
            if place >= 0 and series.at_s[place] >= oldest_s and math.isfinite(series.values[place]):
                values[series.name, series.labels] = series.values[place]
        if values:
            known[family] = Family(asked.kind, values)
    return Scrape(at_s, known)


def called(name: str) -> str:
    """A replica's name; without labels that tell replicas apart there is only one."""
    return name or "the server"
