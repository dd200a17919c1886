"""From records to samples: what each latency, rate and count means. Pure functions of Records.

`rows` is always a boolean mask over requests, shape (requests,). Times are ns since the point's start.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.records import NONE, Flag, PointContext, Records, Status
from latency_profile.statistics import CHUNK, NS_PER_S, Sample
from latency_profile.steady_state import Series, Steadiness, examine

Rows = NDArray[np.bool_]

# These many first requests are the ramp, and it is over when this share of them has ended: not the slowest of them,
# which may be one that the server forgot.
RAMP_REQUESTS = 20
RAMP_LEVEL = 0.95


def is_burst(context: PointContext) -> bool:
    """Whether everything was due at once: an unlimited rate in open loop, which has no steady state."""
    return context.concurrency is None and context.request_rate is None


def all_rows(records: Records) -> Rows:
    return np.ones(len(records), dtype=np.bool_)


def rows_of_model(records: Records, model: str) -> Rows:
    """The requests that went to `model`. Raises ValueError where the point has no such model."""
    return np.asarray(records["model"] == records.context.models.index(model))


def succeeded(records: Records, rows: Rows) -> Rows:
    return np.asarray(rows & (records["status"] == Status.OK))


def waiting(records: Records) -> Rows:
    """Requests that had no answer, and no error, when the point was stopped."""
    return np.asarray(np.isin(records["status"], (Status.CANCELLED, Status.NOT_SENT)))


def arrival_ns(records: Records) -> NDArray[np.int64]:
    """When each request came to the server's door: due, or in a closed loop sent. One that found no connection came
    when it failed; NONE where its turn never came."""
    if records.context.concurrency is None:
        return records["due_ns"]
    refused = (records["sent_ns"] < 0) & ~waiting(records)
    return np.where(refused, records["end_ns"], records["sent_ns"])


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a point's time."""

    start_ns: int
    end_ns: int

    @property
    def length_s(self) -> float:
        return max(0, self.end_ns - self.start_ns) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Window(Span):
    """The measured part of a point: after its warm-up, before its cool-down."""

    rows: Rows  # requests that arrived in [start, end); all of a burst
    ramp_ends_ns: int = 0  # see `_ramp_ends_ns`; 0 for a burst
    steadiness: Steadiness | None = None  # None for a burst

    @property
    def filled(self) -> Span:
        """The part of it in which answers come out as fast as such requests go in: what rates are counted over."""
        return Span(max(self.start_ns, self.ramp_ends_ns), self.end_ns)


def window(records: Records) -> Window:
    """The measured window, over all models.

    Where time does not bound the point its length is the last arrival and one mean gap more. A burst is measured from
    its first send to its last byte. A point that was cut short ends there. A warm-up that is found behind the one that
    was asked for is left out too.
    """
    context = records.context
    arrivals = arrival_ns(records)
    came = arrivals >= 0
    by_nobody = _left_out(records)
    if is_burst(context):
        sent = records["sent_ns"][records["sent_ns"] >= 0]
        return Window(int(sent.min()) if len(sent) else 0, context.measured_ns, ~by_nobody)
    n = int(came.sum())
    if context.duration_s is not None and not _used_up(context):
        length = round(context.duration_s * NS_PER_S)
    elif n > 1:
        length = int(arrivals[came].max()) * n // (n - 1)
    else:
        length = context.measured_ns
    start = round(context.warmup_s * NS_PER_S)
    end = length - round(context.cooldown_s * NS_PER_S)
    if context.cut_short is not None:
        end = min(end, context.measured_ns)
    arrivals = np.where(by_nobody, NONE, arrivals)
    came &= ~by_nobody
    found = examine(
        _latencies(records, came & (arrivals >= start) & (arrivals < end)),
        cut=bool(context.settings.get("find_warmup", True)),
    )
    start = max(start, found.warmup_ends_ns or 0)
    rows = came & (arrivals >= start) & (arrivals < end)
    return Window(start, end, rows, _ramp_ends_ns(records, arrivals), found)


def _used_up(context: PointContext) -> bool:
    """Whether a closed loop had sent all its prompts before its time was over: else its users go on until then."""
    if context.concurrency is None or context.duration_s is None or context.cut_short is not None:
        return False
    return context.measured_ns < round(context.duration_s * NS_PER_S)


def _left_out(records: Records) -> Rows:
    """What a shard that came late, or came back, left out: nobody was to send it any more. It is load that was not
    offered, which the verdict tells of, and neither sent late nor waited for."""
    left = np.zeros(len(records), dtype=np.bool_)
    for part in records.context.parts:
        if part.left_out:
            left |= records["index"] % part.shards == part.index
    return np.asarray(left & (records["status"] == Status.NOT_SENT))


