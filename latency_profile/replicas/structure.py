"""The structure of `latency-profile replicas`' file. Its JSON Schema in the package is made from it
(`results.schema`)."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from latency_profile.slo.structure import Outcome

PLAN_VERSION = "1.1"

Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
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
    request_rate: Annotated[float | None, Meta(description="requests/s asked for, of all that was measured together")]
    offered_requests_per_s: Annotated[float | None, Meta(description="of the plan, in the point's window")]
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


class Searched(_Whole, frozen=True, kw_only=True):
    """A capacity that was searched for (--find-capacity) with these very objectives: requests/s of all that was
    measured together. Of several searches the widest that they leave open."""

    files: Annotated[list[str], Meta(description="the profiles'")]
    low: Annotated[
        Rate,
        Meta(description="the lower end of its interval; where no rate broke them, the highest that clearly kept them"),
    ]
    high: Annotated[Rate | None, Meta(description="the upper end; null: no rate broke them")]
    confidence: Annotated[float, Meta(gt=0, lt=1, description="of the interval")]
    text: Annotated[list[str], Meta(description="what each search came to, a sentence each")]


class InFlight(_Whole, frozen=True, kw_only=True):
    """A target in requests in flight, and the rate that it comes to by Little's law: rate × mean E2E."""

    target: Annotated[float, Meta(gt=0, description="in flight at all replicas together")]
    per_replica: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="of the replicas that it takes, without headroom; null where nothing is `carried`"),
    ]
    e2e_mean_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="from due, at a replica's rate at the target; between measured rates interpolated. Null where "
            "nothing is `carried`"
        ),
    ]


class Carried(_Whole, frozen=True, kw_only=True):
    """What one replica carries, requests/s: at least `kept`, and less than `broken`, where that is known."""

    kept: Annotated[
        Rate,
        Meta(
            description="by points: the highest measured rate that keeps all objectives, no lower one breaking them: "
            "the rate asked for, or what its plan offered in the window where that was less. By a search: its `low`"
        ),
    ]
    kept_of: Annotated[
        float, Meta(description="the rate asked for at that point, or `low`: of all that was measured together")
    ]
    broken: Annotated[
        Rate | None,
        Meta(
            description="by points: the lowest measured rate that breaks them or saturates: as asked for, or as "
            "offered where that was more; null: none does. By a search: its `high`, which it may just carry"
        ),
    ]
    unresolved: Annotated[
        list[Rate], Meta(description="rates between the two, or above `kept`, whose samples do not tell")
    ]
    skipped: Annotated[
        list[Rate], Meta(description="rates below `kept` whose samples do not tell; it stands without them")
    ]
    not_monotone: Annotated[
        list[Rate],
        Meta(
            description="rates above `broken` that keep the objectives all the same: the curve is not monotone, and "
            "they are not used"
        ),
    ]
    broken_below: Annotated[
        list[Rate],
        Meta(
            description="by a search: rates up to `kept` at which a single point breaks them all the same, which the "
            "search weighs against its other points"
        ),
    ]


class OneDown(_Whole, frozen=True, kw_only=True):
    """What remains when one replica fails and the others share its load."""

    requests_per_s: Annotated[Rate, Meta(description="of each that remains")]
    outcome: Annotated[
        Outcome,
        Meta(description="kept: at most `kept` each. broken: `broken` or more. unresolved: between, or not measured"),
    ]


class Sizing(_Whole, frozen=True, kw_only=True):
    """Replicas for the target, at equal load."""

    replicas: Annotated[Count, Meta(description="ceil(target_rate (1 + headroom) / kept)")]
    at_least: Annotated[
        Count | None,
        Meta(description="the same were the truth just below `broken`: fewer cannot do. Null: no rate breaks them"),
    ]
    requests_per_s: Annotated[Rate, Meta(description="of each at the target load")]
    utilization: Annotated[float, Meta(gt=0, description="of the kept rate, at the target load without headroom")]
    imbalance: Annotated[
        float,
        Meta(ge=1, description="how many times an even share the busiest may get before it is above the kept rate"),
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
        Usd | None, Meta(description="their whole price over the output tokens; null where answers have none")
    ]
    output_tokens_mean: Annotated[float | None, Meta(description="of an answer, at the point that is kept")]


class ReplicaPlan(_Whole, frozen=True, kw_only=True):
    """How many replicas a target load takes."""

    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+$")]
    target_rate: Annotated[
        Rate | None,
        Meta(description="requests/s of all replicas together; null: of `in_flight`, where nothing is `carried`"),
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
    carried: Annotated[Carried | None, Meta(description="of one replica; null: no measured rate keeps the objectives")]
    sizing: Annotated[Sizing | None, Meta(description="null without `carried`")]
    cost: Annotated[PlanCost | None, Meta(description="null without a price or `sizing`")]
    assumptions: Annotated[list[str], Meta(description="what the number rests on, a sentence each")]
