"""Two-sided 95 % intervals of means and of rates.

Student's t on the effective number of values, bent by the sample's skewness, without which the mean of a heavy-tailed
latency is missed on one side (Hall, On the removal of skewness by transformation, J. R. Statist. Soc. B 54, 1992; in
the form of Willink, A confidence interval and test for the mean of an asymmetric distribution, Commun. Statist. 34,
2005).
The skewness of dependent values is taken from means of neighbours, as in N-Skart (Tafazzoli, Steiger & Wilson, IEEE
Trans. Automatic Control 56, 2011).
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from latency_profile.statistics.memory import autoregressive_time
from latency_profile.statistics.samples import CONFIDENCE

# The variance of dependent values is itself estimated: of tau values that say as much as one, about three go to finding
# out tau. Measured (benchmarks/coverage.py): with n / tau degrees of freedom waits of a busy queue are covered less.
VALUES_A_DEGREE = 3
DEPENDENT = 1.2  # an autocorrelation time below this is noise, and every value is its own batch
FEWEST_BATCHES = 10


@lru_cache(maxsize=256)
def student(degrees: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t with `degrees` of freedom, 2 or more, whole or not.

    Hill, Algorithm 396, CACM 13, 1970; within 0.05 % of the truth at 95 %.
    """
    tails, normal = 1 - confidence, NormalDist().inv_cdf((1 - confidence) / 2)
    a = 1 / (degrees - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * degrees
    y: float = (d * tails) ** (2 / degrees)
    if y > 0.05 + a:
        if degrees < 5:
            c += 0.3 * (degrees - 4.5) * (normal + 0.6)
        c += (((0.05 * d * normal - 5) * normal - 7) * normal - 2) * normal + b
        y = normal**2
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * normal
        y = math.expm1(a * y * y)
    else:
        first = 1 / (((degrees + 6) / (degrees * y) - 0.089 * d - 0.822) * (degrees + 2) * 3)
        y = ((first + 0.5 / (degrees + 4)) * y - 1) * (degrees + 1) / (degrees + 2) + 1 / y
    return math.sqrt(degrees * y)


def mean_interval(residuals: NDArray[np.float64], time: float) -> tuple[float, float]:
    """The interval of the true mean of a series, as offsets from the sample's mean.

    residuals: the values minus their mean, three or more, in order; time: their autocorrelation time (`memory`).
    """
    n = len(residuals)
    squares = float(np.square(residuals).sum())
    if squares <= 0:
        return 0.0, 0.0
    error = math.sqrt(squares / (n - 1) / n * time)
    degrees = n - 1 if time <= 1 else max(2.0, min(n - 1, n / time / VALUES_A_DEGREE))
    t = student(degrees)
    bend = _skewness(residuals, time)
    return -error * _bent(t, bend), -error * _bent(-t, bend)


def _skewness(residuals: NDArray[np.float64], time: float) -> float:
    """Skewness / (6 sqrt(n)) of the means of neighbours that are nearly independent."""
    n = len(residuals)
    batch = max(1, min(math.ceil(2 * time), n // FEWEST_BATCHES)) if time > DEPENDENT else 1
    count = n // batch
    if count < FEWEST_BATCHES:
        return 0.0
    means = residuals[: count * batch].reshape(count, batch).mean(axis=1)
    means = means - means.mean()
    variance = float(np.square(means).mean())
    if variance <= 0:
        return 0.0
    skewness = float((means * means * means).mean()) / math.sqrt(variance) ** 3
    skewness *= math.sqrt(count * (count - 1)) / (count - 2)
    return skewness / 6 / math.sqrt(count)


def _bent(t: float, bend: float) -> float:
    if abs(bend) < 1e-6:  # the limit, where the formula divides 0 by 0
        return t
    bent: float = (math.cbrt(1 + 6 * bend * (t - bend)) - 1) / (2 * bend)
    return bent


def rate_interval(counts: NDArray[np.float64], step_s: float) -> tuple[float, float] | None:
    """The interval of a rate, 1/s, from what was counted in successive steps of `step_s` seconds; None for nothing.

    The steps' dependence may also narrow it: evenly spaced events make up for each other.
    """
    if len(counts) < FEWEST_BATCHES or not counts.any():
        return None
    mean = float(counts.mean())
    residuals = counts - mean
    low, high = mean_interval(residuals, autoregressive_time(residuals))
    return max(0.0, mean + low) / step_s, (mean + high) / step_s
