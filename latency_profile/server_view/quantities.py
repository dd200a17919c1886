"""What one source told of a point, summed up. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from latency_profile.measures import Window
from latency_profile.server_view.structure import (
    CounterView,
    Covers,
    GaugeView,
    HistogramView,
    QuantileView,
    ReadingsView,
    Series,
)
from latency_profile.statistics import NS_PER_S, mean_and_sd, quantile
from latency_profile.telemetry.readings import Buckets, Readings


def view(found: Readings, span: Window, measured_s: float) -> ReadingsView:
    """span: the measured window; measured_s: the point's length."""
    start_s, end_s = span.start_ns / NS_PER_S, span.end_ns / NS_PER_S
    within = [start_s <= at <= end_s for at in found.times_s]
    if not any(within):
        within = [0 <= at <= measured_s for at in found.times_s]
    gauges = {name: _gauge(_chosen(values, within)) for name, values in found.gauges.items()}
    return ReadingsView(
        source=found.source,
        covers=Covers(start_s=found.start_s, end_s=found.end_s),
        at_least=found.at_least,
        unlike=found.unlike,
        names=found.names,
        missing=found.missing,
        models=found.models,
        gauges={name: gauge for name, gauge in gauges.items() if gauge is not None},
        counters={
            name: CounterView(increase=increase, per_second=_rate(found.times_s, found.totals.get(name, []), within))
            for name, increase in found.counters.items()
        },
        histograms={name: _histogram(buckets) for name, buckets in found.histograms.items()},
        series=Series(times_s=found.times_s, gauges=found.gauges, counters=found.totals),
        replicas=found.replicas,
    )


def quantile_of(buckets: Buckets, level: float) -> QuantileView | None:
    """Between which bounds the quantile lies: of n values the one of rank ceil(level·n). None of no values.

    A first bucket begins at 0, as times and lengths do.
    """
    total = math.fsum(buckets.counts)
    if total <= 0:
        return None
    rank = max(1.0, math.ceil(level * total - 1e-9))
    below = 0.0
    for place, count in enumerate(buckets.counts):
        below += count
        if below >= rank:
            low = buckets.bounds[place - 1] if place else 0.0
            return QuantileView(low=low, high=buckets.bounds[place] if place < len(buckets.bounds) else None)
    return None


def _histogram(buckets: Buckets) -> HistogramView:
    n = math.fsum(buckets.counts)
    return HistogramView(
        n=n,
        mean=buckets.total / n if n > 0 else None,
        p50=quantile_of(buckets, 0.5),
        p90=quantile_of(buckets, 0.9),
        p99=quantile_of(buckets, 0.99),
    )


def _chosen(values: Sequence[float | None], within: Sequence[bool]) -> list[float]:
    return [value for value, inside in zip(values, within, strict=True) if inside and value is not None]


def _gauge(values: list[float]) -> GaugeView | None:
    if not values:
        return None
    found = np.sort(values)
    mean, sd = mean_and_sd(found)
    at = {"min": 0.0, "median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return GaugeView(
        n=len(found), mean=mean, sd=sd, **{name: quantile(found, level) or 0.0 for name, level in at.items()}
    )


def _rate(times: Sequence[float], totals: Sequence[float | None], within: Sequence[bool]) -> float | None:
    known = [
        (at, total)
        for at, total, inside in zip(times, totals or [None] * len(times), within, strict=True)
        if inside and total is not None
    ]
    if len(known) < 2:
        return None
    (first_s, first), (last_s, last) = known[0], known[-1]
    return (last - first) / (last_s - first_s)
