"""The client's records against the server's own log, request for request. Pure.

The truth: a request came when the kernel had it, an event went when the server began to write it. Over loopback the
client's kernel has it before that write returns, so an event truly came between `written` and `wrote`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.calibration.structure import Events, MetricError, MetricErrors, Throughputs, Truth
from latency_profile.records import Records, Status
from latency_profile.simulator.log import Finish, TruthLog
from latency_profile.statistics import NS_PER_S

Times = NDArray[Any]

APART_NS = 1_000_000  # closer events than this lose nothing that one would miss when they share a read


@dataclass(frozen=True, slots=True)
class Compared:
    """What `compare` found."""

    requests: int
    failed: int
    lateness_p99_s: float | None
    errors: MetricErrors
    events: Events
    throughput: Throughputs
    truth: Truth


@dataclass(frozen=True, slots=True)
class _Both:
    """The requests that both sides have whole: their rows here and there, and their events, answer after answer."""

    records: Records
    log: TruthLog
    ours: NDArray[np.intp]  # rows of the records, shape (requests,)
    theirs: NDArray[np.intp]  # the log's, shape (requests,)
    origin_ns: int  # the point's start on the clock of the log

    def ours_at(self, column: str) -> Times:
        return self.records[column][self.ours]

    def theirs_at(self, column: str) -> Times:
        """Of a column of times: since the point's start."""
        return np.asarray(getattr(self.log, column)[self.theirs] - self.origin_ns)


def compare(records: Records, log: TruthLog) -> Compared:
    """Joins both sides by x-request-id. Raises ValueError where they have no answered request in common."""
    both = _join(records, log)
    streaming = records.context.streaming
    open_loop = records.context.concurrency is None
    errors, events = _errors(both, streaming, open_loop)
    lateness = both.ours_at("sent_ns") - both.ours_at("due_ns")
    return Compared(
        requests=len(both.ours),
        failed=int((records["status"] != Status.NOT_SENT).sum()) - len(both.ours),
        lateness_p99_s=_seconds(np.percentile(lateness, 99)) if open_loop else None,
        errors=errors,
        events=events,
        throughput=_throughputs(both, open_loop),
        truth=_truth(both),
    )


def _join(records: Records, log: TruthLog) -> _Both:
    context = records.context
    place = {name: row for row, name in enumerate(log.request_id.tolist())}
    prefix = f"{context.nonce}-{context.point}-"
    found = np.array([place.get(f"{prefix}{index}", -1) for index in records["index"].tolist()], dtype=np.intp)
    whole = (found >= 0) & (records["status"] == Status.OK)
    whole[whole] = log.finish[found[whole]] == Finish.LENGTH
    whole[whole] = np.diff(log.event_start)[found[whole]] > 0
    if context.streaming:
        whole &= np.diff(records.event_start) > 0
    ours = np.flatnonzero(whole)
    if not len(ours):
        raise ValueError("the server of known timing answered none of the requests")
    return _Both(records, log, ours, found[ours], context.started_monotonic_ns)