def _ramp_ends_ns(records: Records, arrivals: NDArray[np.int64]) -> int:
    """When what was sent first has been answered; the point's own end where nothing has.

    They met an empty server. Until answers of that length come out, everything in flight is the point's beginning: a
    throughput that counts this time says how long the point was. In a closed loop all clients begin at once, and the
    first request of each is such a one.
    """
    first = in_order(records, arrivals >= 0)[: max(RAMP_REQUESTS, records.context.concurrency or 0)]
    if not len(first):
        return records.context.measured_ns
    stop = records.context.measured_ns
    took = np.sort(np.where(waiting(records), stop, records["end_ns"] - arrivals)[first])
    return min(int(arrivals[first[0]] + took[int((len(took) - 1) * RAMP_LEVEL)]), stop)


def _latencies(records: Records, rows: Rows) -> dict[str, Series]:
    """What a point is to be steady in: E2E, which all of the server's work enters, and if streamed TTFT, which shows
    the queue where answers of many lengths hide it. From arrival: service in a closed loop, else response."""
    origin = "sent_ns" if records.context.concurrency is not None else "due_ns"
    found = {"e2e": _series(records, rows, origin, "end_ns", records["status"] == Status.OK)}
    if records.context.streaming:
        found["ttft"] = _series(records, rows, origin, "first_token_ns", _has_first_token(records))
    return found


def in_order(records: Records, chosen: Rows) -> NDArray[np.intp]:
    """Indices of the chosen requests, in order of arrival."""
    indices = np.flatnonzero(chosen)
    return indices[np.argsort(arrival_ns(records)[indices], kind="stable")]


def end_to_end(records: Records, rows: Rows, origin: str) -> Sample:
    """E2E of the requests, from `origin` ("sent_ns": service, "due_ns": response); unfinished ones until the stop."""
    return _until(records, rows, origin, "end_ns", records["status"] == Status.OK)


def time_to_first_token(records: Records, rows: Rows, origin: str) -> Sample:
    """TTFT from `origin`. One that was cut short after its first token has a TTFT like any other."""
    return _until(records, rows, origin, "first_token_ns", _has_first_token(records))


def _has_first_token(records: Records) -> Rows:
    return np.asarray(np.isin(records["status"], (Status.OK, Status.CANCELLED)) & (records["first_token_ns"] >= 0))


def time_to_first_visible(records: Records, rows: Rows, origin: str) -> Sample:
    """TTFT of the visible answer from `origin`: what came before it were hidden tokens, reasoning or tool calls.

    An answer of hidden tokens only has none. One that was cut short among its hidden tokens is unfinished.
    """
    answered = np.isin(records["status"], (Status.OK, Status.CANCELLED)) & (records["first_visible_ns"] >= 0)
    return _until(records, rows, origin, "first_visible_ns", answered)


def hidden_first(records: Records, rows: Rows) -> Rows:
    """Answers, whole or cut short, whose first token was hidden."""
    return np.asarray(rows & _has_first_token(records) & (records["first_visible_ns"] != records["first_token_ns"]))


def hidden_only(records: Records, rows: Rows) -> Rows:
    """Streamed answers of succeeded requests that had tokens, and not one of them visible."""
    return np.asarray(hidden_first(records, succeeded(records, rows)) & (records["first_visible_ns"] == NONE))


def _until(records: Records, rows: Rows, origin: str, reached: str, finished: NDArray[Any]) -> Sample:
    found = _series(records, rows, origin, reached, finished)
    return Sample(found.values, unfinished=found.unfinished if found.unfinished.any() else None)


def slowest_end_to_end(records: Records, rows: Rows, origin: str, most: int) -> NDArray[np.intp]:
    """Indices of the requests with the longest E2E, the longest first, at most so many; as `end_to_end` has them."""
    return _slowest(records, rows, origin, "end_ns", records["status"] == Status.OK, most)


def slowest_first_token(records: Records, rows: Rows, origin: str, most: int) -> NDArray[np.intp]:
    """The same by TTFT, as `time_to_first_token` has it."""
    return _slowest(records, rows, origin, "first_token_ns", _has_first_token(records), most)


def _slowest(
    records: Records, rows: Rows, origin: str, reached: str, finished: NDArray[Any], most: int
) -> NDArray[np.intp]:
    chosen = _of_series(records, rows, origin, finished)
    values = _series(records, rows, origin, reached, finished).values
    return chosen[np.argsort(-values, kind="stable")[:most]]


