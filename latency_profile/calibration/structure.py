"""What a calibration found. Part of the records' context and of the results; the JSON Schema is made from it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(ge=0)]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class MetricError(_Whole, frozen=True, kw_only=True):
    """One metric: how far the client's figures are from the truth (client - truth), and each value from its own."""

    n: Annotated[int, Meta(ge=1, description="values that were compared one by one: requests, or of ITL gaps")]
    mean_s: Annotated[float, Meta(description="bias of the mean")]
    p50_s: Annotated[float, Meta(description="bias of the p50")]
    p90_s: Annotated[float, Meta(description="bias of the p90")]
    p99_s: Annotated[float, Meta(description="bias of the p99")]
    sd_s: Annotated[float, Meta(ge=0, description="of the single differences")]
    p99_of_differences_s: Annotated[float, Meta(ge=0, description="p99 of the single differences' absolute values")]


class MetricErrors(_Whole, frozen=True, kw_only=True):
    """By metric; null where the load has none (TTFT unless streamed, what counts from due in a closed loop)."""

    ttft: MetricError | None
    tpot: MetricError | None
    itl: MetricError | None
    ntpot: MetricError | None
    e2e: MetricError | None
    response_ttft: MetricError | None
    response_e2e: MetricError | None
    lateness: MetricError | None


class Events(_Whole, frozen=True, kw_only=True):
    """Token-carrying events of the requests that were compared."""

    written: Annotated[int, Meta(ge=0, description="by the server")]
    received: Annotated[int, Meta(ge=0, description="by the client")]
    lost: Annotated[int, Meta(ge=0, description="fewer than were written, summed over requests")]
    merged: Annotated[
        int,
        Meta(ge=0, description="given the same time as the next of their answer, and written more than 1 ms before it"),
    ]


class Throughputs(_Whole, frozen=True, kw_only=True):
    """By the plan, by the client and in truth. Between the first and the last of each; null where that is no time."""

    planned_requests_per_s: Positive | None
    sent_requests_per_s: Positive | None
    arrived_requests_per_s: Annotated[Positive | None, Meta(description="at the server: the truth of the rate")]
    planned_gaps_cv: Annotated[
        Positive | None, Meta(description="coefficient of variation of the times between arrivals: Poisson, about 1")
    ]
    arrived_gaps_cv: Positive | None
    received_tokens_per_s: Annotated[Positive | None, Meta(description="output tokens, by the client")]
    written_tokens_per_s: Annotated[Positive | None, Meta(description="output tokens, in truth")]


class Truth(_Whole, frozen=True, kw_only=True):
    """How well the truth itself is known, and whether the server was what it was meant to be."""

    uncertainty_p99_s: Annotated[
        Positive | None,
        Meta(description="p99 of how long the write of an event took: it came within it; null: not told"),
    ]
    server_late_p99_s: Annotated[
        float, Meta(description="p99 of written - scheduled: above 5 ms the load was not quite the one that was wanted")
    ]
    events_per_s: Annotated[Positive, Meta(description="written, in the busiest second")]


class Step(_Whole, frozen=True, kw_only=True):
    """One event rate of the search for the highest."""

    wanted_events_per_s: Positive
    events_per_s: Annotated[Positive, Meta(description="written, in the busiest second")]
    lateness_p99_s: float
    ttft_p99_s: Annotated[float, Meta(description="bias of the TTFT's p99")]
    server_late_p99_s: float
    limit: Annotated[
        Literal["client", "server"] | None, Meta(description="whose errors were beyond the limits; null: nobody's")
    ]


class HighestRate(_Whole, frozen=True, kw_only=True):
    """The highest event rate at which the client's errors stay within the limits, on the CPU that it shared with the
    server of known timing: alone it may reach more."""

    events_per_s: Annotated[
        Positive | None, Meta(description="null where not even the lowest rate that was tried went well")
    ]
    limited_by: Annotated[
        Literal["client", "server", "search"],
        Meta(description="who failed at the next step; server: the client's own limit is higher; search: nobody did"),
    ]
    steps: Annotated[list[Step], Meta(description="in the order in which they ran")]


class Calibration(_Whole, frozen=True, kw_only=True):
    """The client against a loopback server of known timing, under the load of one point. Server and client shared the
    machine's CPU, so its errors are rather too large than too small."""

    cadence: Annotated[
        Literal["assumed", "replayed"],
        Meta(description="of the answers: as the settings assume, or as it was measured"),
    ]
    planned_s: Annotated[float, Meta(ge=0, description="how much of the point's plan was run")]
    processes: Annotated[int, Meta(ge=1, description="sender processes")]
    requests: Annotated[int, Meta(ge=0, description="that were compared with the truth")]
    failed: Annotated[int, Meta(ge=0, description="sent, but not answered whole, or unknown to the server")]
    lateness_p99_s: Annotated[float | None, Meta(description="sent - due, by the client; null in a closed loop")]
    burst: Annotated[bool, Meta(description="all requests were due at once: lateness has no limit")]
    errors: MetricErrors
    events: Events
    throughput: Throughputs
    truth: Truth
    highest: HighestRate | None
