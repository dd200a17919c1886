"""What the results say of a point that was to run until its percentiles were known. Pure."""

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from latency_profile import measures
from latency_profile.measures import Rows, Window
from latency_profile.records import PointContext, Records
from latency_profile.statistics import (
    NS_PER_S,
    Distribution,
    Known,
    Percentile,
    Ranks,
    Sample,
    binomial_ranks,
    describe,
)
from latency_profile.until_ci.precision import (
    ONE_BY_ONE,
    Precision,
    anytime_percentile,
    describe_anytime,
    needed_share,
    precision,
    reached,
    shared_effective_size,
)


class UntilCi(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well the percentiles are known that were to be known, and when sending ended because they were.

    Wherever this is not null, the intervals of all percentiles of the point are those of a confidence sequence, which
    hold although the data decided when to stop. Those of means and rates are of fixed size.
    """

    target: Annotated[float, Meta(gt=0, lt=1, description="asked for, as a share of each percentile")]
    reached: Annotated[bool, Meta(description="whether all of `known` is within the target")]
    looks: Annotated[int, Meta(ge=0, description="while the point ran")]
    requests: Annotated[int, Meta(ge=0, description="finished answers that `known` rests on")]
    stopped_after_s: Annotated[
        float | None, Meta(description="when sending ended early, s since the point's start; null: it did not")
    ]
    estimate_needed_s: Annotated[
        float | None,
        Meta(
            description="how long the point would have had to be, extrapolated; a lower bound "
            "where a relative_half_width is null. Null where the target is reached, and where nothing tells"
        ),
    ]
    known: Annotated[
        dict[str, dict[str, Precision]],
        Meta(
            description="by metric (ttft of streams, e2e; response, or in a closed loop service) and level (p50, p95, "
            "p99); with 95 % confidence for all of them together, so that these are wider than the intervals of each"
        ),
    ]


def describer(context: PointContext) -> Callable[[Sample], Distribution]:
    """What describes the latencies of a point: where the data may have decided when to stop, its intervals hold then
    too."""
    return describe if context.until_ci is None else describe_anytime


class Certainty(NamedTuple):
    """How surely something is known: the ranks that enclose a percentile of so many independent values, how many such
    values a sample is worth at most (0: it says nothing of that), and its percentiles."""

    ranks: Ranks
    size: Callable[[Known], float]
    percentile: Callable[[Known, float], Percentile]


def certainty(context: PointContext) -> Certainty:
    """As for `describer`: what holds where the data may have decided when to stop."""
    if context.until_ci is None:
        return Certainty(binomial_ranks, lambda _: math.inf, lambda of, level: of.percentile(level))

    def size(of: Known) -> float:
        return shared_effective_size(of.whole, of.values.estimated) if len(of.whole.values) else 0.0

    return Certainty(
        ONE_BY_ONE.ranks, size, lambda of, level: anytime_percentile(of.values, level, ONE_BY_ONE, size(of))
    )


def until_ci(records: Records, rows: Rows, span: Window) -> UntilCi | None:
    """Of the requests `rows` of the window `span`; None where it was not asked for."""
    context = records.context
    asked = context.until_ci
    if asked is None or asked.target is None:
        return None
    origin = "sent_ns" if context.concurrency is not None else "due_ns"
    measured = rows & span.rows
    samples = {"ttft": measures.time_to_first_token(records, measured, origin)} if context.streaming else {}
    whole = samples["e2e"] = measures.end_to_end(records, measured, origin)
    known = precision(samples, asked.target)
    done = reached(known, asked.target)
    share = needed_share(known)
    outside_s = span.start_ns / NS_PER_S + context.cooldown_s
    return UntilCi(
        target=asked.target,
        reached=done,
        looks=asked.looks,
        requests=len(whole.values) - (0 if whole.unfinished is None else int(whole.unfinished.sum())),
        stopped_after_s=asked.stopped_after_s,
        estimate_needed_s=None if done or share is None else round(span.length_s * share + outside_s, 1),
        known=known,
    )
