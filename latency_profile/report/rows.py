"""From a point's result to its line of the table and to its line of the log: units and picks, no statistics."""

import math
from collections.abc import Iterator

from latency_profile.report.console import NO_FIGURE, Figure, TableRow, milliseconds, number
from latency_profile.results import PointResult
from latency_profile.statistics import Distribution, Percentile

MS_PER_S = 1000.0


def table_row(load: str, result: PointResult) -> TableRow:
    """`load`: the rate or concurrency, as the user wrote it."""
    service, response = result.latency.service, result.latency.response
    counts = result.load.counts
    throughput, cost = result.throughput, result.cost
    return TableRow(
        load=load,
        verdict=result.verdict.verdict.value,
        sent_per_s=result.load.sent_requests_per_s,
        completed_per_s=result.load.completed_requests_per_s,
        ok=counts.succeeded,
        failed=counts.failed,
        output_tokens_per_s=throughput.output_tokens_per_s if throughput else None,
        ttft_p50_ms=_p50(service.ttft),
        ttft_p99_ms=_p99(service.ttft),
        tpot_p50_ms=_p50(service.tpot),
        tpot_p99_ms=_p99(service.tpot),
        itl_p99_ms=_p99(service.itl),
        e2e_p50_ms=_p50(service.e2e),
        e2e_p99_ms=_p99(service.e2e),
        response_e2e_p99_ms=_p99(response.e2e if response else None),
        dollars_per_million_output=cost.usd_per_million_output_tokens if cost else None,
        reasons=tuple(result.verdict.reasons),
        notes=tuple(_notes(result)),
    )


def log_line(row: TableRow) -> str:
    """A finished point in one line; the table has the rest."""
    middles = (("TTFT", row.ttft_p50_ms), ("TPOT", row.tpot_p50_ms), ("E2E", row.e2e_p50_ms))
    known = [f"{name} {milliseconds(figure)}" for name, figure in middles if figure.value is not None]
    parts = [f"{row.ok} ok, {row.failed} failed"]
    if row.output_tokens_per_s is not None:
        parts.append(f"{number(row.output_tokens_per_s)} output tokens/s")
    if known:
        parts.append(f"p50: {', '.join(known)} ms")
    return f"{row.verdict}: " + ", ".join(parts)


def _notes(result: PointResult) -> Iterator[str]:
    counts, hidden_only = result.load.counts, result.tokens.hidden_only
    if result.cut_short:
        yield f"cut short by {result.cut_short}, {_counted(counts.unfinished, 'request')} unfinished"
    if counts.resent:
        yield f"{_counted(counts.resent, 'request')} sent again, having found a connection that the server had closed"
    if counts.retried:
        yield f"{_counted(counts.retried, 'request')} tried again ({_counted(counts.retries, 'more attempt')})"
    if hidden_only:
        yield f"{_counted(hidden_only, 'answer')} without a visible token"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _p50(distribution: Distribution | None) -> Figure:
    return _figure(distribution.p50) if distribution else NO_FIGURE


def _p99(distribution: Distribution | None) -> Figure:
    return _figure(distribution.p99) if distribution else NO_FIGURE


def _figure(percentile: Percentile) -> Figure:
    value = percentile.value_s
    if value is None or math.isnan(value):
        return NO_FIGURE
    return Figure(value * MS_PER_S, at_least=percentile.high_s is None)
