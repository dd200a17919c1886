"""What a server's metrics did over a point, under the server's own names. Pure.

Values are in the metric's own unit (its name says which: `_seconds`, `_tokens`), rates a second.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latency_profile.statistics import mean_and_sd, quantile
from latency_profile.telemetry.exposition import Labels, Scrape
from latency_profile.telemetry.fold import Folded, SampleKey, without_bound

Metrics = dict[str, dict[str, float]]  # metric → statistic → value; every value is finite

QUANTILES = {"Median": 0.5, "P90": 0.9, "P95": 0.95, "P99": 0.99}


def deltas(before: Scrape, after: Scrape) -> tuple[Metrics, list[str]]:
    """The same of one replica and two looks at it."""
    folded = Folded()
    folded.add(before)
    folded.add(after)
    return summaries({"": folded}, before.at_s, after.at_s)


def summaries(replicas: Mapping[str, Folded], start_s: float, end_s: float) -> tuple[Metrics, list[str]]:
    """The point's share of every metric, over all replicas, and notices. The point: Unix s.

    counter    Increase, Rate
    gauge      First, Last: at the first and last look; Mean, Median, Sd, Min, Max, P90, P95, P99 of the looks within
               the point. Each series under its own name where a replica has several; of several replicas the mean of
               each statistic, and Min and Max over all
    histogram  Count, Sum, Mean and Median, P90, P95, P99, over all series together, interpolated as PromQL does;
               Min, Max: the bounds of the first and last bucket that got observations; only Count where none did
    summary    Count, Sum, Mean

    Where a process restarted, what it counted between the last look before that and its end is missing, and the notice
    says so. Where several processes answer in turn behind one address, increases mean nothing and are left out.
    """
    metrics: Metrics = {}
    notices = [*_restarts(replicas, start_s), *_several(replicas), *_unseen(replicas, start_s)]
    folds = [folded for folded in replicas.values() if folded.looks_s]
    kinds = {name: kind for folded in folds for name, kind in folded.kinds.items()}
    for name, kind in kinds.items():
        if kind in {"gauge", "untyped"}:
            metrics |= gauges(name, folds, start_s, end_s)
            continue
        if any(folded.several for folded in folds):
            continue
        if not any(folded.counts for folded in folds):  # one look tells of no change: not even of none
            continue
        parts = [folded.growth(name) for folded in folds]
        if kind == "counter":
            seconds = max(folded.looks_s[-1] for folded in folds) - min(folded.looks_s[0] for folded in folds)
            increase = math.fsum(grown for part in parts for grown in part.values())
            metrics[name] = {"Increase": increase, "Rate": increase / seconds if seconds > 0 else 0.0}
        else:
            metrics[name], beyond = distribution(name, parts)
            if beyond:
                notices.append(f"{name}: {', '.join(beyond)} lie beyond its last bucket; shown is that bucket's bound")
    anew = sorted({name for folded in folds if not folded.restarts_s for name in folded.reset})
    if anew:
        notices.append(f"counters began anew during the point; increases lack what they lost: {', '.join(anew)}")
    gone = sorted({name for folded in folds for name in folded.gone})
    if gone:
        notices.append(f"series ended during the point; increases may lack some of theirs: {', '.join(gone)}")
    finite = {name: {key: v for key, v in row.items() if math.isfinite(v)} for name, row in metrics.items()}
    return {name: row for name, row in finite.items() if row}, notices


def _restarts(replicas: Mapping[str, Folded], start_s: float) -> Iterator[str]:
    """A notice for each replica that restarted within the point."""
    for name, folded in replicas.items():
        if not folded.restarts_s or folded.several:
            continue
        times = ", ".join(f"{at - start_s:.1f} s" for at in folded.restarts_s)
        which = f"the replica {name}" if len(replicas) > 1 else "the server"
        what = f" ({', '.join(sorted(folded.reset))})" if folded.reset else ""
        yield (
            f"{which} restarted during the point (seen at {times}){what}: increases lack what it counted between the "
            "last look at it and its end"
        )


def _unseen(replicas: Mapping[str, Folded], start_s: float) -> Iterator[str]:
    """A notice for each replica whose edges were not both seen."""
    for name, folded in replicas.items():
        which = f"the replica {name}" if len(replicas) > 1 else "the server"
        if folded.late:
            yield (
                f"{which} was first seen at {folded.looks_s[0] - start_s:.1f} s: increases lack what it counted before"
            )
        elif folded.looks_s and not folded.counts:
            yield f"{which} was seen only once: its increases are left out"


def _several(replicas: Mapping[str, Folded]) -> Iterator[str]:
    for name, folded in replicas.items():
        if folded.several:
            yield (
                f"several processes answer in turn behind {name or 'one address'}: increases of server metrics are "
                "left out; --metrics-urls names each of them"
            )


def added(parts: Sequence[Mapping[SampleKey, float]], sample: str) -> float:
    """The sum of one sample over all series of all replicas."""
    return math.fsum(value for part in parts for (name, _), value in part.items() if name == sample)


def gauges(name: str, folds: Sequence[Folded], start_s: float, end_s: float) -> Metrics:
    """Statistics of each series; several series of a replica are told apart by the labels in which they differ."""
    rows: dict[str, list[dict[str, float]]] = {}
    for folded in folds:
        series = folded.gauges.get(name, {})
        common = set.intersection(*(set(labels) for _, labels in series)) if series else set()
        for (_, labels), gauge in series.items():
            own = ",".join(f'{label}="{text}"' for label, text in labels if (label, text) not in common)
            values = np.array(gauge.values)
            at_s = np.array(gauge.at_s)
            within = values[(at_s > start_s) & (at_s <= end_s)]
            row = {"Last": float(values[-1])} if gauge.at_s[-1] == folded.looks_s[-1] else {}
            if gauge.at_s[0] == folded.looks_s[0]:
                row["First"] = float(values[0])
            rows.setdefault(f"{name}{{{own}}}" if own else name, []).append(row | described(within))
    over = {"Min": min, "Max": max}
    return {
        key: {
            statistic: over.get(statistic, _mean)([row[statistic] for row in found if statistic in row])
            for statistic in dict.fromkeys(statistic for row in found for statistic in row)
        }
        for key, found in rows.items()
    }


def described(values: NDArray[np.float64]) -> dict[str, float]:
    """The statistics of a gauge's values, with NumPy's linear percentiles; nothing where there are none."""
    found = np.sort(values[np.isfinite(values)])
    if not len(found):
        return {}
    mean, sd = mean_and_sd(found)
    levels = {"Min": 0.0, "Max": 1.0, **QUANTILES}
    return {"Mean": mean, "Sd": sd, **{key: quantile(found, level) or 0.0 for key, level in levels.items()}}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def distribution(name: str, parts: Sequence[Mapping[SampleKey, float]]) -> tuple[dict[str, float], list[str]]:
    """A histogram's or summary's statistics over what was observed, and the quantiles beyond the last finite bucket.
    parts: what each replica's samples grew by."""
    points = cumulated(name, parts)
    count, total = added(parts, f"{name}_count"), added(parts, f"{name}_sum")
    if count <= 0:
        return {"Count": 0.0}, []
    row = {"Count": count, "Sum": total, "Mean": total / count}
    row |= {key: histogram_quantile(q, points) for key, q in QUANTILES.items()}
    if points and points[-1][1] > 0:
        origin = (0.0 if points[0][0] > 0 else -math.inf, 0.0)
        row["Min"] = next(lower for (lower, below), (_, upto) in pairwise([origin, *points]) if upto > below)
        row["Max"] = histogram_quantile(1.0, points)
    wanted = {**QUANTILES, "Max": 1.0}
    beyond = [key for key, q in wanted.items() if len(points) > 1 and points[-2][1] < q * points[-1][1]]
    return row, beyond


