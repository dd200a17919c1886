"""One replica's metrics over a point, look after look. Pure: the looks bring their own times.

A counter's increase is its last value - its first one, exactly. Where the process restarted in between, what it had
counted until the last look before that is kept and it counts from 0 again; only what it counted between that look and
its end is lost.
"""

import math
from array import array
from collections.abc import Collection
from dataclasses import dataclass, field

from latency_profile.telemetry.exposition import Family, Kind, Labels, Scrape
from latency_profile.telemetry.vocabulary import KINDS, models_in, spelled

SampleKey = tuple[str, Labels]  # a sample's name, its labels

PROCESS_START = "process_start_time_seconds"
CPU_TIME = "process_cpu_seconds_total"
SAME_CPU_S = 0.5  # that a process uses between two looks at it in one round, and a server's start by chance hardly
CLOCKS_S = 2.0  # by which the clocks of two machines may differ before a process counts as older than a look
# So long before the first look no process can have started that takes another one's place, however clocks differ.
OLDER_S = 10.0
COUNTED: frozenset[Kind] = frozenset({"counter", "histogram", "summary"})


@dataclass(slots=True)
class _Counted:
    base: float
    last: float
    kept: float = 0.0  # of processes that are gone

    @property
    def growth(self) -> float:
        return self.kept + self.last - self.base

    def restart(self) -> None:
        self.kept, self.base, self.last = self.growth, 0.0, 0.0


@dataclass(slots=True)
class Gauge:
    """One series of a gauge: times in Unix s, and values."""

    at_s: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


