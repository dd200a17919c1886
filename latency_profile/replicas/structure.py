"""The structure of `latency-profile replicas`' file. Its JSON Schema in the package is made from it
(`results.schema`).

A plan is of one kind of load, as the points are that it rests on, and `of` says of which: requests/s, or requests in
flight of a closed loop. Keys of type Load are in that unit; a key with a unit in its name has that one, and is null in
the other kind of plan.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from latency_profile.capacity.structure import Of
from latency_profile.slo.structure import Outcome

PLAN_VERSION = "1.2"

Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
Load = Annotated[float, Meta(gt=0)]  # in the plan's unit
Usd = Annotated[float, Meta(gt=0)]


class _Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure whose keys are all there."""


class Basis(enum.Enum):
    RESULTS = "results"
    RECORDS = "records"
    INTERVALS = "intervals"


class Evidence(_Whole, frozen=True, kw_only=True):
    """What one point says of the objectives."""

    file: str
    load: str
    request_rate: Annotated[
        float | None,
        Meta(description="requests/s asked for, of all that was measured together; null: unlimited, or a closed loop"),
    ]
    concurrency: Annotated[
        int | None, Meta(description="requests kept in flight at all that was measured together; null in open loop")
    ]
    offered_requests_per_s: Annotated[float | None, Meta(description="of the plan, in the point's window")]
    completed_requests_per_s: Annotated[float | None, Meta(description="of the server, whole answers only")]
    verdict: str
    remarks: Annotated[list[str], Meta(description="names of the verdict's remarks")]
    outcome: Annotated[
        Outcome | None, Meta(description="of all objectives together; null: the point tells nothing of them")
    ]
    saturated: Annotated[bool, Meta(description="its backlog grows: it keeps nothing, whatever its window shows")]
    basis: Annotated[
        Basis | None,
        Meta(
            description="what the outcome is from: what the point's own run judged (results), its records, or where "
            "there are none the 95 % intervals in its results"
        ),
    ]
    reason: Annotated[str, Meta(description="why it does not keep them, or tells nothing; empty where it keeps them")]

    @property
    def asked(self) -> float | None:
        """The load that was asked for; None for a burst."""
        return self.request_rate if self.concurrency is None else float(self.concurrency)

    @property
    def offered(self) -> float:
        """The load that there was: a plan that is drawn has more or less in its window, a closed loop has its users."""
        return (self.offered_requests_per_s or 0.0) if self.concurrency is None else float(self.concurrency)


class Searched(_Whole, frozen=True, kw_only=True):
    """A capacity that was searched for (--find-capacity) with these very objectives, of all that was measured
    together. Of several searches the widest that they leave open."""

    files: Annotated[list[str], Meta(description="the profiles'")]
    low: Annotated[
        Load,
        Meta(description="the lower end of its interval; where no load broke them, the highest that clearly kept them"),
    ]
    high: Annotated[Load | None, Meta(description="the upper end; null: no load broke them")]
    confidence: Annotated[float, Meta(gt=0, lt=1, description="of the interval")]
    text: Annotated[list[str], Meta(description="what each search came to, a sentence each")]


class InFlight(_Whole, frozen=True, kw_only=True):
    """A target in requests in flight. Of points at rates, the rate that it comes to by Little's law: rate × mean E2E.
    Of points of a closed loop, what one replica may have."""

    target: Annotated[float, Meta(gt=0, description="in flight at all replicas together")]
    per_replica: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="of the replicas that it takes, without headroom; null where nothing is `carried`"),
    ]
    e2e_mean_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="from due, at a replica's rate at the target; between measured rates interpolated. Null where "
            "nothing is `carried`, and by points of a closed loop, which take no law"
        ),
    ]
    scale_at: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="by points of a closed loop: kept / (1 + headroom), the mean in flight a replica for an "
            "autoscaler to aim at, which then comes to `replicas` at the target. Else null"
        ),
    ]
    limit: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="by points of a closed loop: the most in flight at one replica that is known to keep the "
            "objectives, for a gateway: `kept` as a whole number; null where that is none. Else null"
        ),
    ]