def cumulated(name: str, parts: Sequence[Mapping[SampleKey, float]]) -> list[tuple[float, float]]:
    """A histogram's buckets over all series of all replicas: (upper bound, observations up to it), by bound. Only the
    bounds that all series have which observed anything: at another one, what the others observed is not known."""
    series: dict[tuple[int, Labels], dict[float, float]] = {}
    for place, part in enumerate(parts):
        for (sample, labels), value in part.items():
            if sample == f"{name}_bucket":
                series.setdefault((place, without_bound(labels)), {})[_bound(labels)] = value
    active = [buckets for buckets in series.values() if any(buckets.values())] or list(series.values())
    shared = set.intersection(*(set(buckets) for buckets in active)) if active else set()
    return [(bound, math.fsum(buckets[bound] for buckets in active)) for bound in sorted(shared)]


def _bound(labels: Labels) -> float:
    return float(dict(labels)["le"])


def histogram_quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float:
    """The q-quantile of cumulative buckets [(upper bound, count), …], sorted, as PromQL's histogram_quantile has it.

    Linear inside a bucket; the first one begins at 0 if its bound is positive. In the last bucket, +Inf, the bound
    before it is given. NaN for no observations or no +Inf bucket. Counts that fall (scraped while they changed) are
    raised to the one before.
    """
    if len(buckets) < 2 or not math.isinf(buckets[-1][0]):
        return math.nan
    counts = [buckets[0][1]]
    for _, (_, count) in pairwise(buckets):
        counts.append(max(counts[-1], count))
    if counts[-1] <= 0:
        return math.nan
    rank = q * counts[-1]
    place = next(i for i, count in enumerate(counts) if count >= rank)
    if place == len(counts) - 1:
        return buckets[-2][0]
    upper = buckets[place][0]
    if place == 0 and upper <= 0:
        return upper
    lower = buckets[place - 1][0] if place else 0.0
    below = counts[place - 1] if place else 0.0
    inside = counts[place] - below
    return lower + (upper - lower) * (rank - below) / inside if inside > 0 else upper
