"""What came in, went out and was under way, over a point's time."""

from collections.abc import Iterator

import numpy as np

from latency_profile import measures
from latency_profile.page.figure import Figure
from latency_profile.page.points.bins import Bins, bins_over, length_text, over_time, window_text
from latency_profile.page.points.point import Point
from latency_profile.page.section import Section
from latency_profile.rates import output_tokens_by
from latency_profile.statistics import NS_PER_MS, quantile
from latency_profile.verdict.client import LATENESS_P99_LIMIT_MS
from latency_profile.verdict.evidence import Evidence

HEADING = "Over time"
FEWEST_BINS = 30
REQUESTS_A_BIN = 10  # with fewer, rates are noise


def load_part(point: Point) -> Section:
    if point.known is None:
        return Section(heading=HEADING, sentences=("The point's records are not there: its course is not known.",))
    records, rows = point.known.records, point.known.rows
    some = min(point.detail.steps, max(FEWEST_BINS, int(rows.sum()) // REQUESTS_A_BIN))
    bins = bins_over(records.context.measured_ns, some)
    if bins is None or not rows.any():
        return Section(heading=HEADING, sentences=("No request was sent: there is nothing to be drawn over time.",))
    return Section(
        heading=HEADING,
        sentences=(
            f"In steps of {length_text(bins.width_s)}, over the whole point, warm-up and drain included. "
            f"{window_text(point)}",
            *_absent(point),
        ),
        figures=tuple(_figures(point, point.known, bins)),
    )


def _absent(point: Point) -> list[str]:
    if point.closed:
        why = "A closed loop has no due times"
    elif point.burst:
        why = "All of a burst is due at once"
    else:
        return []
    return [f"{why}: what was sent is shown in place of what was offered, and no lateness over time."]


def _figures(point: Point, known: Evidence, bins: Bins) -> Iterator[Figure]:
    records, rows = known.records, known.rows
    sent, due, end = records["sent_ns"], records["due_ns"], records["end_ns"]
    if point.closed or point.burst:
        came, name = sent[rows & (sent >= 0)], "sent"
    else:
        came, name = due[rows], "offered"
    completed = end[measures.succeeded(records, rows)]
    yield over_time(
        point,
        "rates",
        "Requests per second",
        f"Requests {name}, and completed: whole answers only.",
        "requests/s",
        bins,
        {name: bins.per_second(bins.arrived(came)), "completed": bins.per_second(bins.ended(completed))},
    )
    yield over_time(
        point,
        "in-flight",
        "Requests in flight",
        f"Requests that had been {'sent' if point.closed else 'due'} and had not ended, in the middle of each step.",
        "requests",
        bins,
        {"in flight": measures.in_flight(records, rows, bins.middles_ns).tolist()},
    )
    yield over_time(
        point,
        "output-tokens",
        "Output tokens per second",
        "Tokens of succeeded answers, counted when they were received; of answers that came whole, at their end.",
        "output tokens/s",
        bins,
        {"received": (output_tokens_by(records, rows, bins.width_ns, bins.count) / bins.width_s).tolist()},
    )
    if not (point.closed or point.burst):
        yield _lateness(point, known, bins)


def _lateness(point: Point, known: Evidence, bins: Bins) -> Figure:
    records = known.records
    places = bins.arrived(records["due_ns"])
    levels = {"median": 0.5, "largest": 1.0}
    series: dict[str, list[float | None]] = {name: [] for name in levels}
    for place in range(bins.count):
        late = measures.lateness_ns(records, np.asarray(known.rows & (places == place)))
        for name, level in levels.items():
            value = quantile(late, level)
            series[name].append(None if value is None else value / NS_PER_MS)
    return over_time(
        point,
        "lateness",
        "Lateness of sending",
        f"Sent − due, of the requests due in each step. The line across: beyond {LATENESS_P99_LIMIT_MS:.0f} ms at the "
        f"window's p99 a point is CLIENT_LIMITED.",
        "ms",
        bins,
        series,
        LATENESS_P99_LIMIT_MS,
    )
