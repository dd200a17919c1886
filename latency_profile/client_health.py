"""The client's own health over one point: from its counts and its records, for the results and the verdict. Pure."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from latency_profile.first_event_errors import first_event_errors_s
from latency_profile.measures import Rows, Window
from latency_profile.records import Flag, Records, Status
from latency_profile.sender.job import BEAT_NS
from latency_profile.shards.structure import step
from latency_profile.statistics import NS_PER_S, quantile
from latency_profile.telemetry.processor import ProcessorUse

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

# The two ways of counting look at slightly different moments: the parent hears of a count up to a beat after it was
# true. What that makes of a mean is seen in how far single looks are apart: so many of its standard errors are allowed,
# one chance in two million. Below a request, or a hundredth of what is in flight, edges do as much.
COUNT_STANDARD_ERRORS = 5.0
COUNT_SHARE_LIMIT = 0.01
FEWEST_LOOKS = 8


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Spread(_Whole, frozen=True, kw_only=True):
    p50_s: float
    p99_s: float
    max_s: float


class Processor(_Whole, frozen=True, kw_only=True):
    """The CPU that the client used, was allowed, and had to wait for, over the point. null: the system does not say."""

    cpus: Annotated[int, Meta(ge=1, description="that the client may run on")]
    cgroup: Annotated[str | None, Meta(description="v1 or v2; null: no control group accounts for CPU")]
    limit_cores: Annotated[float | None, Meta(description="the tightest quota of the client's groups; null: no limit")]
    allowed_cores: Annotated[float, Meta(gt=0, description="the lesser of cpus and limit_cores")]
    sender_core_shares: Annotated[
        list[Seconds], Meta(description="CPU of each sender process as a share of one core; a process cannot have more")
    ]
    parent_cpu_s: Annotated[float, Meta(ge=0, description="of the process that watches the senders")]
    share_of_allowed: Annotated[float, Meta(ge=0, description="CPU of the whole client / (allowed_cores × time)")]
    cgroup_cpu_s: Annotated[float | None, Meta(description="of everything in the client's own group")]
    periods: Annotated[int, Meta(ge=0, description="accounting periods in which the group had something to run")]
    throttled_periods: Annotated[int, Meta(ge=0, description="of these: in which it used up its quota and had to wait")]
    throttled_share: Annotated[Share, Meta(description="throttled_periods / periods; 0 without a limit")]
    throttled_s: Annotated[float, Meta(ge=0, description="summed over CPUs")]
    waited_share: Annotated[
        float | None,
        Meta(description="of the time, of the sender process that is worst off: it could run, and others had the CPUs"),
    ]
    stolen_s: Annotated[float | None, Meta(description="given to other machines by the hypervisor, summed over CPUs")]
    stolen_share: Annotated[float | None, Meta(description="stolen_s / (the machine's CPUs × time)")]
    machine_busy_share: Annotated[float | None, Meta(description="of the machine's CPUs × time, by whomever")]


class Little(_Whole, frozen=True, kw_only=True):
    """Requests in flight between ramp and drain, counted twice: by the running loops, and by the records, which are
    read from the spools afterwards. They differ where the client lost or doubled requests."""

    looks: Annotated[int, Meta(ge=0, description="how often the loops' counters were looked at")]
    in_flight_counted: Annotated[float, Meta(description="mean over the looks, by the loops' counters")]
    in_flight_recorded: Annotated[float, Meta(description="mean at the same moments, by the records")]
    arrivals_per_s: Annotated[float, Meta(ge=0, description="by the records, λ")]
    time_in_flight_s: Annotated[float, Meta(ge=0, description="mean of these arrivals, sent to end, W")]
    arrivals_times_time: Annotated[float, Meta(ge=0, description="λW: what in_flight should be by Little's law")]
    limit: Annotated[float, Meta(gt=0, description="how far the two counts may be apart by when they were looked at")]

    @property
    def agrees(self) -> bool:
        return abs(self.in_flight_counted - self.in_flight_recorded) <= self.limit


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the records' context says of the client; not all that makes records counts all of it."""

    processes: int | None = None
    reads: int | None = None
    connections_opened: int | None = None
    connections_failed: int | None = None
    connections_closed_by_server: int | None = None
    requests_on_reused_connections: int | None = None
    requests_resent: int | None = None
    requests_retried: int | None = None
    retries: int | None = None
    most_waiting_for_connection: int | None = None
    cpu_s: float | None = None
    longest_turn_s: float | None = None
    slowest_spool_flush_s: float | None = None
    stalls: int | None = None
    stalled_s: float | None = None
    error_samples: dict[str, list[str]] = {}
    sender_core_shares: list[float] = []
    processor: ProcessorUse | None = None
    in_flight: list[tuple[int, int, int]] = []