class Folded:
    """What was seen of one replica; `add` its looks in order.

    since_s: Unix s of the point's first look, where this replica was found only later. What such a one had counted when
    it was first seen is the point's where its process is younger than that, and else is left out.
    tracked: samples of counters whose growth is wanted look by look.
    models: what was asked for. Of a family with series of these, those of other models are left out: Triton counts a
    request in the ensemble, and again in each of its parts.
    """

    def __init__(
        self, tracked: Collection[str] = (), since_s: float | None = None, models: Collection[str] = ()
    ) -> None:
        self._tracked, self._since_s = frozenset(tracked), since_s
        self._models = spelled(models)
        self._counted: dict[str, dict[SampleKey, _Counted]] = {}  # by family
        self._process: frozenset[float] = frozenset()  # the last one that told when it started
        self._earlier: set[frozenset[float]] = set()  # those before it
        self.kinds: dict[str, Kind] = {}
        self.gauges: dict[str, dict[SampleKey, Gauge]] = {}  # by family
        self.looks_s: list[float] = []  # Unix s
        self.totals: list[dict[str, float]] = []  # by look: how much the tracked samples had grown, over their series
        self.restarts_s: list[float] = []  # Unix s of the looks at which they showed
        self.reset: set[str] = set()  # families that fell
        self.gone: set[str] = set()  # families of which a series ended
        self.counts = False  # whether growth means something: there were two looks, or its process is the point's own
        self.late = False  # what it did before it was first seen is not known
        self.models: set[str] = set()  # as labels of what it counts call them
        self.several = False  # several processes answered in turn: something that balances is in between

    def add(self, scrape: Scrape) -> None:
        """One more look, later than all before."""
        first = not self.looks_s
        process = process_starts(scrape) or self._process
        restarted = bool(self._process) and process != self._process
        if restarted and not self._follows(process):
            self.several = True
        fell = False
        young = self._since_s is not None and _younger(process, self._since_s)
        from_zero = not first or young
        self.counts |= from_zero
        self.late |= first and self._since_s is not None and not young
        for name, told in scrape.families.items():
            whole = Family(KINDS[name], told.samples) if name in KINDS else told
            self.kinds[name] = whole.kind
            family = self._of_models(whole)
            if family.kind in COUNTED:
                fell |= self._count(name, family, restarted, from_zero)
            else:
                self._note(name, family, scrape.at_s)
        for name, counted in self._counted.items():
            there = scrape.families.get(name, Family(self.kinds[name])).samples
            for key in counted.keys() - {key for key, value in there.items() if math.isfinite(value)}:
                if restarted:
                    counted[key].restart()
                else:
                    self.gone.add(name)
        if restarted or (fell and not process):  # a process that says that it is the same has only begun counting anew
            # Counts that fall time and again, of processes that don't tell when they started, are those of several.
            self.several |= not process and bool(self.restarts_s)
            self.restarts_s.append(scrape.at_s)
        if self.several:
            self.restarts_s.clear()
        if restarted:
            self._earlier.add(self._process)
        self._process = process
        self.looks_s.append(scrape.at_s)
        self.totals.append(self._tracked_sums())

    def growth(self, family: str) -> dict[SampleKey, float]:
        """How much each sample of a counter, histogram or summary grew between the first look and the last one."""
        return {key: state.growth for key, state in self._counted.get(family, {}).items()}

    def _follows(self, process: frozenset[float]) -> bool:
        """Whether it can have taken the place of the last one: it is younger, has not been there before, and did not
        start long before the first look. All but the last holds whatever the clocks of two machines say, and whether
        looks are of now or, as a Prometheus' rounds, of some time ago."""
        younger = max(process) > max(self._process)
        return younger and process not in self._earlier and max(process) > self.looks_s[0] - OLDER_S

    def _of_models(self, family: Family) -> Family:
        named = {key: models for key in family.samples if (models := models_in(key[1]))}
        if family.kind in COUNTED:
            self.models |= {model for models in named.values() for model in models}
        others = {key for key, models in named.items() if not models & self._models}
        if not others or len(others) == len(named):
            return family
        return Family(family.kind, {key: value for key, value in family.samples.items() if key not in others})

    def _count(self, name: str, family: Family, restarted: bool, from_zero: bool) -> bool:
        """Whether it fell though the process does not say that it is another one. A histogram's samples are reset
        together: one bucket can have overtaken its old count already when another has not."""
        counted = self._counted.setdefault(name, {})
        samples = {key: value for key, value in family.samples.items() if math.isfinite(value)}
        fallen = set()
        if not restarted:
            fallen = {
                without_bound(key[1])
                for key, value in samples.items()
                if key in counted and value < counted[key].last and not key[0].endswith("_sum")
            }
        if fallen:
            self.reset.add(name)
        for key, value in samples.items():
            if key not in counted:
                counted[key] = _Counted(0.0 if from_zero else value, value)
                continue
            if restarted or without_bound(key[1]) in fallen:
                counted[key].restart()
            counted[key].last = value
        return bool(fallen)

    def _note(self, name: str, family: Family, at_s: float) -> None:
        series = self.gauges.setdefault(name, {})
        for key, value in family.samples.items():
            gauge = series.setdefault(key, Gauge())
            gauge.at_s.append(at_s)
            gauge.values.append(value)

    def _tracked_sums(self) -> dict[str, float]:
        sums: dict[str, float] = {}
        for counted in self._counted.values():
            for (sample, _), state in counted.items():
                if sample in self._tracked:
                    sums[sample] = sums.get(sample, 0.0) + state.growth
        return sums


def process_starts(scrape: Scrape) -> frozenset[float]:
    """When the processes behind the metrics started, Unix s, where they tell."""
    family = scrape.families.get(PROCESS_START)
    return frozenset(family.samples.values()) if family else frozenset()


def same_process(one: Scrape, other: Scrape) -> bool:
    """Whether two addresses that were asked at the same time are one process's. Its start has steps of 10 ms, in which
    two pods may have begun together: they have then not used the same CPU time."""
    if not process_starts(one) or process_starts(one) != process_starts(other):
        return False
    used = [look.families[CPU_TIME].samples for look in (one, other) if CPU_TIME in look.families]
    return len(used) < 2 or abs(sum(used[0].values()) - sum(used[1].values())) <= SAME_CPU_S


def without_bound(labels: Labels) -> Labels:
    """The labels that name a histogram's series: all but the bucket's bound."""
    return tuple(label for label in labels if label[0] != "le")


def _younger(process: frozenset[float], than_s: float) -> bool:
    """Whether the process started after that time. One that does not tell may not have."""
    return bool(process) and max(process, default=-math.inf) > than_s - CLOCKS_S
