"""Near the crossing: what the probes there say together, and which one more would say most. Pure."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_profile.capacity.fit import FEWEST_DEGREES, Blocks, Crossing, crossing
from latency_profile.capacity.probe import Told
from latency_profile.statistics.means import student

WINDOW = 0.08  # of log rate to each side of the crossing: probes that the fit takes in
REACH = 0.035  # of log rate: how far from the crossing a probe is put, as the line is straight only near it
PLACES = 9  # that are compared
ROUNDS = 3  # of moving the window onto the crossing
DOUBTS = 2.5  # standard errors, within which the order of two crossings is not known
FEWEST_SHARE = 0.25  # of the requests that the fit rests on already: few looks, which cost confidence
LONGEST = 8  # times as many requests as a coarse probe has
POCOCK = 0.0106 / 0.05


@dataclass(frozen=True, slots=True)
class Near:
    """The crossings of all objectives, each by itself; None where no line is found."""

    crossings: tuple[Crossing | None, ...]
    requests: float  # that they rest on

    @property
    def binding(self) -> Crossing | None:
        """The lowest."""
        return min((each for each in self.crossings if each is not None), key=lambda each: each.x, default=None)

    @property
    def concerned(self) -> list[Crossing]:
        """Those that may be the lowest."""
        binding = self.binding
        found = [each for each in self.crossings if each is not None]
        if binding is None:
            return []
        highest = binding.x + DOUBTS * binding.error
        return [each for each in found if each is binding or each.x - DOUBTS * each.error < highest]

    @property
    def width(self) -> float:
        """Relative, of the interval or of the widest one that is concerned; inf without one."""
        low, high = self.interval
        binding = self.binding
        if low is None or high is None or binding is None:
            return math.inf
        return max((high - low) / math.exp(binding.x), *(each.width for each in self.concerned))

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Rates. Of the lowest of the crossings: not above any of the upper ends, not below the lowest lower one."""
        lows, highs = ([end for end in ends if end is not None] for ends in self._ends())
        if not lows or len(lows) < len(self.concerned) or len(highs) < len(self.concerned):
            return None, None
        return math.exp(min(lows)), math.exp(min(highs))

    def _ends(self) -> tuple[list[float | None], list[float | None]]:
        return [each.low for each in self.concerned], [each.high for each in self.concerned]


def near(probes: Sequence[Told], objectives: int, x: float, confidence: float) -> Near:
    """x: log of the rate near which the crossings are looked for."""
    level = each_look(confidence)
    found = Near(tuple(_crossing(probes, index, x, level) for index in range(objectives)), 0.0)
    binding = found.binding
    if binding is None:
        return found
    return Near(found.crossings, sum(part.expected * len(part.sums) for part in _parts(probes, 0, binding.x)))


def each_look(confidence: float) -> float:
    """Of the interval at each of some ten looks, so that all of them hold together: one may stop at any. For 95 % it is
    98.94 % (Pocock, Group sequential methods in the design and analysis of clinical trials, Biometrika 64, 1977, table
    1: ten looks at equal steps)."""
    return 1 - (1 - confidence) * POCOCK


def teaching(found: Near, below: float, width: float, confidence: float, coarse: float) -> tuple[float, float]:
    """Rate and requests of the probe that takes most away from the variance of the crossing; so many requests as the
    interval seems to need to be `width` wide, but no more at once than there are. coarse: the fewest. below: the rate
    from which on the server is overloaded, where the fit learns nothing."""
    binding, had = found.binding, max(1.0, found.requests)
    assert binding is not None
    wanted = width / (2 * student(max(binding.degrees, FEWEST_DEGREES), each_look(confidence)))
    wanted = max(wanted, sys.float_info.epsilon)  # of a logarithm: nothing is narrower
    needed = had * (max((binding.error / wanted) ** 2, FEWEST_DEGREES / binding.degrees) - 1)
    requests = min(max(needed, FEWEST_SHARE * had, coarse), max(had, coarse), LONGEST * coarse)
    each = float(binding.information[0, 0]) / had  # of one request at the crossing; elsewhere it goes as the mean score

    def variance(offset: float) -> float:
        column = np.array([1.0, offset])
        gained = requests * each * math.exp(binding.slope * offset) * np.outer(column, column)
        return float(np.linalg.inv(binding.information + gained)[0, 0])

    offsets = np.linspace(-REACH, REACH, PLACES).tolist()
    possible = [offset for offset in offsets if math.exp(binding.x + offset) < below]
    return math.exp(binding.x + min(possible or offsets[:1], key=variance)), requests


def _parts(probes: Sequence[Told], index: int, x: float) -> list[Blocks]:
    close = [probe for probe in probes if abs(math.log(probe.load) - x) <= WINDOW and probe.whole]
    return [part for probe in close if (part := probe.parts[index]) is not None]


def _crossing(probes: Sequence[Told], index: int, x: float, level: float) -> Crossing | None:
    found = None
    for _ in range(ROUNDS):
        found = crossing(_parts(probes, index, x), x, level)
        if found is None or abs(found.x - x) > 2 * WINDOW:
            return None
        x = found.x
    return found
