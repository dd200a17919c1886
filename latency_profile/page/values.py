"""What the curves show of a point: the number, its interval, and both as they are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latency_profile.cost import digits
from latency_profile.hardware.summary import GpuSummary, mean_utilization
from latency_profile.page.seen import Seen
from latency_profile.report.rows import MS_PER_S
from latency_profile.report.table_row import Figure, milliseconds, number
from latency_profile.statistics import Distribution, Percentile

PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True, slots=True)
class Value:
    """What a figure takes of a point: the number, its interval, and both as they are written."""

    y: float
    low: float | None = None
    high: float | None = None
    shown: str = ""
    interval: str = ""


Values = Mapping[str, Value | None]  # by line


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f"{number(low)} to {'∞' if high is None else number(high)}"


def percentiles(of: Distribution | None) -> Values:
    return {} if of is None else {name: _percentile(getattr(of, name)) for name in PERCENTILES}


def _percentile(of: Percentile) -> Value | None:
    if of.value_s is None:
        return None
    low, high = (None if end is None else end * MS_PER_S for end in (of.low_s, of.high_s))
    value = of.value_s * MS_PER_S
    return Value(value, low, high, milliseconds(Figure(value, at_least=high is None)), _interval(low, high))


def _plain(value: float | None, low: float | None = None, high: float | None = None) -> Value | None:
    return None if value is None else Value(value, low, high, number(value), _interval(low, high))


def _percent(share: float | None) -> Value | None:
    return None if share is None else _plain(100 * share)


def output_rate(point: Seen) -> float | None:
    of = point.result.throughput
    return of.output_tokens_per_s if of else None


def throughput(point: Seen) -> Values:
    of = point.result.throughput
    if of is None:
        return {}
    return {"output": _plain(of.output_tokens_per_s, of.output_tokens_per_s_low, of.output_tokens_per_s_high)}


def goodput(point: Seen) -> Values:
    of = point.result.goodput
    if of is None:
        return {}
    return {"goodput": _plain(of.requests_per_s, of.requests_per_s_low, of.requests_per_s_high)}


def attainment(point: Seen) -> Values:
    judged = point.result.slo.objectives if point.result.slo else []
    return {
        each.name: _plain(100 * of.share, 100 * of.low, 100 * of.high)
        for each in judged
        if (of := each.attainment) is not None and of.share is not None
    }


def ntpot_p50(point: Seen) -> float | None:
    value = point.result.latency.service.ntpot.p50.value_s
    return None if value is None else value * MS_PER_S


def cost(point: Seen) -> Values:
    of = point.result.cost
    dollars = of.usd_per_million_output_tokens if of else None
    return {} if dollars is None else {"output": Value(dollars, shown=digits(dollars))}


def queue(point: Seen) -> Values:
    server = point.row.server
    return {"running": _plain(server.running), "waiting": _plain(server.waiting)}


def caches(point: Seen) -> Values:
    cache = point.result.cache
    return {
        "KV cache, most": _plain(point.row.server.kv_percent),
        "prefix cache, hits": _percent(cache.hit_rate if cache else None),
    }


def gpus(point: Seen) -> Values:
    gpus = point.result.telemetry.gpus if point.result.telemetry else []
    return {"utilization": _percent(mean_utilization(gpus)), "memory": _percent(_memory(gpus))}


def _memory(gpus: Sequence[GpuSummary]) -> float | None:
    """Share of all GPUs' memory in use; None where one does not tell."""
    used = [of.mean if (of := gpu.memory_used_bytes) else None for gpu in gpus]
    there = [gpu.memory_bytes for gpu in gpus]
    if not gpus or None in used or None in there:
        return None
    return sum(value for value in used if value is not None) / sum(value for value in there if value is not None)


def power(point: Seen) -> Values:
    return {"power": _plain(point.row.server.watts)}