def _of_series(records: Records, rows: Rows, origin: str, finished: NDArray[Any]) -> NDArray[np.intp]:
    """Indices, in order of arrival, of the requests whose latency `_series` has."""
    return in_order(records, rows & (finished | waiting(records)) & (records[origin] >= 0))


def _series(records: Records, rows: Rows, origin: str, reached: str, finished: NDArray[Any]) -> Series:
    left = waiting(records) & ~finished
    chosen = _of_series(records, rows, origin, finished)
    unfinished = np.asarray(left[chosen])
    stop = np.where(records["end_ns"] >= 0, records["end_ns"], records.context.measured_ns)
    until = np.where(unfinished, stop[chosen], records[reached][chosen])
    return Series(until - records[origin][chosen], arrival_ns(records)[chosen], unfinished)


def time_per_output_token(records: Records, rows: Rows) -> Sample:
    """TPOT: (last token - first token) / (output tokens - 1), of succeeded requests of 2 tokens or more.

    Of one that was cut short nothing is known.
    """
    fit = succeeded(records, rows) & (records["first_token_ns"] >= 0) & (records["output_tokens"] >= 2)
    spans = records["last_token_ns"] - records["first_token_ns"]
    return _per_token(records, rows, fit, spans, records["output_tokens"] - 1)


def normalized_time_per_output_token(records: Records, rows: Rows, origin: str = "sent_ns") -> Sample:
    """NTPOT: E2E from `origin` / output tokens, of succeeded requests whose tokens are known. Of one cut short nothing
    is known."""
    fit = succeeded(records, rows) & (records["output_tokens"] > 0)
    return _per_token(records, rows, fit, records["end_ns"] - records[origin], records["output_tokens"])


def _per_token(records: Records, rows: Rows, fit: Rows, spans: NDArray[Any], tokens: NDArray[Any]) -> Sample:
    """Spans / tokens of the requests that are fit; one that was sent and cut short is unfinished: 0 or more."""
    unfinished = rows & waiting(records) & (records["sent_ns"] >= 0)
    chosen = in_order(records, fit | unfinished)
    left = unfinished[chosen]
    values = np.where(left, 0.0, spans[chosen] / np.maximum(tokens[chosen], 1))
    return Sample(values, unfinished=left if left.any() else None)


def time_per_token(records: Records, rows: Rows) -> Sample:
    """E2E / (input + output tokens), of succeeded requests whose tokens are known."""
    chosen = in_order(records, succeeded(records, rows) & (records["output_tokens"] > 0))
    tokens = records["input_tokens"][chosen].astype(np.int64) + records["output_tokens"][chosen]
    return Sample((records["end_ns"][chosen] - records["sent_ns"][chosen]) / tokens)


def server_time(records: Records, rows: Rows, column: str) -> Sample:
    """What the server says of succeeded requests in one of the columns server_*_ns, where it says anything."""
    chosen = in_order(records, succeeded(records, rows) & (records[column] >= 0))
    return Sample(records[column][chosen])


def sent_once(records: Records) -> Rows:
    """Requests that went out by one attempt on one connection: of more, the server speaks of the last one only."""
    return np.asarray((records["retries"] == 0) & ((records["flags"] & Flag.RESENT) == 0))


def unexplained_end_to_end(records: Records, rows: Rows) -> Sample:
    """Service E2E - the server's total. Of requests that were sent once: the server speaks of the last sending only."""
    known = succeeded(records, rows) & sent_once(records) & (records["server_total_ns"] >= 0)
    chosen = in_order(records, known)
    ours = records["end_ns"][chosen] - records["sent_ns"][chosen]
    return Sample(ours - records["server_total_ns"][chosen])


def unexplained_first_token(records: Records, rows: Rows) -> Sample:
    """Service TTFT - the server's prefill - its queue where it tells that. Of requests that were sent once."""
    known = succeeded(records, rows) & sent_once(records) & (records["server_prefill_ns"] >= 0)
    chosen = in_order(records, known & (records["first_token_ns"] >= 0))
    ours = records["first_token_ns"][chosen] - records["sent_ns"][chosen]
    return Sample(ours - records["server_prefill_ns"][chosen] - np.maximum(records["server_queue_ns"][chosen], 0))


def blocks(records: Records) -> Iterator[tuple[int, int]]:
    """Ranges of rows that hold about CHUNK events each."""
    row, n = 0, len(records)
    while row < n:
        end = int(np.searchsorted(records.event_start, records.event_start[row] + CHUNK, side="right")) - 1
        end = min(max(end, row + 1), n)
        yield row, end
        row = end


