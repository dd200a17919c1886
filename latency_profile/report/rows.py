"""From a point's result to its line of the table and to its line of the log: units and picks, no statistics."""

import math
from collections.abc import Iterator

from latency_profile.calibration.text import short_text
from latency_profile.cost import Cost, WithIdle
from latency_profile.goodput import Goodput
from latency_profile.prefix_cache import PrefixCache
from latency_profile.records import PointContext
from latency_profile.report.server_rows import server_figures
from latency_profile.report.table_row import (
    NO_FIGURE,
    UNPRICED,
    CostFigures,
    Dollars,
    Figure,
    TableRow,
    milliseconds,
    number,
)
from latency_profile.results import PointResult
from latency_profile.slo.structure import Outcome, Slo
from latency_profile.statistics import Distribution, Percentile
from latency_profile.until_ci.text import short_text as until_ci_text
from latency_profile.verdict import Kind
from latency_profile.verdict.client import worth_a_note

MS_PER_S = 1000.0


def load_label(context: PointContext) -> str:
    """The rate or concurrency of a point of which only the records are there."""
    if context.concurrency is not None:
        return str(context.concurrency)
    return "inf" if context.request_rate is None else f"{context.request_rate:.12g}"


def table_row(load: str, result: PointResult) -> TableRow:
    """`load`: the rate or concurrency, as the user wrote it."""
    service, response = result.latency.service, result.latency.response
    counts = result.load.counts
    throughput = result.throughput
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
        cost=_cost(result.cost),
        server=server_figures(result),
        slo=_slo(result.slo),
        not_kept=tuple(_not_kept(result.slo)),
        reasons=tuple(result.verdict.reasons),
        cut_short=result.cut_short or "",
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
    for remark in result.verdict.remarks:
        yield f"{remark.name.value}: {remark.text}"
    if result.until_ci is not None:
        yield until_ci_text(result.until_ci, result.window.end_s)
    if result.cut_short:
        yield f"cut short by {result.cut_short}, {_counted(counts.unfinished, 'request')} unfinished"
    if counts.resent:
        yield f"{_counted(counts.resent, 'request')} sent again, having found a connection that the server had closed"
    if counts.retried:
        yield f"{_counted(counts.retried, 'request')} tried again ({_counted(counts.retries, 'more attempt')})"
    if result.cache is not None and (result.cache.hits_tokens or result.cache.intended_hit_rate):
        yield _cache_note(result.cache)
    if result.calibration is not None:
        yield short_text(result.calibration)
    if result.goodput is not None:
        yield _goodput_note(result.goodput)
    if hidden_only:
        yield f"{_counted(hidden_only, 'answer')} without a visible token"
    if result.verdict.verdict is not Kind.CLIENT_LIMITED:  # whose reasons say it
        lateness = result.load.lateness
        yield from worth_a_note(result.client, lateness.p99_s if lateness else None)


def _slo(found: Slo | None) -> str:
    if found is None:
        return ""
    return "not judged" if found.outcome is None else found.outcome.value


def _not_kept(found: Slo | None) -> Iterator[tuple[str, str, str]]:
    for objective in found.objectives if found else ():
        if objective.outcome not in (None, Outcome.KEPT):
            yield objective.outcome.value, objective.name, f"{objective.reason}."


def _cost(cost: Cost | None) -> CostFigures:
    if cost is None:
        return CostFigures()

    def alone(of: Cost | WithIdle) -> Dollars:
        return Dollars(
            of.usd_per_million_input_tokens, of.usd_per_million_output_tokens, of.usd_per_million_total_tokens
        )

    def divided(method: str) -> Dollars:
        for split in cost.splits:
            of_input, of_output = split.usd_per_million_input_tokens, split.usd_per_million_output_tokens
            if split.method == method and of_input and of_output:
                return Dollars(of_input.value, of_output.value)
        return UNPRICED

    return CostFigures(
        alone=alone(cost),
        with_idle=alone(cost.with_idle) if cost.with_idle else UNPRICED,
        utilization=cost.with_idle.utilization if cost.with_idle else None,
        measured=divided("measured"),
        gaps=divided("gaps"),
        convention=divided("convention-1:4"),
    )


def _cache_note(cache: PrefixCache) -> str:
    told = "an unknown share" if cache.hit_rate is None else f"{cache.hit_rate:.1%}"
    meant = f", {cache.intended_hit_rate:.1%} intended" if cache.intended_hit_rate else ""
    return f"{told} of the prompt tokens came out of the server's prefix cache{meant}"


def _goodput_note(found: Goodput) -> str:
    names = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
    limits = ", ".join(f"{names[name]} {limit:g} ms" for name, limit in found.objectives.items())
    rate = f"goodput {number(found.requests_per_s)} req/s" if found.requests_per_s is not None else "goodput"
    if found.requests_per_s_low is not None and found.requests_per_s_high is not None:
        rate += f" ({number(found.requests_per_s_low)} to {number(found.requests_per_s_high)})"
    share = "no request" if found.share is None else f"{found.share:.1%} of requests"
    return f"{rate}: {share} within {limits}"


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
    low, high = (None if end is None else end * MS_PER_S for end in (percentile.low_s, percentile.high_s))
    return Figure(value * MS_PER_S, at_least=high is None, low=low, high=high)
