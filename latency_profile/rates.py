"""Throughput over a part of a point, and how far it can be trusted. Pure functions of Records."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.measures import Rows, Span, blocks, is_burst, succeeded, tokens_in_events
from latency_profile.records import Records
from latency_profile.statistics import rate_interval

# A span is cut into so many steps, and what varies between their counts tells how much the whole varies. More steps
# make the estimate steadier; what lasts longer than a step is found by autoregression. In simulations 32
# steps covered bursts of tokens less, and 200 covered nothing better.
STEPS = 100

Bounds = tuple[float | None, float | None]
UNBOUNDED: Bounds = (None, None)


@dataclass(frozen=True, slots=True)
class Rates:
    """What was received of succeeded answers inside a span, per second of it."""

    requests: float
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class RateBounds:
    """95 % intervals of the rates (low, high), per second; None where there is none."""

    requests: Bounds
    input_tokens: Bounds
    output_tokens: Bounds
    total_tokens: Bounds


@dataclass(frozen=True, slots=True)
class _Received:
    """Of each request inside the span, shape (requests,)."""

    ended: Rows
    read: Rows  # its input had been read
    read_ns: NDArray[np.int64]  # when
    output_tokens: NDArray[np.float64]


def _received(records: Records, rows: Rows, span: Span) -> _Received:
    """Output tokens count at their events, in proportion where the answer's count differs from its events'; without
    events they count at the answer's end. Input tokens count when they had been read: at the first token, or else at
    the end. What ends the ramp is not counted: a span that begins with an event would have one too many."""
    good = succeeded(records, rows)

    def within(times: NDArray[Any]) -> Rows:
        return np.asarray(good & (times > span.start_ns) & (times <= span.end_ns))

    ended = within(records["end_ns"])
    read_ns = np.where(records["first_token_ns"] >= 0, records["first_token_ns"], records["end_ns"])
    carried = tokens_in_events(records)
    share = tokens_in_events(records, (span.start_ns, span.end_ns)) / np.maximum(carried, 1)
    outputs = np.maximum(records["output_tokens"], 0)
    return _Received(ended, within(read_ns), read_ns, np.where(carried > 0, share * good, ended) * outputs)


def rates_in(records: Records, rows: Rows, span: Span) -> Rates | None:
    """Throughput of the span, whenever the requests were due; None for one without length."""
    if span.length_s == 0:
        return None
    return _rates(records, _received(records, rows, span), span)


def bounded_rates(records: Records, rows: Rows, span: Span) -> tuple[Rates, RateBounds] | None:
    """The same with intervals, which a burst has none of: it has no steady rate."""
    if span.length_s == 0:
        return None
    found = _received(records, rows, span)
    if is_burst(records.context):
        return _rates(records, found, span), RateBounds(UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED)
    ends = steps(span, records["end_ns"][found.ended])
    inputs = steps(span, found.read_ns[found.read], records["input_tokens"][found.read])
    # An answer's tokens are put together at the middle of the part that fell into the span. Spread over its events
    # they would make neighbouring steps alike, for as long as an answer takes, and hide that answers come by chance.
    some = found.output_tokens > 0
    first, last = np.maximum(found.read_ns, span.start_ns), np.minimum(records["end_ns"], span.end_ns)
    outputs = steps(span, ((first + last) // 2)[some], found.output_tokens[some])
    rates = _rates(records, found, span)
    return rates, RateBounds(
        requests=bounds(span, ends, rates.requests),
        input_tokens=bounds(span, inputs, rates.input_tokens),
        output_tokens=bounds(span, outputs, rates.output_tokens),
        total_tokens=bounds(span, inputs + outputs, rates.input_tokens + rates.output_tokens),
    )


def output_tokens_by(records: Records, rows: Rows, width_ns: int, count: int) -> NDArray[np.float64]:
    """Output tokens of succeeded answers received in each of `count` steps of `width_ns` from the point's start, as
    `rates_in` counts them over a span: in (start, end], in proportion where an answer's count differs from its
    events'. Shape (count,); what came later is in the last one."""
    good = succeeded(records, rows)
    carried = tokens_in_events(records)
    outputs = np.maximum(records["output_tokens"], 0)
    share = np.where(good & (carried > 0), outputs / np.maximum(carried, 1), 0.0)

    def steps_of(times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.clip((times_ns - 1) // width_ns, 0, count - 1)

    whole = good & (carried == 0)
    found = np.bincount(steps_of(records["end_ns"][whole]), outputs[whole], count).astype(np.float64)
    for row, end in blocks(records):
        edges = records.event_start[row : end + 1]
        amounts = np.repeat(share[row:end], np.diff(edges)) * records.event_tokens[edges[0] : edges[-1]]
        found += np.bincount(steps_of(records.event_ns[edges[0] : edges[-1]]), amounts, count)
    return found


def _rates(records: Records, found: _Received, span: Span) -> Rates:
    return Rates(
        requests=int(found.ended.sum()) / span.length_s,
        input_tokens=int(records["input_tokens"][found.read].sum()) / span.length_s,
        output_tokens=float(found.output_tokens.sum()) / span.length_s,
    )


def steps(span: Span, times_ns: NDArray[Any], amounts: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """How much (how many, where no amounts are given) came in each of STEPS equal parts of the span."""
    places = np.clip((times_ns - span.start_ns) * STEPS // (span.end_ns - span.start_ns), 0, STEPS - 1)
    return np.bincount(places, amounts, STEPS).astype(np.float64)


def bounds(span: Span, counts: NDArray[np.float64], rate: float | None = None) -> Bounds:
    """The 95 % interval of what `steps` counted, per second; nothing where nothing was counted.

    It holds the rate in spite of rounding: `rate` as the results have it, or else what was counted / the length.
    """
    found = rate_interval(counts, span.length_s / STEPS)
    if found is None:
        return UNBOUNDED
    rate = float(counts.sum()) / span.length_s if rate is None else rate
    return min(found[0], rate), max(found[1], rate)