def _gather(start: NDArray[np.int64], rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the rows' events, row after row, and how many each has."""
    counts = np.diff(start)[rows]
    begins = np.cumsum(counts) - counts
    return np.repeat(start[rows] - begins, counts) + np.arange(int(counts.sum())), counts


def _gaps(times: Times, counts: NDArray[np.int64]) -> tuple[Times, NDArray[np.intp]]:
    """Gaps between successive events of each answer, and which answer each is of."""
    owner = np.repeat(np.arange(len(counts)), counts)
    inside = owner[1:] == owner[:-1]
    return np.diff(times)[inside], owner[1:][inside]


def _errors(both: _Both, streaming: bool, open_loop: bool) -> tuple[MetricErrors, Events]:
    sent, due, end = both.ours_at("sent_ns"), both.ours_at("due_ns"), both.ours_at("end_ns")
    arrival, true_end = both.theirs_at("arrival_ns"), both.theirs_at("end_ns")
    our_events, our_counts = _gather(both.records.event_start, both.ours)
    their_events, their_counts = _gather(both.log.event_start, both.theirs)
    firsts = their_events[np.cumsum(their_counts) - their_counts]
    lasts = their_events[np.cumsum(their_counts) - 1]
    first, last = (both.log.written_ns[events] - both.origin_ns for events in (firsts, lasts))
    tokens, true_tokens = both.ours_at("output_tokens"), both.log.output_tokens[both.theirs].astype(np.int64)
    counted = np.asarray((tokens > 0) & (true_tokens > 0))
    several = np.asarray((tokens > 1) & (true_tokens > 1))
    our_first, our_last = both.ours_at("first_token_ns"), both.ours_at("last_token_ns")
    tpot = itl = None
    if streaming:
        tpot = error(
            ((our_last - our_first) / np.maximum(tokens - 1, 1))[several],
            ((last - first) / np.maximum(true_tokens - 1, 1))[several],
        )
    our_gaps, our_owner = _gaps(both.records.event_ns[our_events], our_counts)
    their_gaps, their_owner = _gaps(both.log.written_ns[their_events], their_counts)
    paired = our_counts == their_counts
    one, other = our_gaps[paired[our_owner]], their_gaps[paired[their_owner]]
    if streaming:
        itl = error(our_gaps, their_gaps, one - other)
    return (
        MetricErrors(
            ttft=error(our_first - sent, first - arrival) if streaming else None,
            tpot=tpot,
            itl=itl,
            ntpot=error((end - sent)[counted] / tokens[counted], (true_end - arrival)[counted] / true_tokens[counted]),
            e2e=error(end - sent, true_end - arrival),
            response_ttft=error(our_first - due, first - due) if streaming and open_loop else None,
            response_e2e=error(end - due, true_end - due) if open_loop else None,
            lateness=error(sent - due, arrival - due) if open_loop else None,
        ),
        Events(
            written=int(their_counts.sum()),
            received=int(our_counts.sum()) if streaming else int(their_counts.sum()),
            lost=int(np.maximum(their_counts - our_counts, 0).sum()) if streaming else 0,
            merged=int(((one == 0) & (other > APART_NS)).sum()),
        ),
    )


def error(client: Times, truth: Times, differences: Times | None = None) -> MetricError | None:
    """The client's values against the true ones, in ns; None where there are none. `differences` of values that belong
    to each other; without them those of equal place do."""
    if differences is None:
        differences = client - truth
    if not len(differences):
        return None
    p50, p90, p99 = np.percentile(client, (50, 90, 99)) - np.percentile(truth, (50, 90, 99))
    return MetricError(
        n=len(differences),
        mean_s=_seconds(client.mean() - truth.mean()),
        p50_s=_seconds(p50),
        p90_s=_seconds(p90),
        p99_s=_seconds(p99),
        sd_s=_seconds(differences.std()),
        p99_of_differences_s=_seconds(np.percentile(np.abs(differences), 99)),
    )


def _throughputs(both: _Both, open_loop: bool) -> Throughputs:
    sent, arrival = both.ours_at("sent_ns"), both.theirs_at("arrival_ns")
    due = both.ours_at("due_ns")
    return Throughputs(
        planned_requests_per_s=_rate(due) if open_loop else None,
        sent_requests_per_s=_rate(sent),
        arrived_requests_per_s=_rate(arrival),
        planned_gaps_cv=_variation(due) if open_loop else None,
        arrived_gaps_cv=_variation(arrival),
        received_tokens_per_s=_per_second(
            both.ours_at("output_tokens").sum(), both.ours_at("end_ns").max() - sent.min()
        ),
        written_tokens_per_s=_per_second(
            both.log.output_tokens[both.theirs].sum(), both.theirs_at("end_ns").max() - arrival.min()
        ),
    )


def _per_second(amount: Any, ns: Any) -> float | None:
    return float(amount) / _seconds(ns) if ns > 0 else None


def _rate(times: Times) -> float | None:
    return _per_second(len(times) - 1, times.max() - times.min())


def _variation(times: Times) -> float | None:
    gaps = np.diff(np.sort(times))
    return float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else None


def _truth(both: _Both) -> Truth:
    events, _ = _gather(both.log.event_start, both.theirs)
    written, wrote = both.log.written_ns[events], both.log.wrote_ns[events]
    took = (wrote - written)[wrote >= written]
    return Truth(
        uncertainty_p99_s=_seconds(np.percentile(took, 99)) if len(took) else None,
        server_late_p99_s=_seconds(np.percentile(written - both.log.scheduled_ns[events], 99)),
        events_per_s=busiest_second(written),
    )


def busiest_second(times_ns: Times) -> float:
    """The most events in any second that begins with one of them; of a shorter time than a second, all of them."""
    ordered = np.sort(times_ns)
    return float((np.searchsorted(ordered, ordered + round(NS_PER_S)) - np.arange(len(ordered))).max(initial=0))


def _seconds(ns: Any) -> float:
    return float(ns) / NS_PER_S
