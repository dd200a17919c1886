"""The columns of exported points: each is one figure of the point's JSON, under a name of its own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from latency_profile.export.points import ExportPoint
from latency_profile.results.requests import Kind
from latency_profile.results.structure import FLAT, STATISTICS
from latency_profile.telemetry.vocabulary import Quantity

_PERCENTILES = ("p50", "p90", "p95", "p99")
_SERVICE = ("ttft", "ttft_visible", "tpot", "itl", "ntpot", "e2e")
_RESPONSE = ("ttft", "ttft_visible", "e2e")
_RATES = ("requests_per_s", "input_tokens_per_s", "output_tokens_per_s", "total_tokens_per_s")
_COUNTS = (
    *("planned", "attempted", "sent", "succeeded", "failed", "unfinished", "not_sent"),
    *("resent", "retried", "retries"),
)
_PER_MILLION = ("usd_per_million_input_tokens", "usd_per_million_output_tokens", "usd_per_million_total_tokens")
_METHODS = {"measured": "measured", "gaps": "gaps", "convention-1:4": "convention_1_4"}
_GAUGES = (Quantity.RUNNING, Quantity.WAITING, Quantity.KV_CACHE_USE)
_ENDS = ("low", "high")


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    of: Callable[[ExportPoint], Any]  # None where there is no such figure


def load_text(point: ExportPoint) -> str:
    """The rate or concurrency; inf: a burst."""
    load = point.head.load
    if load.concurrency is not None:
        return str(load.concurrency)
    return "inf" if load.request_rate is None else f"{load.request_rate:.12g}"


def columns(points: Sequence[ExportPoint]) -> list[Column]:
    """Those of these points: of GPUs and TPUs as many as the point with most of them has."""
    return [*_origin(), *_verdict(), *_load(), *_latency(), *_lengths(), *_cost(), *_server(), *_machines(points)]


def _at(name: str, kind: Kind, *path: str) -> Column:
    return Column(name, kind, lambda point: point.at(*path))


def _number(name: str, *path: str) -> Column:
    return _at(name, "number", *path)


def _with_ends(name: str, *path: str) -> Iterator[Column]:
    """A rate and its interval: `…`, `…_low` and `…_high`, named and found alike."""
    *where, last = path
    yield _number(name, *path)
    for end in _ENDS:
        yield _number(f"{name}_{end}", *where, f"{last}_{end}")


def _origin() -> Iterator[Column]:
    yield Column("file", "text", lambda point: point.found.place)
    yield _at("date", "text", "dimensions", "date")
    yield _at("backend", "text", "config", "model_server")
    yield _at("model", "text", "config", "model")
    yield _at("tokenizer", "text", "dimensions", "tokenizer_id")
    yield _at("server_version", "text", "provenance", "server_version")
    yield _at("latency_profile", "text", "provenance", "latency_profile")
    yield _at("fingerprint", "text", "fingerprint", "sha256")


def _verdict() -> Iterator[Column]:
    yield Column("load", "text", load_text)
    yield _at("verdict", "text", "verdict", "verdict")
    yield Column("usable", "flag", lambda point: point.head.barred is None)
    yield Column("reasons", "text", lambda point: " ".join(point.reasons) or None)
    yield Column("remarks", "text", lambda point: " ".join(name for name, _ in point.remarks) or None)
    yield _at("cut_short", "text", "cut_short")
    yield _at("slo", "text", "slo", "outcome")


def _load() -> Iterator[Column]:
    yield _number("request_rate", "load", "request_rate")
    yield _at("concurrency", "integer", "load", "concurrency")
    yield _at("arrival_process", "text", "load", "arrival_process")
    yield _at("streaming", "flag", "load", "streaming")
    for name in ("start_s", "end_s", "rates_start_s"):
        yield _number(f"window_{name}", "window", name)
    yield _at("window_requests", "integer", "window", "requests")
    yield _at("steady", "flag", "window", "steady")
    for name in _COUNTS:
        yield _at(name, "integer", "load", "counts", name)
    for name in ("offered", "sent", "completed"):
        yield _number(f"{name}_requests_per_s", "load", f"{name}_requests_per_s")
    for name in ("p50_s", "p99_s", "max_s"):
        yield _number(f"lateness_{name}", "load", "lateness", name)
    for name in _RATES:
        yield from _with_ends(name, "throughput", name)
    yield from _with_ends("goodput_requests_per_s", "goodput", "requests_per_s")
    yield _number("goodput_share", "goodput", "share")
    for name in ("ttft", "tpot", "e2e"):
        yield _number(f"goodput_{name}_ms", "goodput", "objectives", name)


def _latency() -> Iterator[Column]:
    for name in _SERVICE:
        yield from _distribution(name, "latency", "service", name)
    for name in _RESPONSE:
        yield from _distribution(f"response_{name}", "latency", "response", name)
    for name in ("p50_s", "p99_s", "max_s", "limit_s", "share_above_limit"):
        yield _number(f"stall_{name}", "stalls", name)


def _distribution(name: str, *path: str) -> Iterator[Column]:
    yield _at(f"{name}_n", "integer", *path, "n")
    yield _at(f"{name}_unfinished", "integer", *path, "unfinished")
    for figure in ("mean_s", "mean_low_s", "mean_high_s", "sd_s", "min_s", "max_s"):
        yield _number(f"{name}_{figure}", *path, figure)
    for percentile in _PERCENTILES:
        yield _number(f"{name}_{percentile}_s", *path, percentile, "value_s")
        for end in _ENDS:
            yield _number(f"{name}_{percentile}_{end}_s", *path, percentile, f"{end}_s")


def _lengths() -> Iterator[Column]:
    """Of the whole point."""
    yield _at("total_input_tokens", "integer", "metrics", "total_input_tokens")
    yield _at("total_output_tokens", "integer", "metrics", "total_output_token")
    for length in ("input_len", "output_len"):
        assert length in FLAT
        for prefix in STATISTICS:
            yield _number(f"{prefix}_{length}", "metrics", f"{prefix}_{length}")
    yield _number("tokens_per_event", "tokens", "tokens_per_event", "mean")


def _cost() -> Iterator[Column]:
    yield _number("machine_cost_per_hour_usd", "cost", "machine_cost_per_hour_usd")
    for name in _PER_MILLION:
        yield _number(name, "cost", name)
    for method, told in _METHODS.items():
        for name in _PER_MILLION[:2]:
            for figure in ("value", *_ENDS):
                end = "" if figure == "value" else f"_{figure}"
                yield Column(f"split_{told}_{name}{end}", "number", _split(method, name, figure))
    yield _number("utilization", "cost", "with_idle", "utilization")
    for name in _PER_MILLION:
        yield _number(f"with_idle_{name}", "cost", "with_idle", name)


def _split(method: str, name: str, figure: str) -> Callable[[ExportPoint], Any]:
    def of(point: ExportPoint) -> Any:
        splits = point.at("cost", "splits") or []
        return next(((split.get(name) or {}).get(figure) for split in splits if split["method"] == method), None)

    return of


def gauge(point: ExportPoint, quantity: Quantity) -> dict[str, Any] | None:
    """What the server told of it over the window, exact readings first; None where it told nothing."""
    readings = point.at("server", "readings") or []
    found: dict[str, Any] | None = next(
        (each["gauges"][quantity] for each in readings if quantity in each["gauges"]), None
    )
    return found


def _server() -> Iterator[Column]:
    def of_gauge(quantity: Quantity, figure: str) -> Callable[[ExportPoint], Any]:
        return lambda point: (gauge(point, quantity) or {}).get(figure)

    for quantity in _GAUGES:
        for figure in ("mean", "max"):
            yield Column(f"server_{quantity}_{figure}", "number", of_gauge(quantity, figure))
    for part in ("outside_s", "queue_s", "prefill_s", "rest_s"):
        yield _number(f"ttft_mean_{part}", "server", "reconciliation", "ttft_split", part)
    yield _number("prefix_cache_hit_rate", "cache", "hit_rate")


def _machines(points: Sequence[ExportPoint]) -> Iterator[Column]:
    for name in ("energy_j", "mean_power_w", "joules_per_output_token"):
        yield _number(f"gpus_{name}", "telemetry", "energy", name)
    yield from _each(points, "gpu", "text", "name")
    for name in ("utilization", "memory_used_bytes", "power_w", "temperature_c", "sm_clock_mhz"):
        yield from _each(points, "gpu", "number", name, "mean")
    for name in ("energy_j", "throttled_share"):
        yield from _each(points, "gpu", "number", name)
    yield from _each(points, "tpu", "text", "name")
    for name in ("duty_cycle", "tensorcore_utilization", "memory_used_bytes"):
        yield from _each(points, "tpu", "number", name, "mean")


def _each(points: Sequence[ExportPoint], kind: str, of: Kind, *path: str) -> Iterator[Column]:
    """The same figure of each accelerator of a kind, by its place among them."""

    def chips(point: ExportPoint) -> Sequence[dict[str, Any]]:
        return point.at("telemetry", f"{kind}s") or []

    def figure(number: int) -> Callable[[ExportPoint], Any]:
        def found(point: ExportPoint) -> Any:
            value: Any = chips(point)[number] if number < len(chips(point)) else None
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            return value

        return found

    for number in range(max((len(chips(point)) for point in points), default=0)):
        yield Column(f"{kind}{number}_{'_'.join(path)}", of, figure(number))
