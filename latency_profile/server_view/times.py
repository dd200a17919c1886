"""Latencies by the client's records and by the server's histograms. Pure."""

import math

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.records import Records
from latency_profile.server_view.counts import comparable
from latency_profile.server_view.quantities import quantile_of
from latency_profile.server_view.structure import QuantileView, Timed, TtftSplit
from latency_profile.statistics import NS_PER_S, quantile
from latency_profile.telemetry.readings import Readings
from latency_profile.telemetry.vocabulary import Quantity

# HTTP on both sides and the way between two processes of one machine take a millisecond or two, more where the server
# is busy; what is beyond is worth a name.
TOLERANCE_S = 0.005
# Two distributions of nearly the same requests: a histogram of a hundredth more or fewer may differ at its p99.
SAME_SHARE = 0.01


def ttft(records: Records, found: Readings) -> Timed | None:
    if not records.context.streaming:
        return None
    good = measures.succeeded(records, measures.all_rows(records))
    return timed(records, found, Quantity.TTFT, measures.time_to_first_token(records, good, "sent_ns").values)


def e2e(records: Records, found: Readings) -> Timed | None:
    good = measures.succeeded(records, measures.all_rows(records))
    return timed(records, found, Quantity.E2E, measures.end_to_end(records, good, "sent_ns").values)


def itl(records: Records, found: Readings) -> Timed | None:
    if not records.context.streaming:
        return None
    good = measures.succeeded(records, measures.all_rows(records))
    return timed(records, found, Quantity.ITL, measures.gaps(records, good).values)


def timed(records: Records, found: Readings, quantity: Quantity, values_ns: NDArray[np.generic]) -> Timed | None:
    """values_ns: the client's, of succeeded requests. None where one of the two has none."""
    buckets = found.histograms.get(quantity.value)
    server_n = math.fsum(buckets.counts) if buckets else 0.0
    if buckets is None or server_n <= 0 or not len(values_ns) or not comparable(records):
        return None
    ours = np.sort(values_ns.astype(np.float64)) / NS_PER_S
    p50, p90, p99 = (quantile(ours, level) or 0.0 for level in (0.5, 0.9, 0.99))
    theirs = [quantile_of(buckets, level) for level in (0.5, 0.9, 0.99)]
    tolerance = tolerance_s(records)
    same = abs(server_n - len(ours)) <= SAME_SHARE * len(ours)
    pairs = zip((0.5, 0.9, 0.99), theirs, strict=True)
    return Timed(
        client_n=len(ours),
        server_n=server_n,
        client_mean_s=float(ours.mean()),
        server_mean_s=buckets.total / server_n,
        client_p50_s=p50,
        client_p90_s=p90,
        client_p99_s=p99,
        server_p50=theirs[0],
        server_p90=theirs[1],
        server_p99=theirs[2],
        tolerance_s=tolerance,
        agrees=all(apart(ours, level, between, tolerance) == 0 for level, between in pairs) if same else None,
    )


def tolerance_s(records: Records) -> float:
    """TOLERANCE_S, or what calibration has found this client to be wrong by, if that is more."""
    calibration = records.context.calibration
    error = calibration.errors.ttft if calibration else None
    return max(TOLERANCE_S, error.p99_of_differences_s if error else 0.0)


def apart(ours: NDArray[np.float64], level: float, between: QuantileView | None, tolerance: float) -> float:
    """By how much the client's quantile is above (or, negative, below) what the bucket and the tolerance allow, s.

    The quantile may as well be its neighbours: both sides name a value among few by rules of their own.
    """
    if between is None:
        return 0.0
    place = level * (len(ours) - 1)
    low, high = ours[max(0, math.floor(place) - 1)], ours[min(len(ours) - 1, math.ceil(place) + 1)]
    if between.high is not None and low > between.high + tolerance:
        return float(low - between.high)
    if high < between.low - tolerance:
        return float(high - between.low)
    return 0.0


def ttft_split(records: Records, found: Readings, compared: Timed | None) -> TtftSplit | None:
    """Of mean values, of which alone parts add up. None unless streamed, or where nothing of it is told."""
    if not records.context.streaming or not comparable(records):
        return None
    good = measures.succeeded(records, measures.all_rows(records))
    service = measures.time_to_first_token(records, good, "sent_ns").values
    if not len(service):
        return None
    closed = records.context.concurrency is not None
    answered = good & (records["first_token_ns"] >= 0)
    lateness = 0.0 if closed else float((records["sent_ns"] - records["due_ns"])[answered].mean()) / NS_PER_S
    service_s = float(service.mean()) / NS_PER_S
    queue = _mean(records, good, found, "queue", Quantity.QUEUE, Quantity.QUEUE_SECONDS)
    prefill = _mean(records, good, found, "prefill", Quantity.PREFILL)
    outside = service_s - compared.server_mean_s if compared and compared.agrees is not None else None
    if outside is None and queue is None and prefill is None:
        return None
    return TtftSplit(
        total_s=lateness + service_s,
        lateness_s=lateness,
        outside_s=outside,
        queue_s=queue,
        prefill_s=prefill,
        rest_s=service_s - (outside or 0.0) - (queue or 0.0) - (prefill or 0.0),
    )


def _mean(records: Records, good: measures.Rows, found: Readings, part: str, *quantities: Quantity) -> float | None:
    """By what answers say, else by a histogram of as many requests as the client's, else by a counter of seconds."""
    told = measures.server_time(records, good, f"server_{part}_ns").values
    requests = int(good.sum())
    if len(told) == requests:
        return float(told.mean()) / NS_PER_S
    for quantity in quantities:
        buckets = found.histograms.get(quantity.value)
        n = math.fsum(buckets.counts) if buckets else 0.0
        if buckets and n and abs(n - requests) <= SAME_SHARE * requests:
            return buckets.total / n
        counted_n = found.counters.get(Quantity.REQUESTS.value, requests)
        if quantity.value in found.counters and abs(counted_n - requests) <= SAME_SHARE * requests:
            return found.counters[quantity.value] / requests
    return None
