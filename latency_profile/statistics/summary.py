"""Plain summaries of samples, without intervals."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.statistics.samples import CHUNK, NOTHING, Summary


def quantile(ordered: NDArray[Any], level: float) -> float | None:
    """The `level` quantile of ascending values by linear interpolation, as numpy.percentile has it; None of none."""
    if not len(ordered):
        return None
    position = (len(ordered) - 1) * level
    below = math.floor(position)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (position - below)


def mean_and_sd(ordered: NDArray[Any]) -> tuple[float, float]:
    """Mean and the population's standard deviation of one value or more, in their unit.

    The sums are exact for integers and correctly rounded for floats: the same values give the same bits in any order.
    """
    n = len(ordered)
    total = int(ordered.sum()) if ordered.dtype.kind in "iu" else math.fsum(ordered.tolist())
    mean = total / n
    parts = [float(np.square(ordered[i : i + CHUNK] - mean).sum()) for i in range(0, n, CHUNK)]
    return mean, math.sqrt(math.fsum(parts) / n)


def summarize(values: NDArray[Any], per_unit: float = 1.0) -> Summary:
    """The summary of `values` (any order), divided by `per_unit`. Works on a sorted copy."""
    if not len(values):
        return NOTHING
    ordered = np.sort(values)
    mean, sd = mean_and_sd(ordered)

    def at(level: float) -> float:
        return (quantile(ordered, level) or 0.0) / per_unit

    return Summary(
        mean=mean / per_unit,
        median=at(0.5),
        sd=sd / per_unit,
        min=at(0),
        max=at(1),
        p90=at(0.9),
        p99=at(0.99),
    )
