"""Why a point has its verdict: what each rule looked at, and its limit."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from latency_profile import measures
from latency_profile.page.figure import Figure, TextTable
from latency_profile.page.marks import HEIGHT, named, quantitative, tooltips
from latency_profile.page.numbers import NOTHING, ms_text, rounded, share, text
from latency_profile.page.points.point import Point
from latency_profile.page.section import Named, Section
from latency_profile.report.line import verdict_text
from latency_profile.server_view.reconcile import excess_share
from latency_profile.server_view.structure import Reconciliation
from latency_profile.statistics import NS_PER_S
from latency_profile.verdict import Kind
from latency_profile.verdict.client import (
    CORE_SHARE_LIMIT,
    LATENESS_P99_LIMIT_MS,
    MERGED_SHARE_LIMIT,
    TTFT_ERROR_LIMIT_MS,
)
from latency_profile.verdict.contamination import HIT_RATE_LIMIT
from latency_profile.verdict.failure import FAILED_SHARE_LIMIT
from latency_profile.verdict.samples import fewest_for_p99
from latency_profile.verdict.saturation import Backlog, backlog
from latency_profile.verdict.traffic import EXCESS_SHARE_LIMIT

HEADING = "Evidence"
Row = tuple[str, str, str, str]  # what a rule is about, its verdict, the figure, the limit


def verdict_part(point: Point) -> Section:
    found = None if point.known is None else backlog(point.known)
    table = TextTable(header=("looked at", "it would be", "found", "limit"), rows=tuple(_rows(point, found)))
    return Section(
        heading=HEADING,
        sentences=tuple(_sentences(point)),
        tables=(Named(caption="What the verdict's rules looked at", table=table),),
        figures=() if found is None else (_backlog_figure(point, found),),
    )


def _sentences(point: Point) -> Iterator[str]:
    """The verdict and its reasons, word for word as the JSON has them."""
    yield f"{verdict_text(point.at('verdict', 'verdict') or '')}."
    yield from point.at("verdict", "reasons") or ()


def _rows(point: Point, found: Backlog | None) -> Iterator[Row]:
    """One for each rule that has something to look at, in order of precedence."""
    yield _failures(point)
    yield from _client(point)
    yield from _cache(point)
    yield from _others(point)
    yield _growth(point, found)
    yield from _samples(point)


def _row(what: str, kind: Kind, found: str, limit: str) -> Row:
    return what, kind.value, found, limit


def _failures(point: Point) -> Row:
    found = f"{NOTHING} (no records)"
    if point.known is not None:
        counts = measures.counts(point.known.records, point.known.measured)
        ended = counts.succeeded + counts.failed
        found = (
            f"{share(counts.failed / ended)} ({counts.failed:,} of {ended:,})" if ended else f"{NOTHING} (none ended)"
        )
    return _row("requests that failed, of the window", Kind.FAILED, found, share(FAILED_SHARE_LIMIT))


def _client(point: Point) -> Iterator[Row]:
    def row(what: str, found: str, limit: str) -> Row:
        return _row(what, Kind.CLIENT_LIMITED, found, limit)

    def ms(value_s: float | None) -> str:
        return NOTHING if value_s is None else f"{ms_text(value_s)} ms"

    late = f"{LATENESS_P99_LIMIT_MS:.0f} ms"
    if point.closed:
        yield row("turnaround, p99", ms(point.at("client", "turnaround", "p99_s")), late)
    else:
        yield row(
            "lateness of sending, p99",
            ms(point.at("load", "lateness", "p99_s")),
            f"{NOTHING} (a burst is judged by CPU)" if point.burst else late,
        )
    if point.streaming:
        merged = point.at("client", "merged_events_share")
        yield row("events read late, with a later one", share(merged), share(MERGED_SHARE_LIMIT))
        for level in ("p50", "p99"):
            error = ms(point.at("client", f"ttft_error_{level}_s"))
            yield row(f"TTFT too long by late reads, {level}", error, f"{TTFT_ERROR_LIMIT_MS:.0f} ms")
    little = point.at("client", "little")
    if little is not None:
        found = f"{text(little['in_flight_counted'])} counted, {text(little['in_flight_recorded'])} recorded"
        yield row("requests in flight, by two counts", found, f"{text(little['limit'])} apart")
    shares = point.at("client", "processor", "sender_core_shares")
    if shares and (point.closed or point.burst):
        yield row("busiest sender's share of a core", share(max(shares)), share(CORE_SHARE_LIMIT))


def _cache(point: Point) -> Iterator[Row]:
    cache = point.at("cache")
    if cache is None:
        yield _row(
            "prompt tokens out of the prefix cache", Kind.CONTAMINATED, f"{NOTHING} (the server tells nothing)", NOTHING
        )
        return
    meant = cache["intended_hit_rate"] + cache["unavoidable_hit_rate"]
    yield _row(
        "prompt tokens out of the prefix cache",
        Kind.CONTAMINATED,
        share(cache["hit_rate"]),
        share(meant + HIT_RATE_LIMIT),
    )


def _others(point: Point) -> Iterator[Row]:
    both = point.at("server", "reconciliation")
    if both is not None:
        excess = excess_share(msgspec.convert(both, Reconciliation))
        what = f"the server's work for others, by its metrics ({both['source']})"
        yield _row(what, Kind.CONTAMINATED, share(excess), share(EXCESS_SHARE_LIMIT))


def _growth(point: Point, found: Backlog | None) -> Row:
    what = "growth of the backlog, window's second half"
    if found is not None:
        grown, limit = f"{found.growth.per_s:+.2f} requests/s", f"{found.limit_per_s:.2f} requests/s"
        return _row(what, Kind.SATURATED, grown, limit)
    if point.closed or point.burst:
        why = "a closed loop has none" if point.closed else "a burst has no steady rate"
    else:
        why = "no records" if point.known is None else "the window is too short"
    return _row(what, Kind.SATURATED, f"{NOTHING} ({why})", NOTHING)


def _samples(point: Point) -> Iterator[Row]:
    least = fewest_for_p99(point.at("until_ci") is not None)
    for name, latency in (("TTFT", "ttft"), ("E2E", "e2e")):
        tree: dict[str, Any] | None = point.at("latency", "service" if point.closed else "response", latency, "p99")
        if tree is not None:
            open_end = "" if tree.get("resolved") else ", no interval"
            found = f"{tree['effective_n']:.0f} independent requests{open_end}"
            yield _row(f"p99 of {name}", Kind.TOO_FEW_SAMPLES, found, f"{least} and an interval")


def _backlog_figure(point: Point, found: Backlog) -> Figure:
    """What the rule read, and the straight line by which it judged."""
    at_s = found.times_ns / NS_PER_S
    fit = found.requests.mean() + found.growth.per_s * (at_s - at_s.mean())
    ends = [0, len(at_s) - 1]
    limit = fit[0] + found.limit_per_s * (at_s - at_s[0])  # from the same beginning
    names = ["growth found", "growth at the limit"]
    y_title = "requests due and not done"
    return Figure(
        name=f"{point.name}-backlog",
        title="Backlog over the window's second half",
        reading=f"Requests that were due and had not ended, at {len(at_s)} equal steps; the lines grow by "
        f"{found.growth.per_s:+.2f} requests/s, as found, and by {found.limit_per_s:.2f}, from where on a point is "
        f"SATURATED.",
        spec={
            "height": HEIGHT,
            "encoding": {
                "x": quantitative("s", "s since the point's start", scale={"zero": False, "nice": False}),
                "y": quantitative("requests", y_title),
            },
            "layer": [
                {
                    "data": {"name": "lines"},
                    "mark": {"type": "line"},
                    "encoding": {
                        "color": {**named("line", names), "legend": {"symbolType": "stroke"}},
                        "strokeDash": named("line", names, range=[[1, 0], [6, 3]]),
                    },
                },
                {
                    "data": {"name": "backlog"},
                    "mark": {"type": "point", "filled": True, "size": 40},
                    "encoding": {
                        "color": {"datum": names[0], "type": "nominal"},
                        "tooltip": tooltips([("s", "at, s"), ("requests", y_title)]),
                    },
                },
            ],
        },
        data={
            "backlog": {"s": rounded(at_s, 6), "requests": found.requests.tolist()},
            "lines": {
                "s": rounded(np.tile(at_s[ends], 2), 6),
                "requests": rounded([*fit[ends], *limit[ends]]),
                "line": [name for name in names for _ in ends],
            },
        },
    )