class ClientHealth(_Whole, frozen=True, kw_only=True):
    """The client over the whole point, latencies of its own over the window. null: not known, or there is none."""

    processes: Annotated[Count | None, Meta(description="sender processes")]
    reads: Count | None
    connections_opened: Count | None
    connections_failed: Count | None
    connections_closed_by_server: Annotated[Count | None, Meta(description="while they carried no request")]
    requests_on_reused_connections: Count | None
    requests_resent: Count | None
    requests_retried: Count | None
    retries: Count | None
    most_waiting_for_connection: Annotated[Count | None, Meta(description="requests of one process, at a time")]
    cpu_s: Annotated[Seconds | None, Meta(description="of all sender processes")]
    longest_turn_s: Annotated[Seconds | None, Meta(description="of a loop: from events to the next look for events")]
    stalls: Annotated[Count | None, Meta(description="turns of more than 5 ms")]
    stalled_s: Annotated[Seconds | None, Meta(description="all of them together")]
    slowest_spool_flush_s: Seconds | None
    error_samples: Annotated[dict[str, list[str]], Meta(description="by status: how often, and what was said")]
    kernel_stamps_share: Annotated[Share | None, Meta(description="of answers whose receive times are the kernel's")]
    read_delay: Annotated[
        Spread | None, Meta(description="the largest distance from kernel receive to read, of each answer")
    ]
    merged_events_share: Annotated[
        Share | None,
        Meta(description="of events that lay behind another in a read more than 1 ms late: its own time is lost"),
    ]
    ttft_error_p50_s: Annotated[
        Seconds | None,
        Meta(description="how much too long the p50 of service TTFT may be, by first events read with later ones"),
    ]
    ttft_error_p99_s: Annotated[Seconds | None, Meta(description="the same of the p99")]
    send_call: Annotated[Spread | None, Meta(description="how long the first send() of a request took")]
    turnaround: Annotated[
        Spread | None, Meta(description="of a closed loop: from the end of an answer to the request in its place")
    ]
    processor: Processor | None
    little: Annotated[Little | None, Meta(description="null where there were too few looks between ramp and drain")]


def client_health(records: Records, span: Window) -> ClientHealth:
    """The client's health over a point, of all models together."""
    told = told_of(records)
    rows = span.rows
    answered = rows & (records["answer_bytes"] > 0)
    stamped = answered & ((records["flags"] & Flag.KERNEL_STAMPS) != 0)
    p50, p99 = first_event_errors_s(records, rows) if records.context.streaming else (None, None)
    return ClientHealth(
        **{name: getattr(told, name) for name in Told.__struct_fields__ if name in _SAME},
        kernel_stamps_share=int(stamped.sum()) / int(answered.sum()) if answered.any() else None,
        read_delay=_spread(records["read_delay_ns"][rows & (records["read_delay_ns"] >= 0)]),
        merged_events_share=merged_share(records, rows),
        ttft_error_p50_s=p50,
        ttft_error_p99_s=p99,
        send_call=_send_call(records, rows),
        turnaround=_spread(turnaround_ns(records, span)),
        processor=_processor(told),
        little=little(records, told.in_flight),
    )


_SAME = frozenset(Told.__struct_fields__) & frozenset(ClientHealth.__struct_fields__) - {"processor"}


def told_of(records: Records) -> Told:
    return msgspec.convert(records.context.client, Told)


def merged_share(records: Records, rows: Rows) -> float | None:
    """Events that shared a late read with an earlier one, of all events; None without events."""
    events = int(np.diff(records.event_start)[rows].sum())
    return int(records["merged_events"][rows].sum()) / events if events else None


