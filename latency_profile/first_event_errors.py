"""By how much TTFT is too long because first events were read late, together with later ones. Pure.

The kernel stamps what it receives, but bytes that wait in one socket get the stamp of the last of them. Two things are
known of a first event that was read so: the loop had last looked `first_early_ns` before that stamp, and n events of
the same answer came between. When it came is estimated by two clocks, each wrong in its own way, and the mean is taken:

- *Time.* Events of one answer are a usual gap apart, so the first came n gaps earlier; but not before the server was
  seen at work, by the earliest other event in the time that nobody looked. (A server that lost its CPU and then makes
  up for it sends in one millisecond what was due in ten. Of k others anywhere in a span, the earliest lies
  1 / (k + 1) of it from its start on average.)
- *Events.* While an answer goes one event further, so do all answers in flight: the first event lies n times their
  number back in the order of all events. A server that makes up for lost time keeps that order, roughly.

What it is worth, against a server's log: docs/architecture.md, "Verdicts against the log".
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.answer_tokens import LATE_READ_NS
from latency_profile.measures import Rows
from latency_profile.records import Records
from latency_profile.statistics import NS_PER_S, quantile

_ANSWERS_LOOKED_AT = 1000  # spread over the point, from which a server's cadence and bunching are told
_FEWEST_IN_ORDER = 10  # events back: of fewer, the order among them is chance


def first_event_errors_s(records: Records, rows: Rows) -> tuple[float | None, float | None]:
    """By how much the p50 and the p99 of service TTFT are likely too long, seconds; None without a first token."""
    chosen = np.flatnonzero(measures.succeeded(records, rows) & (records["first_token_ns"] >= 0))
    ttft = (records["first_token_ns"] - records["sent_ns"])[chosen]
    if not len(ttft):
        return None, None
    less = np.sort(ttft - _errors_ns(records, chosen))
    ttft.sort()

    def error(level: float) -> float:
        ours, true = quantile(ttft, level), quantile(less, level)
        return (ours - true) / NS_PER_S if ours is not None and true is not None else 0.0

    return error(0.5), error(0.99)


def _errors_ns(records: Records, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """How much earlier than its stamp the first event of each chosen answer likely came."""
    errors = np.zeros(len(chosen))
    counts = np.diff(records.event_start)[chosen]
    suspects = np.flatnonzero((counts > 1) & (records["first_early_ns"][chosen] > LATE_READ_NS))
    if not len(suspects):
        return errors
    gap, bunch = _cadence(records, chosen[counts > 1])
    for places, seen in _by_loop(records, chosen, suspects):
        for place in places:
            row = chosen[place]
            behind = _together(_times(records, row)) - bunch
            if behind > 0:
                errors[place] = _error_ns(records, row, behind, gap, seen)
    return errors


class _Seen(NamedTuple):
    """What one loop received: ns from the start of the point, each sorted."""

    events: NDArray[np.int64]  # around the suspects only
    first: NDArray[np.int64]  # of each answer of several events
    last: NDArray[np.int64]


def _error_ns(records: Records, row: int, behind: int, gap: float, seen: _Seen) -> float:
    stamp, unseen = int(records["first_token_ns"][row]), int(records["first_early_ns"][row])
    since = np.searchsorted(seen.events, stamp - unseen, side="right")
    back = stamp - seen.events[since : np.searchsorted(seen.events, stamp, side="left")][::-1].astype(np.float64)
    at_work = min(unseen, float(back[-1]) * (len(back) + 1) / len(back)) if len(back) else unseen
    by_time = min(behind * gap, at_work)
    in_flight = np.searchsorted(seen.first, stamp, side="right") - np.searchsorted(seen.last, stamp, side="left")
    place = behind * int(in_flight)
    if place < _FEWEST_IN_ORDER:
        return by_time
    distances = np.concatenate(([0.0], back, [at_work]))
    by_order = float(distances[min(place, len(back) + 1)])
    return (by_time + by_order) / 2


def _by_loop(
    records: Records, chosen: NDArray[np.intp], suspects: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], _Seen]]:
    """The suspects of each sender process, with what it received: stamps of one machine's clock."""
    worker, counts = records["worker"], np.diff(records.event_start)
    for loop in np.unique(worker[chosen[suspects]]):
        places = suspects[worker[chosen[suspects]] == loop]
        ends = records["first_token_ns"][chosen[places]]
        events = records.event_ns[np.repeat(worker == loop, counts)]
        streams = np.flatnonzero((worker == loop) & (counts > 1))
        yield (
            places,
            _Seen(
                events=np.sort(events[_within(events, ends - records["first_early_ns"][chosen[places]], ends)]),
                first=np.sort(records["first_token_ns"][streams]),
                last=np.sort(records.event_ns[records.event_start[streams + 1] - 1]),
            ),
        )


def _within(values: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values lie in one of the spans. Sorting all of a long point's events would cost more than its analysis."""
    order = np.argsort(starts)
    until = np.maximum.accumulate(ends[order])
    span = np.searchsorted(starts[order], values, side="right") - 1
    return (span >= 0) & (values <= until[np.maximum(span, 0)])


def _cadence(records: Records, rows: NDArray[np.intp]) -> tuple[float, int]:
    """Of answers of two events or more: the gap between events in ns, the median over answers (from the last event that
    shares the first one's stamp on), and how many events share a stamp as a rule, the median over reads."""
    gaps, lengths = [], []
    for row in rows[:: max(1, len(rows) // _ANSWERS_LOOKED_AT)]:
        times = _times(records, row)
        together = _together(times)
        if together < len(times):
            gaps.append(int(times[-1] - times[0]) / (len(times) - together))
        lengths.append(np.diff(np.flatnonzero(np.concatenate(([True], np.diff(times) > 0, [True])))))
    return float(np.median(gaps)) if gaps else 0.0, int(np.median(np.concatenate(lengths)))


def _times(records: Records, row: int) -> NDArray[np.int64]:
    return records.event_ns[records.event_start[row] : records.event_start[row + 1]]


def _together(times: NDArray[np.int64]) -> int:
    """How many events share the first one's stamp, itself included."""
    return int(np.searchsorted(times, times[0], side="right"))
