"""The synthetic lengths of a profile that come closest to a data set's. Pure.

A profile draws from a normal distribution cut off at a least and a greatest length. Its mean is not that of the normal
distribution: lengths with a standard deviation near their mean, cut off at 1, come out far longer. So the parameters
are looked for with which the cut-off distribution has the data's mean, and its standard deviation as nearly as can be.

Moments: Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions 1, 2nd ed., 10.1 (the truncated normal).
"""

import math
from statistics import NormalDist
from typing import NamedTuple

_STANDARD = NormalDist()
_STEP = 0.1  # tokens, of a deviation


class Moments(NamedTuple):
    """In tokens."""

    mean: float
    sd: float


class Parameters(NamedTuple):
    """Of the normal distribution before it is cut off, as --input-len and --input-len-stddev take them."""

    mean: int
    sd: float


def moments(mean: float, sd: float, low: int, high: int) -> Moments | None:
    """Of the normal distribution cut off at low - 1/2 and high + 1/2, as whole tokens have it; None where next to
    nothing of it is between."""
    a, b = (low - 0.5 - mean) / sd, (high + 0.5 - mean) / sd
    inside = _STANDARD.cdf(b) - _STANDARD.cdf(a)
    if inside < 1e-3:  # as little as the profile itself refuses
        return None
    at_a, at_b = _STANDARD.pdf(a), _STANDARD.pdf(b)
    shift = (at_a - at_b) / inside
    variance = 1 + (a * at_a - b * at_b) / inside - shift * shift
    return Moments(mean + sd * shift, sd * math.sqrt(max(variance, 0.0)))


def nearest(wanted: Moments, low: int, high: int) -> tuple[Parameters, Moments] | None:
    """The parameters for these moments, and the moments that they come to. None where no law has the wanted mean whose
    own mean is within low..high, as a profile takes it."""
    if not low <= wanted.mean <= high:
        return None
    if wanted.sd < _STEP or low == high:
        return Parameters(round(wanted.mean), 0.0), Moments(round(wanted.mean), 0.0)
    smallest, largest = 0.0, 4 * wanted.sd
    best: tuple[Parameters, Moments] | None = None
    while largest - smallest >= _STEP:
        sd = max(_STEP, round((smallest + largest) / 2, 1))
        mean = _mean_for(wanted.mean, sd, low, high)
        found = moments(mean, sd, low, high) if mean is not None else None
        nearer = best is None or (found is not None and abs(found.sd - wanted.sd) <= abs(best[1].sd - wanted.sd))
        if found is not None and mean is not None and nearer:
            best = Parameters(mean, sd), found
        if found is not None and found.sd < wanted.sd:
            smallest = max(sd, smallest + _STEP)
        else:
            largest = min(sd, largest - _STEP)
    return best


def _mean_for(wanted: float, sd: float, low: int, high: int) -> int | None:
    """The whole number within low..high with which the cut-off distribution has the wanted mean most nearly; None where
    that is more than half a token off. The mean of what is cut off grows with that of the whole, and no faster."""
    below, above = low, high
    while above - below > 1:
        middle = (below + above) // 2
        found = moments(middle, sd, low, high)
        below, above = (middle, above) if found is not None and found.mean < wanted else (below, middle)

    def off(mean: int) -> float:
        found = moments(mean, sd, low, high)
        return math.inf if found is None else abs(found.mean - wanted)

    nearest_mean = min((below, above), key=off)
    return nearest_mean if off(nearest_mean) <= 0.5 else None
