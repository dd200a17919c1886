"""From a server's own metrics to the common vocabulary. Pure."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise

from latency_profile.telemetry.deltas import added, cumulated
from latency_profile.telemetry.fold import Folded, Gauge, SampleKey
from latency_profile.telemetry.readings import Buckets, Readings, Replica, Source
from latency_profile.telemetry.vocabulary import SHARES, Metric, Sample

PARTS = ("_total", "_sum", "_count", "_bucket")


def counter_samples(known: Sequence[Metric]) -> frozenset[str]:
    """The samples whose growth is to be kept look by look."""
    return frozenset(name for metric in known if metric.kind == "counter" for name in metric.names)


def readings(
    source: Source,
    known: Sequence[Metric],
    replicas: Mapping[str, Folded],
    start_s: float,
    *,
    lacking: str | None = None,
) -> Readings | None:
    """All replicas as one server. start_s: of the point, Unix s; lacking: why increases may lack something, where the
    source knows that. None where nothing was read."""
    folds = [folded for folded in replicas.values() if folded.looks_s]
    if not folds:
        return None
    several = any(folded.several for folded in folds)
    counted = {} if several else {name: folded for name, folded in replicas.items() if folded.counts}
    times = sorted({at for folded in folds for at in folded.looks_s})
    names: dict[str, list[str]] = {}
    missing: list[str] = []
    counters: dict[str, dict[str, float]] = {name: {} for name in replicas}
    histograms: dict[str, Buckets] = {}
    gauges: dict[str, list[float | None]] = {}
    totals: dict[str, list[float | None]] = {}
    for metric in known:
        if metric.quantity is None:
            continue
        quantity = metric.quantity.value
        ways = {name: way for name, folded in replicas.items() if (way := _way(folded, metric)) is not None}
        if not ways:
            if not metric.optional:
                missing.append(quantity)
            continue
        names[quantity] = list(dict.fromkeys(sample.name for way in ways.values() for sample in way))
        told = [(folded, ways.get(name, ())) for name, folded in replicas.items() if folded.looks_s]
        if metric.kind == "gauge":
            gauges[quantity] = [_at(at, told, metric.quantity in SHARES) for at in times]
        elif metric.kind == "histogram":
            found = _buckets([(folded, ways[name][0]) for name, folded in counted.items() if name in ways])
            if found is not None:
                histograms[quantity] = found
        else:
            for name, folded in counted.items():
                counters[name][quantity] = math.fsum(_increase(folded, sample) for sample in ways.get(name, ()))
            if counted:
                totals[quantity] = [_total_at(at, told) for at in times]
    return Readings(
        source=source,
        start_s=min(folded.looks_s[0] for folded in folds) - start_s,
        end_s=max(folded.looks_s[-1] for folded in folds) - start_s,
        names=names,
        missing=missing,
        replicas=[_replica(name, folded, counters[name], start_s) for name, folded in replicas.items()],
        models=sorted({text for folded in folds for text in folded.models}),
        counters={
            quantity: math.fsum(row.get(quantity, 0.0) for row in counters.values())
            for quantity in dict.fromkeys(key for row in counters.values() for key in row)
        },
        histograms=histograms,
        times_s=[at - start_s for at in times],
        gauges=gauges,
        totals=totals,
        at_least=_lacking(
            replicas, lacking, {family for row in names.values() for name in row for family in _families(name)}
        ),
        unlike=_unlike(several, bool(counted)),
    )


def _unlike(several: bool, counted: bool) -> str | None:
    if several:
        return "several processes answer in turn behind one address"
    return None if counted else "there was only one look"


def _lacking(replicas: Mapping[str, Folded], lacking: str | None, used: set[str]) -> str | None:
    reasons = [lacking] if lacking else []
    restarted = [name for name, folded in replicas.items() if folded.restarts_s]
    if restarted:
        reasons.append(f"{', '.join(restarted)} restarted")
    late = [name for name, folded in replicas.items() if folded.late]
    if late:
        reasons.append(f"{', '.join(late)} did not tell at the beginning")
    anew = sorted({name for folded in replicas.values() if not folded.restarts_s for name in folded.reset & used})
    if anew:
        reasons.append(f"began anew: {', '.join(anew)}")
    ended = sorted({name for folded in replicas.values() for name in folded.gone & used})
    if ended:
        reasons.append(f"series ended: {', '.join(ended)}")
    last = max(folded.looks_s[-1] for folded in replicas.values() if folded.looks_s)
    left = [name for name, folded in replicas.items() if not folded.looks_s or folded.looks_s[-1] < last]
    if left:
        reasons.append(f"{', '.join(left)} did not tell at the end")
    return "; ".join(reasons) or None


def _families(name: str) -> tuple[str, ...]:
    """The families that may hold a sample: a counter's is its name, that of a histogram's sum is the histogram."""
    return (name, *(name.removesuffix(part) for part in PARTS if name.endswith(part)))


Way = tuple[Sample, ...]


def _way(folded: Folded, metric: Metric) -> Way | None:
    """What a replica calls it: while a new version is rolled out, replicas use different names."""
    return next((way for way in metric.ways if all(_has(folded, sample) for sample in way)), None)


def _has(folded: Folded, sample: Sample) -> bool:
    return any(family in folded.kinds for family in _families(sample.name))


def _increase(folded: Folded, sample: Sample) -> float:
    return sample.factor * math.fsum(
        grown
        for family in _families(sample.name)
        for (name, _), grown in folded.growth(family).items()
        if name == sample.name
    )


def _total_at(at_s: float, told: Sequence[tuple[Folded, Way]]) -> float | None:
    """How much it had grown at a look, over all replicas; None where one that was there before was not read then."""
    total = 0.0
    for folded, way in told:
        if folded.looks_s[0] > at_s:
            continue
        place = _place(folded.looks_s, at_s)
        if place is None:
            return None
        total += math.fsum(sample.factor * folded.totals[place].get(sample.name, 0.0) for sample in way)
    return total


def _at(at_s: float, told: Sequence[tuple[Folded, Way]], share: bool) -> float | None:
    """A gauge over all replicas: the sum, or the mean of shares; None where a replica was not read then."""
    values = []
    for folded, way in told:
        if _place(folded.looks_s, at_s) is None:
            return None
        for sample in way:
            for (_, labels), gauge in folded.gauges.get(sample.name, {}).items():
                if sample.labels.items() <= dict(labels).items():
                    value = _value(gauge, at_s)
                    if value is None:
                        return None
                    values.append(1 - value if sample.complement else value * sample.factor)
    if not values:
        return None
    return math.fsum(values) / len(values) if share else math.fsum(values)


def _value(gauge: Gauge, at_s: float) -> float | None:
    place = _place(gauge.at_s, at_s)
    return gauge.values[place] if place is not None and math.isfinite(gauge.values[place]) else None


def _place(times: Sequence[float], at_s: float) -> int | None:
    place = bisect_left(times, at_s)
    return place if place < len(times) and times[place] == at_s else None


def _buckets(told: Sequence[tuple[Folded, Sample]]) -> Buckets | None:
    """A histogram over all series and replicas; None without the last bucket, which holds everything."""
    if not told:
        return None
    sample = told[0][1]
    parts = [_renamed(folded.growth(own.name), own.name, sample.name) for folded, own in told]
    points = cumulated(sample.name, parts)
    if not points or not math.isinf(points[-1][0]):
        return None
    counts = [points[0][1], *(upper - lower for (_, lower), (_, upper) in pairwise(points))]
    total = added(parts, f"{sample.name}_sum") * sample.factor
    return Buckets(bounds=[bound * sample.factor for bound, _ in points[:-1]], counts=counts, total=total)


def _renamed(growth: Mapping[SampleKey, float], own: str, name: str) -> Mapping[SampleKey, float]:
    """A histogram's growth under another name: one that two versions call differently has the same unit in both."""
    if own == name:
        return growth
    return {(name + key.removeprefix(own), labels): value for (key, labels), value in growth.items()}


def _replica(name: str, folded: Folded, counters: dict[str, float], start_s: float) -> Replica:
    looks = folded.looks_s
    return Replica(
        name=name,
        looks=len(looks),
        first_s=looks[0] - start_s if looks else None,
        last_s=looks[-1] - start_s if looks else None,
        restarts_s=[at - start_s for at in folded.restarts_s],
        counters=counters,
    )