def turnaround_ns(records: Records, span: Window) -> NDArray[np.int64]:
    """In a closed loop a request is due when an answer has made room for it: sent - that end, ns, of requests sent in
    the window; empty in open loop. The k-th request of a process takes the place of its (k - concurrency)-th end."""
    concurrency = records.context.concurrency
    found = [np.zeros(0, dtype=np.int64)]
    if concurrency is not None:
        workers = int(records["worker"].max(initial=0)) + 1
        begun = records["sent_ns"] >= 0
        for worker in range(workers):
            own = begun & (records["worker"] == worker)
            places = len(range(worker, concurrency, step(records.context.parts, worker) or workers))
            sent, ends = np.sort(records["sent_ns"][own]), np.sort(records["end_ns"][own])
            took = sent[places:] - ends[: max(0, len(sent) - places)]
            found.append(took[(sent[places:] >= span.start_ns) & (sent[places:] < span.end_ns)])
    return np.concatenate(found)


def little(records: Records, looks: Sequence[tuple[int, int, int]]) -> Little | None:
    """The loops' counts against the records', between ramp and drain: from one mean time in flight after the first
    request was sent until the last one was."""
    sent, end = records["sent_ns"], records["end_ns"]
    over = (sent >= 0) & (end >= 0)
    if not over.any():
        return None
    begin = int(sent[over].min()) + int((end - sent)[over].mean())
    until = int(sent[over].max())
    between = [look for look in looks if begin <= look[0] < until]
    if len(between) < FEWEST_LOOKS:
        return None
    at, counted_sent, counted_ended = np.array(between, dtype=np.int64).T
    ends = np.sort(end[(end >= 0) & ~np.isin(records["status"], (Status.CANCELLED, Status.NOT_SENT))])
    recorded = np.searchsorted(np.sort(sent[sent >= 0]), at, side="right") - np.searchsorted(ends, at, side="right")
    counted = counted_sent - counted_ended
    apart = counted - recorded
    error = float(apart.std(ddof=1)) / len(apart) ** 0.5
    # A count is up to a beat old when it is heard of: where the backlog grows, it is always too low.
    growing = abs(float(recorded[-1] - recorded[0])) / max(1, int(at[-1] - at[0]))
    came = over & (sent >= begin) & (sent < until)
    rate = int(came.sum()) / ((until - begin) / NS_PER_S)
    stay = float((end - sent)[came].mean()) / NS_PER_S if came.any() else 0.0
    return Little(
        looks=len(between),
        in_flight_counted=float(counted.mean()),
        in_flight_recorded=float(recorded.mean()),
        arrivals_per_s=rate,
        time_in_flight_s=stay,
        arrivals_times_time=rate * stay,
        limit=max(1.0, COUNT_SHARE_LIMIT * float(recorded.mean()), COUNT_STANDARD_ERRORS * error) + growing * BEAT_NS,
    )


def _processor(told: Told) -> Processor | None:
    use = told.processor
    if use is None:
        return None
    allowed = min(use.cpus, use.limit_cores or use.cpus)
    machine_s = (use.machine_cpus or 0) * use.seconds
    used_s = (told.cpu_s or 0.0) + use.parent_cpu_s
    return Processor(
        cpus=use.cpus,
        cgroup=use.cgroup,
        limit_cores=use.limit_cores,
        allowed_cores=allowed,
        sender_core_shares=told.sender_core_shares,
        parent_cpu_s=use.parent_cpu_s,
        share_of_allowed=used_s / (allowed * use.seconds) if use.seconds > 0 else 0.0,
        cgroup_cpu_s=use.cgroup_cpu_s,
        periods=use.periods,
        throttled_periods=use.throttled_periods,
        throttled_share=min(1.0, use.throttled_periods / use.periods) if use.periods else 0.0,
        throttled_s=use.throttled_s,
        waited_share=max(use.waited_s) / use.seconds if use.waited_s and use.seconds > 0 else None,
        stolen_s=use.stolen_s,
        stolen_share=use.stolen_s / machine_s if use.stolen_s is not None and machine_s > 0 else None,
        machine_busy_share=use.machine_cpu_s / machine_s if use.machine_cpu_s is not None and machine_s > 0 else None,
    )


def _send_call(records: Records, rows: Rows) -> Spread | None:
    took = records["send_ns"]
    return _spread(took[rows & (took >= 0)])


def _spread(values_ns: NDArray[Any]) -> Spread | None:
    if not len(values_ns):
        return None
    ordered = np.sort(values_ns)
    p50, p99 = quantile(ordered, 0.5), quantile(ordered, 0.99)
    assert p50 is not None and p99 is not None
    return Spread(p50_s=p50 / NS_PER_S, p99_s=p99 / NS_PER_S, max_s=float(ordered[-1]) / NS_PER_S)
