"""The server's view of a point in the results. Times in s, since the point's start where they are moments."""

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from latency_profile.telemetry.readings import Replica


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class GaugeView(_Whole, frozen=True, kw_only=True):
    """Over the looks within the measured window, or within the point where the window holds none."""

    n: Annotated[int, Meta(ge=1, description="looks")]
    mean: float
    median: float
    sd: float
    min: float
    max: float
    p90: float
    p95: float
    p99: float


class CounterView(_Whole, frozen=True, kw_only=True):
    """From idle before the point to drained after it; the rate is of the measured window."""

    increase: float
    per_second: Annotated[
        float | None,
        Meta(description="between the first and last look within the measured window; null where there are not two"),
    ]


class QuantileView(_Whole, frozen=True, kw_only=True):
    """A quantile of a histogram: it lies between the bounds of its bucket."""

    low: float
    high: Annotated[float | None, Meta(description="null: beyond the last bound")]


class HistogramView(_Whole, frozen=True, kw_only=True):
    """Of everything that was observed from idle before the point to drained after it."""

    n: float
    mean: float | None
    p50: QuantileView | None
    p90: QuantileView | None
    p99: QuantileView | None


class Series(_Whole, frozen=True, kw_only=True):
    """Time series: value k was read at times_s[k]. null: not all replicas were read then."""

    times_s: list[float]
    gauges: dict[str, list[float | None]]
    counters: Annotated[dict[str, list[float | None]], Meta(description="increases so far")]


class Covers(_Whole, frozen=True, kw_only=True):
    """What counters and histograms cover."""

    start_s: Annotated[float, Meta(description="the last look before the point")]
    end_s: Annotated[float, Meta(description="the first one after it")]


class ReadingsView(_Whole, frozen=True, kw_only=True):
    """What one source told, in the common vocabulary (docs/server-metrics.md)."""

    source: Literal["direct", "prometheus", "google"]
    covers: Covers
    at_least: Annotated[str | None, Meta(description="why increases may lack something; null: they are exact")]
    unlike: Annotated[str | None, Meta(description="why there are no increases; null: there are")]
    names: Annotated[dict[str, list[str]], Meta(description="the server's own names")]
    missing: Annotated[list[str], Meta(description="that such servers usually have, and this one does not")]
    models: Annotated[list[str], Meta(description="as the metrics call them")]
    gauges: dict[str, GaugeView]
    counters: dict[str, CounterView]
    histograms: dict[str, HistogramView]
    series: Series
    replicas: list[Replica]


class Counted(_Whole, frozen=True, kw_only=True):
    """A count by both sides, over the whole point."""

    client: Annotated[float, Meta(description="of succeeded requests: the least that the server must have counted")]
    client_most: Annotated[
        float, Meta(description="with what failed, was cut short or was sent again, which it may have counted")
    ]
    server: float
    excess: Annotated[float, Meta(ge=0, description="that the server counted beyond client_most")]
    lack: Annotated[float, Meta(ge=0, description="that it did not count of client")]


class Timed(_Whole, frozen=True, kw_only=True):
    """A time by both sides: the client's service times and the server's histogram, over the whole point."""

    client_n: int
    server_n: float
    client_mean_s: float
    server_mean_s: float
    client_p50_s: float
    client_p90_s: float
    client_p99_s: float
    server_p50: QuantileView | None
    server_p90: QuantileView | None
    server_p99: QuantileView | None
    tolerance_s: Annotated[float, Meta(description="beyond the bucket's width that is no disagreement")]
    agrees: Annotated[bool | None, Meta(description="null where both are not of the same requests")]


class TtftSplit(_Whole, frozen=True, kw_only=True):
    """Where the mean TTFT from due goes; the parts add up to it. null where the server does not tell."""

    total_s: Annotated[float, Meta(description="the client's mean response TTFT; in a closed loop service TTFT")]
    lateness_s: Annotated[float, Meta(description="of the client")]
    outside_s: Annotated[
        float | None, Meta(description="service TTFT - the server's: the network, a gateway, reading and writing HTTP")
    ]
    queue_s: float | None
    prefill_s: float | None
    rest_s: Annotated[float | None, Meta(description="what remains: inside the server where outside_s is known")]


class Cause(enum.Enum):
    """The likeliest cause of a disagreement."""

    OTHER_TRAFFIC = "OTHER_TRAFFIC"
    ROUTER = "ROUTER"
    RETRIES = "RETRIES"
    SEVERAL_TOKENS_AN_EVENT = "SEVERAL_TOKENS_AN_EVENT"
    WRONG_WINDOW = "WRONG_WINDOW"
    OTHER_MODEL = "OTHER_MODEL"
    OTHER_COUNT = "OTHER_COUNT"
    OUTSIDE = "OUTSIDE"


class Discrepancy(_Whole, frozen=True, kw_only=True):
    what: Annotated[str, Meta(description="the quantity")]
    cause: Annotated[Cause, Meta(description="the likeliest one")]
    text: Annotated[str, Meta(description="one sentence, with the figures")]


class Reconciliation(_Whole, frozen=True, kw_only=True):
    """Both views, request for request where counters are exact. null: one side does not tell."""

    source: Literal["direct", "prometheus", "google"]
    requests: Counted | None
    prompt_tokens: Annotated[Counted | None, Meta(description="null too where answers bring no usage")]
    generated_tokens: Annotated[Counted | None, Meta(description="null too where answers bring neither usage nor ids")]
    ttft: Timed | None
    itl: Timed | None
    e2e: Timed | None
    ttft_split: TtftSplit | None
    disagreements: list[Discrepancy]