class Carried(_Whole, frozen=True, kw_only=True):
    """What one replica carries: at least `kept`, and less than `broken`, where that is known."""

    kept: Annotated[
        Load,
        Meta(
            description="by points: the highest measured load that keeps all objectives, no lower one breaking them: "
            "as asked for, or of a rate what its plan offered in the window where that was less. By a search: its `low`"
        ),
    ]
    kept_of: Annotated[
        float, Meta(description="the load asked for at that point, or `low`: of all that was measured together")
    ]
    broken: Annotated[
        Load | None,
        Meta(
            description="by points: the lowest measured load that breaks them or saturates: as asked for, or of a rate "
            "as offered where that was more; null: none does. By a search of a rate: its `high`, which it may just "
            "carry; by one of a concurrency: the next above its `high`, which it may not"
        ),
    ]
    unresolved: Annotated[
        list[Load], Meta(description="loads between the two, or above `kept`, whose samples do not tell")
    ]
    skipped: Annotated[
        list[Load], Meta(description="loads below `kept` whose samples do not tell; it stands without them")
    ]
    not_monotone: Annotated[
        list[Load],
        Meta(
            description="loads above `broken` that keep the objectives all the same: the curve is not monotone, and "
            "they are not used"
        ),
    ]
    broken_below: Annotated[
        list[Load],
        Meta(
            description="by a search: loads up to `kept` at which a single point breaks them all the same, which a "
            "search of a rate weighs against its other points"
        ),
    ]


class OneDown(_Whole, frozen=True, kw_only=True):
    """What remains when one replica fails and the others share its load."""

    per_replica: Annotated[Load, Meta(description="of each that remains")]
    requests_per_s: Annotated[Rate | None, Meta(description="the same, where the plan is of a rate; else null")]
    outcome: Annotated[
        Outcome,
        Meta(description="kept: at most `kept` each. broken: `broken` or more. unresolved: between, or not measured"),
    ]


class Sizing(_Whole, frozen=True, kw_only=True):
    """Replicas for the target, at equal load."""

    replicas: Annotated[Count, Meta(description="ceil(target (1 + headroom) / kept)")]
    at_least: Annotated[
        Count | None,
        Meta(description="the same were the truth just below `broken`: fewer cannot do. Null: no load breaks them"),
    ]
    per_replica: Annotated[Load, Meta(description="of each at the target load, without headroom")]
    requests_per_s: Annotated[Rate | None, Meta(description="the same, where the plan is of a rate; else null")]
    utilization: Annotated[float, Meta(gt=0, description="of the kept load, at the target load without headroom")]
    imbalance: Annotated[
        float,
        Meta(ge=1, description="how many times an even share the busiest may get before it is above the kept load"),
    ]
    one_down: Annotated[OneDown | None, Meta(description="null with one replica: nothing remains")]
    with_one_spare: Annotated[
        Count, Meta(description="replicas of which any one may fail while the others keep the target, without headroom")
    ]


class PlanCost(_Whole, frozen=True, kw_only=True):
    """Of the replicas, whole hours of all of them, at the target load. USD."""

    usd_per_replica_hour: Usd
    usd_per_hour: Usd
    usd_per_month: Annotated[Usd, Meta(description="of 730 hours")]
    usd_per_million_output_tokens: Annotated[
        Usd | None, Meta(description="their whole price over the output tokens; null: see reason")
    ]
    requests_per_s: Annotated[
        Rate | None,
        Meta(
            description="of all replicas, whose output tokens these are: the target; where the plan is of a "
            "concurrency what a point completed that was measured at about the target's, or null where none was"
        ),
    ]
    output_tokens_mean: Annotated[
        float | None, Meta(description="of an answer, at the point that is kept, or at which `requests_per_s` was")
    ]
    reason: Annotated[str, Meta(description="why there is no price of output tokens; or empty")]


class ReplicaPlan(_Whole, frozen=True, kw_only=True):
    """How many replicas a target load takes."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    of: Annotated[Of, Meta(description="of what load the plan is: requests/s, or requests in flight")]
    target_rate: Annotated[
        Rate | None,
        Meta(
            description="requests/s of all replicas together; null: of `in_flight`, where nothing is `carried` or the "
            "plan is of a concurrency"
        ),
    ]
    in_flight: Annotated[InFlight | None, Meta(description="of --target-concurrency; null: the target is a rate")]
    headroom: Annotated[float, Meta(ge=0, description="share of the target that is added to it")]
    objectives: Annotated[list[str], Meta(description="METRIC:STAT<LIMIT each")]
    measured_replicas: Annotated[Count, Meta(description="that served together at each point (--measured-replicas)")]
    urls: Annotated[Count, Meta(description="URLs that requests went to in turn")]
    points: list[Evidence]
    searched: Annotated[
        Searched | None, Meta(description="what `carried` rests on; null: on the points, as no search is to be used")
    ]
    carried: Annotated[Carried | None, Meta(description="of one replica; null: no measured load keeps the objectives")]
    sizing: Annotated[Sizing | None, Meta(description="null without `carried`")]
    cost: Annotated[PlanCost | None, Meta(description="null without a price or `sizing`")]
    assumptions: Annotated[list[str], Meta(description="what the number rests on, a sentence each")]
