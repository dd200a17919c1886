"""What a verdict is, and what follows from it."""

import enum
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from latency_profile.errors import Exit


class Kind(enum.Enum):
    """In order of precedence: a point gets the first that applies."""

    FAILED = "FAILED"
    CLIENT_LIMITED = "CLIENT_LIMITED"
    CONTAMINATED = "CONTAMINATED"
    SATURATED = "SATURATED"
    TOO_FEW_SAMPLES = "TOO_FEW_SAMPLES"
    VALID = "VALID"


UNUSABLE = frozenset({Kind.FAILED, Kind.CLIENT_LIMITED, Kind.CONTAMINATED})


class Name(enum.Enum):
    """What a remark is about."""

    UNSTEADY = "UNSTEADY"
    FAILURES = "FAILURES"
    SERVER_RESTARTED = "SERVER_RESTARTED"
    TOKENS_DISAGREE = "TOKENS_DISAGREE"
    SEVERAL_TOKENS_AN_EVENT = "SEVERAL_TOKENS_AN_EVENT"
    CACHE_UNKNOWN = "CACHE_UNKNOWN"
    SHARDS = "SHARDS"
    SERVER_DISAGREES = "SERVER_DISAGREES"
    GPU_THROTTLED = "GPU_THROTTLED"


class Remark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that one should know of a point before one uses its numbers, and that does not forbid to use them."""

    name: Name
    text: Annotated[str, Meta(description="one sentence, with the figure")]


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be concluded from a point, and why."""

    verdict: Annotated[
        Kind,
        Meta(
            description="FAILED, CLIENT_LIMITED and CONTAMINATED: do not use the numbers. SATURATED: the percentiles "
            "describe the run's length, not the server. TOO_FEW_SAMPLES: p99 has no interval. VALID: none of these"
        ),
    ]
    reasons: Annotated[
        list[str],
        Meta(
            description="one sentence each, with the figure and its limit; one of another kind than the verdict, "
            "which is worse, begins with its kind; empty when VALID"
        ),
    ]
    remarks: Annotated[list[Remark], Meta(description="what else one should know; they do not change the verdict")]

    def holds(self, kind: Kind) -> bool:
        """Whether it is the verdict, or one of the reasons beside a worse one."""
        return kind is self.verdict or any(reason.startswith(f"{kind.value}: ") for reason in self.reasons)

    @property
    def usable(self) -> bool:
        """Whether the point may enter capacity, cost and comparisons."""
        return self.verdict not in UNUSABLE


def exit_code(verdicts: Iterable[Verdict]) -> Exit:
    """UNUSABLE where any point's numbers must not be used, else DONE: saturation and wide intervals are results."""
    return Exit.DONE if all(verdict.usable for verdict in verdicts) else Exit.UNUSABLE