def gaps(records: Records, rows: Rows) -> Sample:
    """ITL: gaps between successive token-carrying events of one answer, answer after answer; of succeeded requests and
    of those that were cut short, whose gaps had been seen.

    An event of several tokens ends one gap, not several. Room beside the result: that of CHUNK events.
    """
    chosen = succeeded(records, rows) | (rows & waiting(records))
    counts = np.where(chosen, np.maximum(np.diff(records.event_start) - 1, 0), 0)
    values = np.empty(int(counts.sum()), dtype=np.int64)
    filled = 0
    for row, end in blocks(records):
        edges = records.event_start[row : end + 1]
        first = int(edges[0])
        steps = np.diff(records.event_ns[first : edges[-1]])
        inside = np.repeat(chosen[row:end], np.diff(edges))[1:]
        between = edges[1:-1] - first - 1  # steps from one answer's last event to the next one's first
        inside[between[(between >= 0) & (between < len(inside))]] = False
        kept = steps[inside]
        values[filled : filled + len(kept)] = kept
        filled += len(kept)
    indices = np.flatnonzero(chosen)
    return Sample(values, per_request=counts[indices], order=np.argsort(arrival_ns(records)[indices], kind="stable"))


def largest_gaps(sample: Sample) -> NDArray[np.int64]:
    """The largest gap of each answer that has one, in ns, answer after answer, of what `gaps` gave."""
    assert sample.per_request is not None
    filled = sample.per_request[sample.per_request > 0]
    starts = np.cumsum(filled) - filled
    return np.maximum.reduceat(sample.values, starts) if len(starts) else np.empty(0, dtype=np.int64)


def tokens_in_events(records: Records, until_ns: tuple[int, int] | None = None) -> NDArray[np.int64]:
    """Tokens that each request's events carried, shape (requests,); with `until_ns` only events in (start, end]."""
    totals = np.zeros(len(records), dtype=np.int64)
    for row, end in blocks(records):
        edges = records.event_start[row : end + 1]
        tokens = records.event_tokens[edges[0] : edges[-1]].astype(np.int64)
        if until_ns is not None:
            times = records.event_ns[edges[0] : edges[-1]]
            tokens[(times <= until_ns[0]) | (times > until_ns[1])] = 0
        running = np.concatenate(([0], np.cumsum(tokens)))
        totals[row:end] = np.diff(running[edges - edges[0]])
    return totals


def lateness_ns(records: Records, rows: Rows) -> NDArray[np.int64]:
    """Sent - due of each request, ascending; one that was never sent is as late as it was at the stop."""
    due, sent = records["due_ns"], records["sent_ns"]
    never = records["status"] == Status.NOT_SENT
    left = np.where(never, records.context.measured_ns, sent)
    return np.sort((left - due)[rows & (due >= 0) & ((sent >= 0) | never)])


def in_flight(records: Records, rows: Rows, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many requests had arrived and had not ended at each of the times, however late they were sent."""
    arrivals = arrival_ns(records)
    came = np.sort(arrivals[rows & (arrivals >= 0)])
    over = rows & ~waiting(records) & (records["end_ns"] >= 0)
    ends = np.sort(records["end_ns"][over])
    return np.searchsorted(came, times_ns, side="right") - np.searchsorted(ends, times_ns, side="right")


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests by what became of them. planned = succeeded + failed + unfinished + not_sent."""

    planned: int
    attempted: int  # all but those that were never sent because the point was cut short
    sent: int
    succeeded: int
    failed: int
    resent: int
    retried: int  # requests of more than one attempt
    retries: int  # attempts after the first ones
    unfinished: int
    not_sent: int


def counts(records: Records, rows: Rows) -> Counts:
    status = records["status"][rows]
    planned = len(status)
    not_sent, unfinished, good = (
        int((status == kind).sum()) for kind in (Status.NOT_SENT, Status.CANCELLED, Status.OK)
    )
    return Counts(
        planned=planned,
        attempted=planned - not_sent,
        sent=int((records["sent_ns"][rows] != NONE).sum()),
        succeeded=good,
        failed=planned - not_sent - unfinished - good,
        resent=int(((records["flags"][rows] & Flag.RESENT) != 0).sum()),
        retried=int((records["retries"][rows] > 0).sum()),
        retries=int(records["retries"][rows].sum()),
        unfinished=unfinished,
        not_sent=not_sent,
    )
