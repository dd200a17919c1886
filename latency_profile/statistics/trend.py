"""Trends of a level that is read at equal steps."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Growth:
    """A straight line through a level that was read at equal steps."""

    per_s: float  # least-squares slope
    standard_error: float  # 1/s; 0 where the level rose by the same amount in each step


def growth(levels: NDArray[np.float64], step_s: float) -> Growth:
    """The least-squares slope of levels read every `step_s` seconds, three or more.

    A backlog's random part is not white noise around the line but a random walk (arrivals less departures), which gives
    the slope of n readings the variance 6/5 (n² + 1) / (n (n² - 1)) s²/step², s² being the variance of an increment.
    """
    n = len(levels)
    centred = (np.arange(n) - (n - 1) / 2) * step_s
    slope = float(centred @ levels / (centred @ centred))
    walk = float(np.var(np.diff(levels), ddof=1)) / step_s**2
    return Growth(slope, math.sqrt(1.2 * (n * n + 1) / (n * (n * n - 1)) * walk))
