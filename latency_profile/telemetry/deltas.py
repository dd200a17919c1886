"""What a server's metrics did between two looks at them. Pure.

Values are in the metric's own unit (its name says which: `_seconds`, `_tokens`), rates a second.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from latency_profile.telemetry.exposition import Family, Labels, Scrape

Metrics = dict[str, dict[str, float]]  # metric → statistic → value; every value is finite

QUANTILES = {"Median": 0.5, "P90": 0.9, "P95": 0.95, "P99": 0.99}
PROCESS_START = "process_start_time_seconds"


def deltas(before: Scrape, after: Scrape) -> tuple[Metrics, list[str]]:
    """The point's share of every metric that `after` has, and notices.

    counter    Increase, Rate: summed over its series; a series that is new counts from 0
    gauge      First, Last: at the two edges; each series under its own name where there are several
    histogram  Count, Sum, Mean and Median, P90, P95, P99, over all series together, interpolated as PromQL does;
               Min, Max: the bounds of the first and last bucket that got observations; only Count where none did
    summary    Count, Sum, Mean

    A counter that fell was reset by a restart: what it shows since then counts, which is less than the truth, and the
    notice says so. Where the process itself is another one (also: another replica behind the same address), increases
    mean nothing and are left out.
    """
    metrics: Metrics = {}
    notices: list[str] = []
    same_process = process_starts(before) == process_starts(after)
    if not same_process:
        notices.append(
            "another process answered after the point than before it (a restart, or several replicas behind one "
            "address): increases of server metrics are left out"
        )
    seconds = after.at_s - before.at_s
    reset: list[str] = []
    gone: list[str] = []
    for name, family in after.families.items():
        earlier = before.families.get(name, Family(family.kind))
        if family.kind in {"gauge", "untyped"}:
            metrics |= gauges(name, earlier, family)
            continue
        if not same_process:
            continue
        growth, fell = increases(earlier, family)
        if fell:
            reset.append(name)
        if earlier.samples.keys() - family.samples.keys():
            gone.append(name)
        if family.kind == "counter":
            increase = math.fsum(growth.values())
            metrics[name] = {"Increase": increase, "Rate": increase / seconds if seconds > 0 else 0.0}
        else:
            metrics[name], beyond = distribution(name, growth)
            if beyond:
                notices.append(f"{name}: {', '.join(beyond)} lie beyond its last bucket; shown is that bucket's bound")
    if reset:
        notices.append(f"the server restarted during the point; increases are lower bounds: {', '.join(reset)}")
    if gone:
        notices.append(f"series ended during the point (a replica left); increases lack theirs: {', '.join(gone)}")
    finite = {name: {key: v for key, v in row.items() if math.isfinite(v)} for name, row in metrics.items()}
    return {name: row for name, row in finite.items() if row}, notices


def process_starts(scrape: Scrape) -> set[float]:
    """When the processes behind the metrics started, where they tell."""
    family = scrape.families.get(PROCESS_START)
    return set(family.samples.values()) if family else set()


def gauges(name: str, earlier: Family, later: Family) -> Metrics:
    """First and Last of each series; several series are told apart by the labels in which they differ."""
    common = set.intersection(*(set(labels) for _, labels in later.samples))
    metrics: Metrics = {}
    for key, value in later.samples.items():
        own = ",".join(f'{label}="{text}"' for label, text in key[1] if (label, text) not in common)
        row = {"Last": value}
        if key in earlier.samples:
            row = {"First": earlier.samples[key], **row}
        metrics[f"{name}{{{own}}}" if own else name] = row
    return metrics


def increases(earlier: Family, later: Family) -> tuple[dict[tuple[str, Labels], float], bool]:
    """How much each sample grew, and whether any was reset.

    A histogram's samples are reset together: one bucket can have overtaken its old count already when another has not.
    """
    fallen = {
        without_bound(labels)
        for (sample, labels), value in later.samples.items()
        if value < earlier.samples.get((sample, labels), 0.0) and not sample.endswith("_sum")
    }
    growth = {
        key: value if without_bound(key[1]) in fallen else value - earlier.samples.get(key, 0.0)
        for key, value in later.samples.items()
    }
    return growth, bool(fallen)


def without_bound(labels: Labels) -> Labels:
    """The labels that name a histogram's series: all but the bucket's bound."""
    return tuple(label for label in labels if label[0] != "le")


def distribution(name: str, growth: Mapping[tuple[str, Labels], float]) -> tuple[dict[str, float], list[str]]:
    """A histogram's or summary's statistics over what was observed, and the quantiles beyond the last finite bucket."""
    buckets: dict[float, float] = {}
    for (sample, labels), value in growth.items():
        if sample == f"{name}_bucket":
            bound = float(dict(labels)["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    count = math.fsum(value for (sample, _), value in growth.items() if sample == f"{name}_count")
    total = math.fsum(value for (sample, _), value in growth.items() if sample == f"{name}_sum")
    if count <= 0:
        return {"Count": 0.0}, []
    row = {"Count": count, "Sum": total, "Mean": total / count}
    points = sorted(buckets.items())
    row |= {key: histogram_quantile(q, points) for key, q in QUANTILES.items()}
    if points and points[-1][1] > 0:
        origin = (0.0 if points[0][0] > 0 else -math.inf, 0.0)
        row["Min"] = next(lower for (lower, below), (_, upto) in pairwise([origin, *points]) if upto > below)
        row["Max"] = histogram_quantile(1.0, points)
    wanted = {**QUANTILES, "Max": 1.0}
    beyond = [key for key, q in wanted.items() if len(points) > 1 and points[-2][1] < q * points[-1][1]]
    return row, beyond


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
