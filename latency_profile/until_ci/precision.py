"""How well percentiles are known, in a way that does not mind who looks when. Pure."""

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from latency_profile.confidence_sequence import Anytime
from latency_profile.statistics import (
    CONFIDENCE,
    Distribution,
    Percentile,
    Sample,
    describe,
    effective_size,
    ordered,
    quantile,
)
from latency_profile.statistics.censoring import Ordered
from latency_profile.statistics.percentiles import UNKNOWN, at_ranks, memory_of

LEVELS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}  # what is to be known
# p99 takes some 1,000 independent requests to be bounded at all, and mostly 10,000 to be known to a few percent. From
# 1,000 to 10,000 the bound is within 5 % of what it would be had it been made for just that number.
TIGHTEST_AT = 2000
ONE_BY_ONE = Anytime(1 - CONFIDENCE, TIGHTEST_AT)  # the bound of each interval by itself, as the results have them


class Precision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well one percentile is known, together with all the others that are watched."""

    relative_half_width: Annotated[
        float | None,
        Meta(description="the farther end of the interval is so far from the value, as a share of it; null: no end"),
    ]
    effective_n: Annotated[float, Meta(ge=0, description="how many independent values tell as much as these did")]
    needed_n: Annotated[
        int, Meta(ge=0, description="how many such values would be enough, extrapolated; where there is no end: more")
    ]


Precisions = dict[str, dict[str, Precision]]  # by metric and level


def shared_effective_size(sample: Sample, values: NDArray[np.generic]) -> float:
    """The smallest effective size of the sample over LEVELS; values: its own, ascending.

    Beyond p99 lie so few values that a series must be very long before it shows in how long clusters they come. Taken
    by itself, p99 of the times in a queue was missed at some look by a quarter of 200 streams; with the memory of p50
    and p95 taken for its own as well, by one (utilization 0.8, 10,000 requests, a look every 50).
    """
    memory = memory_of(sample, values)
    return min(effective_size(sample, quantile(values, level) or 0.0, memory) for level in LEVELS.values())


def anytime_percentile(known: Ordered, level: float, bound: Anytime, effective: float) -> Percentile:
    """A percentile with its interval by `bound`, in seconds; unfinished values as `statistics.describe` takes them."""
    value = quantile(known.estimated, level)
    independent = math.floor(effective)
    if value is None or independent < 1:
        return UNKNOWN
    return at_ranks(known, value, effective, bound.ranks(independent, level))


def describe_anytime(sample: Sample) -> Distribution:
    """`statistics.describe` with 95 % intervals that stay right where the sample chose its own end.

    Each holds by itself, as all intervals of the results do; those that decide when to stop hold together.
    """
    found = describe(sample)
    if not len(sample.values):
        return found
    whole, known = ordered(sample)
    effective = shared_effective_size(whole, known.estimated)
    levels = {**LEVELS, "p90": 0.9}
    replaced = {name: anytime_percentile(known, level, ONE_BY_ONE, effective) for name, level in levels.items()}
    return msgspec.structs.replace(found, **replaced)


def precision(samples: Mapping[str, Sample], target: float) -> Precisions:
    """How well LEVELS of each sample are known, with a confidence of 95 % for all of them together.

    A percentile is known to 5 % when its whole interval lies within 5 % of its value.
    """
    bound = Anytime((1 - CONFIDENCE) / (len(LEVELS) * len(samples)), TIGHTEST_AT)
    return {name: _of_one(sample, bound, target) for name, sample in samples.items()}


def _of_one(sample: Sample, bound: Anytime, target: float) -> dict[str, Precision]:
    whole, known = ordered(sample)
    effective = shared_effective_size(whole, known.estimated) if len(sample.values) else 0.0
    found = {}
    for name, level in LEVELS.items():
        half_width = relative_half_width(anytime_percentile(known, level, bound, effective))
        found[name] = Precision(
            relative_half_width=half_width,
            effective_n=round(effective, 1),
            needed_n=bound.needed(effective, level, half_width, target),
        )
    return found


def relative_half_width(percentile: Percentile) -> float | None:
    """How far the farther end of its interval is from a percentile, as a share of it; None where one end is missing."""
    value, low, high = percentile.value_s, percentile.low_s, percentile.high_s
    if not value or low is None or high is None:
        return None
    return max(high - value, value - low) / abs(value)


def reached(known: Precisions, target: float) -> bool:
    """Whether all is known to `target`."""
    widths = [one.relative_half_width for levels in known.values() for one in levels.values()]
    return all(width is not None and width <= target for width in widths)


def needed_share(known: Precisions) -> float | None:
    """How many times as many requests it would take until all is known; None where nothing tells."""
    shares = [one.needed_n / one.effective_n for levels in known.values() for one in levels.values() if one.effective_n]
    return max(shares, default=None)
