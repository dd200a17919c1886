"""What the results say of objectives."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

_Share = Annotated[float, Meta(ge=0, le=1)]
_Figure = "as in `latency` where it is there; failed requests are in none"
_NOT_JUDGED = "null: not judged"


class Outcome(enum.Enum):
    KEPT = "kept"
    BROKEN = "broken"
    UNRESOLVED = "unresolved"


class Attainment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the requests that were due in the window (closed loop: sent in it) kept a limit. itl: of the gaps.

    A failed request did not keep it (itl: it counts as as many gaps as the others have on average). One that was still
    waiting at the stop did not where it had waited too long already; else it is open.
    """

    kept: Annotated[int, Meta(ge=0)]
    broken: Annotated[int, Meta(ge=0)]
    open: Annotated[int, Meta(ge=0)]
    failed: Annotated[int, Meta(ge=0, description="requests; their values are among the broken ones")]
    share: Annotated[_Share | None, Meta(description="kept / (kept + broken); null where there were none")]
    low: Annotated[_Share, Meta(description="lower end of the 95 % interval, open ones taken to break it")]
    high: Annotated[_Share, Meta(description="upper end, open ones taken to keep it")]
    effective_n: Annotated[float, Meta(ge=0, description="how many independent values tell as much as these did")]


class Judged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One objective at one point. A percentile's is that at least `level` of the requests keep the limit."""

    name: Annotated[str, Meta(description="METRIC:STAT<LIMIT, as --slo takes it")]
    metric: Annotated[
        str,
        Meta(description="ttft, ntpot, e2e: from due (response), in a closed loop from sent; tpot, itl; or errors"),
    ]
    statistic: Annotated[str, Meta(description="a percentile (p99), mean, or share (of errors)")]
    limit_s: Annotated[float | None, Meta(description="at most so long; null for errors")]
    level: Annotated[
        _Share | None,
        Meta(description="share that is to keep the limit; for errors of requests that do not fail; null for a mean"),
    ]
    outcome: Annotated[
        Outcome | None,
        Meta(
            description="kept: the whole interval of the share is at the level or above (of a mean: at the limit or "
            f"below). broken: it is below (above). unresolved: neither, the sample does not tell. {_NOT_JUDGED}"
        ),
    ]
    reason: Annotated[str, Meta(description="in words, with the figures")]
    measured_s: Annotated[
        float | None, Meta(description=f"the statistic, {_Figure}. Null for errors, and where not judged")
    ] = None
    measured_low_s: Annotated[float | None, Meta(description="lower end of its 95 % interval; null: there is none")] = (
        None
    )
    measured_high_s: Annotated[float | None, Meta(description="upper end; null: there is none")] = None
    attainment: Annotated[Attainment | None, Meta(description="null for a mean, and where not judged")] = None
    needed_requests: Annotated[
        int | None,
        Meta(
            description="about how many requests in the window would tell, were the share (the mean) what it is here; "
            "null unless unresolved, and where more of them would not"
        ),
    ] = None


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the point keeps its objectives (--slo)."""

    outcome: Annotated[
        Outcome | None,
        Meta(description=f"broken where one objective is, else unresolved where one is, else kept. {_NOT_JUDGED}"),
    ]
    reason: Annotated[str, Meta(description="why the point is not judged; empty where it is")]
    objectives: list[Judged]


class JudgedLoad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load that was measured."""

    request_rate: Annotated[float | None, Meta(description="requests/s asked for; null in a closed loop")]
    concurrency: int | None
    outcome: Annotated[Outcome | None, Meta(description=_NOT_JUDGED)]


class ProfileSlo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a profile's points say of the objectives together; a burst is no load level."""

    objectives: Annotated[list[str], Meta(description="METRIC:STAT<LIMIT each")]
    highest_kept: Annotated[
        JudgedLoad | None,
        Meta(
            description="the highest measured load at which a usable point keeps all objectives. It is no capacity: "
            "that lies somewhere from here to next_load. Null: no point does"
        ),
    ]
    next_load: Annotated[
        JudgedLoad | None,
        Meta(
            description="the next higher load that was measured (without highest_kept: the lowest); null: there is none"
        ),
    ]
    text: Annotated[str, Meta(description="the same in a sentence")]
