"""How far the last nights are from the base, on logarithms, with intervals. Pure.

For normal and independent logarithms, (mean of the last k - mean of the base) / (s sqrt(1/k + 1/n)), s the base's own
standard deviation, has Student's t with n - 1 degrees of freedom exactly, however small n is. The spread of the last
nights is left out on purpose: a loss that began in their middle would widen its own interval.

One night among nights that differ by 5 % cannot show a loss of 8 %, and four can. Which number of nights is best
depends on the loss: one night shows a collapse, sixteen a loss of a few per cent, or that there is none. So three
windows are looked at, as in window-limited tests for a change (Lai, J. R. Statist. Soc. B 57, 1995). Page's CUSUM
(Biometrika 41, 1954) weighs all windows at once, for a loss of one size and a known noise, and gives no interval.

The windows share the error: ALPHA in two tails, by `WINDOWS`. By Bonferroni, nights that are equal are called different
in at most 7 of 100, and worse in half of these: at most 1.4 false alarms in 40 nights on average, of the 2 that are
allowed, with nothing assumed of how the windows of successive nights hang together. That is for a base that is given;
the false alarms that it leaves out (`history`) are its lowest nights, which raises them from 1.0 to 1.5, simulated.
benchmarks/compare.py counts them, and how often a loss is found.

A confidence sequence (Howard, Ramdas, McAuliffe & Sekhon, Ann. Statist. 49, 2021) would hold for all nights to come at
once. That is more than is asked of a job that is looked at every night, and it costs width, of which there is none to
spare: a loss of 8 % has to show in four nights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from latency_profile.compare.student import p_value, quantile

ALPHA = 0.07  # both tails, all windows together, a night
WINDOWS = {1: 0.05, 4: 0.8, 16: 0.15}  # so many of the last nights, and their part of ALPHA
MAIN = 4  # the window without whose consent longer ones say nothing
LONG = max(WINDOWS)
FEWEST_BASE = 4  # nights: three differences, of which the law of the noise is still a guess, but t says how wide a one


@dataclass(frozen=True, slots=True)
class Base:
    """What is known of the nights that stand for how it was."""

    n: int
    mean: float  # of the logarithms
    spread: float  # their standard deviation, n - 1 degrees of freedom

    @classmethod
    def of(cls, logs: Sequence[float]) -> "Base":
        """Two nights or more."""
        mean = fmean(logs)
        return cls(len(logs), mean, math.sqrt(math.fsum((each - mean) ** 2 for each in logs) / (len(logs) - 1)))


@dataclass(frozen=True, slots=True)
class Window:
    """The last nights against the base, on the scale of the logarithms, above 0 for better."""

    nights: int
    part: float  # of ALPHA
    shift: float
    error: float  # standard error of the shift
    degrees: int

    @property
    def p(self) -> float:
        """Two-sided, of this window alone."""
        if self.error == 0:
            return 1.0 if self.shift == 0 else 0.0
        return p_value(self.shift / self.error, self.degrees)

    @property
    def confidence(self) -> float:
        return 1 - ALPHA * self.part

    def interval(self, confidence: float) -> tuple[float, float]:
        reach = quantile(confidence, self.degrees) * self.error
        return self.shift - reach, self.shift + reach


def sizes(recent: int) -> dict[int, float]:
    """The windows that so many nights fill, and their parts of ALPHA. Those that are not full are one."""
    found: dict[int, float] = {}
    for nights, part in WINDOWS.items():
        held = min(nights, recent)
        found[held] = found.get(held, 0.0) + part
    return found


def windows(base: Base, recent: Sequence[float], parts: dict[int, float]) -> list[Window]:
    """Of one recent night or more, fewest nights first. parts: as of `sizes`."""
    return [window(base, fmean(recent[-nights:]) - base.mean, nights, part) for nights, part in parts.items()]


def window(base: Base, shift: float, nights: int, part: float) -> Window:
    return Window(nights, part, shift, base.spread * math.sqrt(1 / nights + 1 / base.n), base.n - 1)
