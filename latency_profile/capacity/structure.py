"""What a search for the capacity comes to."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta


class Of(enum.Enum):
    """Of what load."""

    RATE = "request rate"
    CONCURRENCY = "concurrency"


class Ended(enum.Enum):
    """Why a search was over."""

    CONFIRMED = "confirmed"
    MAX_RATE_KEPT = "max-rate kept"
    MAX_CONCURRENCY_KEPT = "highest concurrency kept"
    MAX_DURATION = "max-duration"
    SERVER_SUFFERS = "server suffers"
    UNRESOLVED = "unresolved"
    FIRST_RATE_BROKEN = "first rate already broken"
    FIRST_CONCURRENCY_BROKEN = "first concurrency already broken"
    CUT_SHORT = "cut short"


class Capacity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The highest steady load that keeps all objectives: requests/s, or requests in flight (users of a closed loop)."""

    of: Of = Of.RATE
    estimate: Annotated[float | None, Meta(description="null: see reason")]
    low: Annotated[float | None, Meta(description="lower end of the interval; null: the probes give none")]
    high: Annotated[float | None, Meta(description="upper end; null: the probes give none")]
    confidence: Annotated[float, Meta(gt=0, lt=1, description="of the interval")]
    binding: Annotated[str | None, Meta(description="the objective that is broken first; null: not known")]
    highest_kept: Annotated[
        float | None, Meta(description="the highest load of a probe that clearly kept all; or null")
    ]
    lowest_broken: Annotated[
        float | None, Meta(description="the lowest load of a probe that clearly broke one; or null")
    ]
    probes: Annotated[int, Meta(ge=0)]
    requests: Annotated[float, Meta(ge=0, description="sent, summed over the probes; of a rate: rate × seconds")]
    seconds: Annotated[float, Meta(ge=0, description="of sending, summed over the probes")]
    ended: Ended
    reason: Annotated[str, Meta(description="why there is no estimate, or no interval as narrow as wanted; or empty")]

    @property
    def answered(self) -> bool:
        """Whether it may be relied on to say where the capacity lies, on one side at least."""
        if self.ended in (Ended.MAX_RATE_KEPT, Ended.MAX_CONCURRENCY_KEPT):
            return self.highest_kept is not None
        if self.ended in (Ended.FIRST_RATE_BROKEN, Ended.FIRST_CONCURRENCY_BROKEN):
            return self.lowest_broken is not None
        whole = self.ended not in (Ended.SERVER_SUFFERS, Ended.CUT_SHORT)
        return whole and self.low is not None and self.high is not None
