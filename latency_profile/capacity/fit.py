"""The rate at which an objective's mean score crosses 1, with its interval, from all probes near it. Pure.

Over a few percent of the rate the logarithm of the mean score is nearly a straight line over the logarithm of the rate.
With x = log(rate / centre), for each block of a probe

    E[sum of scores] = exp(a + slope x + CURVATURE x²) (expected + k (arrived - expected)),
    expected = rate * length of the block.

The plan's own luck, more or fewer arrivals than the rate says, is known exactly and has the mean 0: the number k takes
what it did to the scores out of the estimate (a control variate; Lavenberg & Welch, A perspective on the use of control
variables to increase the efficiency of Monte Carlo simulations, Management Science 27, 1981). a and the slope solve the
likelihood equations of a Poisson law, which are unbiased for any law with that mean (Wedderburn, Quasi-likelihood
functions, Biometrika 61, 1974); their covariance comes from the blocks' own residuals (Huber's sandwich), as requests
that met the same queue are not independent, and their misses are no Poisson counts. The crossing is where the line is
0; its interval is all x where the line is not farther from 0 than Student's t allows (Fieller, Some problems in
interval estimation, J. R. Statist. Soc. B 16, 1954), with as many degrees of freedom as blocks have a part in it: (sum
of their squared influences)² / sum of the fourth powers, after Satterthwaite (An approximate distribution of estimates
of variance components, Biometrics Bulletin 2, 1946). Where one spell of misses decides that is few, and the interval
wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_profile.capacity.scores import Floats, Scores
from latency_profile.statistics.means import student

FEWEST_BLOCKS = 5
MOST_BLOCKS = 40
REQUESTS_A_BLOCK = 400  # beyond the fewest blocks
FEWEST_DEGREES = 3.0  # blocks that count: fewer do not tell their own spread
# Half the second derivative of the logarithm of the mean score. Of the engine model's objectives it is -3 to 20
# (benchmarks/capacity_model.py): waits grow faster than any power of the rate. Within a few percent it matters little.
CURVATURE = 8.0
STEEPEST = 300.0  # of a slope; beyond, the fit has run away


@dataclass(frozen=True, slots=True)
class Blocks:
    """A probe's steady part in equal lengths of due time; shape (blocks,)."""

    rate: float
    sums: Floats  # of scores
    arrived: Floats  # sum of weights
    expected: float  # of them, in each


@dataclass(frozen=True, slots=True)
class Crossing:
    """Of the line through the logarithm of the mean score. x: log of a rate."""

    x: float
    low: float | None  # None: no interval
    high: float | None
    slope: float
    error: float  # standard error of x
    degrees: float  # of freedom, of the error
    probes: int  # that it rests on
    information: Floats  # (2, 2): inverse covariance of the line's value at x and of its slope

    @property
    def width(self) -> float:
        """Relative, of the interval; infinite without one."""
        if self.low is None or self.high is None:
            return math.inf
        return math.exp(self.high - self.x) - math.exp(self.low - self.x)


def blocks(rate: float, of: Scores, start_s: float) -> Blocks | None:
    """Of the requests due from start_s on; None for fewer requests than blocks."""
    steady = of.after(start_s)
    n = len(steady.due_s)
    if n < 2 * FEWEST_BLOCKS:
        return None
    count = min(MOST_BLOCKS, max(FEWEST_BLOCKS, n // REQUESTS_A_BLOCK))
    end_s = float(steady.due_s[-1])
    edges = np.linspace(start_s, end_s, count + 1)
    places = np.searchsorted(steady.due_s, edges)
    places[-1] = n
    total, weight = (np.concatenate(([0.0], np.cumsum(each)))[places] for each in (steady.sums, steady.weights))
    expected = rate * (end_s - start_s) / count * float(weight[-1]) / n
    return Blocks(rate, np.diff(total), np.diff(weight), expected)


def crossing(parts: Sequence[Blocks], centre: float, confidence: float) -> Crossing | None:
    """centre: log of a rate, near the crossing. None where the probes do not tell a line: one rate only, no misses,
    scores that fall with the rate."""
    if len({part.rate for part in parts}) < 2:
        return None
    x = np.concatenate([np.full(len(part.sums), math.log(part.rate) - centre) for part in parts])
    sums = np.concatenate([part.sums for part in parts])
    arrived = np.concatenate([part.arrived for part in parts])
    expected = np.concatenate([np.full(len(part.sums), part.expected) for part in parts])
    if not sums.any():
        return None
    bent = np.exp(CURVATURE * np.square(x))
    arrived, expected = arrived * bent, expected * bent
    found = _line(x, sums, arrived, expected)
    if found is None:
        return None
    line, adjusted = found
    slope = float(line[1])
    if not 0 < slope < STEEPEST:
        return None
    where = -float(line[0]) / slope
    columns = np.column_stack((np.ones(len(x)), x - where))
    means = np.exp(line[0] + slope * x)
    bread = np.linalg.inv(columns.T @ (columns * (means * expected)[:, None]))
    residuals = sums - means * adjusted
    influence = (columns * residuals[:, None]) @ bread  # of each block, on the line's value at `where` and on its slope
    n = len(x)
    covariance = influence.T @ influence * n / max(1, n - 3)
    if not (np.isfinite(covariance).all() and np.linalg.det(covariance) > 0):
        return None
    squares = np.square(influence[:, 0])
    degrees = float(squares.sum() ** 2 / np.square(squares).sum())
    t = student(max(2.0, min(degrees, n - 3)), confidence)
    low, high = _fieller(slope, covariance, t) if degrees >= FEWEST_DEGREES else (None, None)
    at = where + centre
    return Crossing(
        at,
        None if low is None else at + low,
        None if high is None else at + high,
        slope,
        math.sqrt(covariance[0, 0]) / slope,
        max(1.0, degrees),
        len(parts),
        np.linalg.inv(covariance),
    )


def _line(x: Floats, sums: Floats, arrived: Floats, expected: Floats) -> tuple[Floats, Floats] | None:
    """Value at 0 and slope, and the blocks' expected counts with the plan's luck taken in."""
    columns = np.column_stack((np.ones(len(x)), x))
    luck = arrived - expected
    line = np.array([math.log(sums.sum() / expected.sum()), 1.0])
    adjusted = expected
    for _ in range(50):
        means = np.exp(np.clip(columns @ line, -50, 50))
        residuals = sums / means - expected
        spread = float(np.sum(means * luck * luck))
        k = float(np.clip(np.sum(means * residuals * luck) / spread, 0.0, STEEPEST)) if spread > 0 else 0.0
        adjusted = expected + k * luck
        information = columns.T @ (columns * (means * expected)[:, None])
        try:
            step = np.linalg.solve(information, columns.T @ (sums - means * adjusted))
        except np.linalg.LinAlgError:
            return None
        longest = float(np.abs(step * (1.0, 0.1)).max())
        line = line + step * min(1.0, 1.0 / longest if longest else 1.0)
        if longest < 1e-8:
            return line, adjusted
    return None


def _fieller(slope: float, covariance: Floats, t: float) -> tuple[float | None, float | None]:
    """The d for which (slope d)² <= t² Var(value + slope d)."""
    a = slope**2 - t**2 * covariance[1, 1]
    if a <= 0:
        return None, None
    b, c = t**2 * covariance[0, 1], t**2 * covariance[0, 0]
    root = math.sqrt(b**2 + a * c)
    return (b - root) / a, (b + root) / a
