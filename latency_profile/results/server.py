"""The block `server` of a point's results: what the server says of itself. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from latency_profile.measures import Window
from latency_profile.records import Records
from latency_profile.server_view.quantities import view
from latency_profile.server_view.structure import ReadingsView, Reconciliation
from latency_profile.statistics import NS_PER_S, Distribution

Stats = dict[str, float | str | None]
ServerMetrics = Annotated[
    dict[str, Stats],
    Meta(description="of each server metric over the point: Mean, Median, Sd, Min, Max, P90, P95, P99; Sum, Rate, …"),
]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class ServerTimes(_Whole, frozen=True, kw_only=True):
    """What the server itself says of each request, and what it leaves of our own figures.

    Of succeeded requests of the window, each where the server says it; null where it never does. The differences leave
    out requests that were retried, as the server speaks of their last attempt only. They may be below 0.
    """

    queue: Annotated[Distribution | None, Meta(description="waiting to be scheduled")]
    prefill: Annotated[Distribution | None, Meta(description="reading the prompt")]
    decode: Annotated[Distribution | None, Meta(description="making the output tokens")]
    total: Annotated[Distribution | None, Meta(description="the whole request")]
    unexplained_e2e: Annotated[
        Distribution | None, Meta(description="service E2E - total: the network, HTTP on both sides, and this client")
    ]
    unexplained_ttft: Annotated[
        Distribution | None,
        Meta(description="service TTFT - queue - prefill; a queue that the server does not tell is part of it"),
    ]


class Server(_Whole, frozen=True, kw_only=True):
    metrics: ServerMetrics
    times: Annotated[ServerTimes | None, Meta(description="null where the server says nothing of single requests")]
    readings: Annotated[
        list[ReadingsView], Meta(description="its metrics in one vocabulary, by where they were read; exact ones first")
    ]
    reconciliation: Annotated[
        Reconciliation | None,
        Meta(description="of the first readings that have increases with this client's; null without readings"),
    ]


def server(records: Records, span: Window, times: ServerTimes | None, both: Reconciliation | None) -> Server:
    """Of the whole server, whichever of its models the result is of. times: of single requests."""
    context = records.context
    readings = context.server_readings
    return Server(
        metrics=context.server_metrics,
        times=times,
        readings=[view(found, span, context.measured_ns / NS_PER_S) for found in readings],
        reconciliation=both,
    )
