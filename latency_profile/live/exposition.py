"""A view in Prometheus' text format. Pure.

Names and buckets are those of the first inference-benchmark, whose dashboards go on working (colons stand in them
although Prometheus keeps those for rules). https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Iterator, Sequence

from latency_profile.live.histogram import Histogram
from latency_profile.live.view import Phase, View
from latency_profile.verdict import Kind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "LatencyProfileGenerator:"
_AT_THE_END = "Nothing is parsed while a point runs: it grows at each point's end."
_Sample = tuple[str, float]  # labels with their braces, or "", and value


def exposition(view: View) -> bytes:
    return "".join(f"{line}\n" for line in _lines(view)).encode()


def _lines(view: View) -> Iterator[str]:
    found = view.histograms
    yield from _histogram("prompt_length", "Input tokens of answered requests.", found.prompt_length)
    yield from _histogram("response_length", "Output tokens of answered requests.", found.response_length)
    yield from _histogram(
        "normalized_time_per_output_token_ms",
        "Time from sent to the answer's last byte, over its output tokens, in ms.",
        found.normalized_time_per_output_token_ms,
    )
    yield from _histogram(
        "time_per_output_token_ms",
        "Time from the first token to the last, over the output tokens but one, in ms.",
        found.time_per_output_token_ms,
    )
    yield from _histogram(
        "time_to_first_token_ms", "Time from sent to first token, in ms.", found.time_to_first_token_ms
    )
    yield from _histogram(
        "request_latency_ms", "E2E: time from sent to the answer's last byte, in ms.", found.request_latency_ms
    )
    yield from _family("active_requests", "gauge", "Requests in flight now.", [("", view.in_flight)])
    now = view.requests
    yield from _family("request_count_total", "counter", "Requests sent.", [("", now.sent)])
    yield from _family("requests_completed_total", "counter", "Answers that ended well.", [("", now.completed)])
    yield from _family("requests_failed_total", "counter", "Requests that failed.", [("", now.failed)])
    yield from _family(
        "failures_total",
        "counter",
        f"Requests that failed, by how they ended. {_AT_THE_END}",
        [(f'{{kind="{kind}"}}', count) for kind, count in view.failures.items()],
    )
    yield from _family(
        "output_tokens_per_second",
        "gauge",
        "Output tokens that come in now, about: one read of a stream counts as one token.",
        [("", view.tokens_per_s)],
    )
    yield from _histogram("lateness_ms", "Sent - due, in ms: how late this client was.", found.lateness_ms)
    yield from _family(
        "lateness_p99_ms",
        "gauge",
        "p99 of sent - due, in ms: of the last 2 s while a point runs, then of the whole point.",
        _if_known(view.lateness_p99_ms),
    )
    yield from _points(view)


def _points(view: View) -> Iterator[str]:
    yield from _family(
        "phase", "gauge", "1 for what the profile does now.", [_one_of("phase", one.value, view.phase) for one in Phase]
    )
    yield from _family("ready", "gauge", "1 once the model server was found ready.", [("", int(view.ready))])
    yield from _family("points", "gauge", "Points of the profile.", [("", view.points)])
    yield from _family("points_done", "gauge", "Points that have results.", [("", view.points_done)])
    load = [(f'{{unit="{view.load[0]}"}}', view.load[1])] if view.load else []
    yield from _family("point_load", "gauge", "Load of the point that runs, or ran last.", load)
    yield from _family(
        "verdict",
        "gauge",
        "1 for the verdict on the last point.",
        [_one_of("verdict", kind.value, view.verdict) for kind in Kind],
    )
    yield from _family(
        "verdicts_total",
        "counter",
        "Points by their verdict.",
        [(f'{{verdict="{kind.value}"}}', view.verdicts.get(kind, 0)) for kind in Kind],
    )
    yield from _family(
        "last_point_timestamp_seconds",
        "gauge",
        "Unix time at which the last point had its results.",
        _if_known(view.last_point_unix_s),
    )
    yield from _family("exit_code", "gauge", "The profile's exit code, once it is done.", _if_known(view.exit_code))


def _one_of(label: str, value: str, present: Kind | Phase | None) -> _Sample:
    return f'{{{label}="{value}"}}', int(present is not None and present.value == value)


def _if_known(value: float | None) -> list[_Sample]:
    return [] if value is None else [("", value)]


def _family(name: str, kind: str, text: str, samples: Sequence[_Sample]) -> Iterator[str]:
    """A family without a sample is left out: it is not known yet."""
    if not samples:
        return
    yield f"# HELP {PREFIX}{name} {text}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    for labels, value in samples:
        yield f"{PREFIX}{name}{labels} {_number(value)}"


def _histogram(name: str, text: str, histogram: Histogram) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {text} {_AT_THE_END}"
    yield f"# TYPE {PREFIX}{name} histogram"
    cumulative = histogram.cumulative
    for bound, count in zip((*histogram.bounds, float("inf")), cumulative, strict=True):
        yield f'{PREFIX}{name}_bucket{{le="{_number(float(bound))}"}} {count}'
    yield f"{PREFIX}{name}_sum {_number(histogram.total)}"
    yield f"{PREFIX}{name}_count {cumulative[-1]}"


def _number(value: float) -> str:
    """As Prometheus' own libraries write it: 2.0, 17, +Inf."""
    return "+Inf" if value == float("inf") else repr(value)
