"""Which rate to measure next, from those that were. Pure, and the same for the same points.

The curves are straight lines between points, of the logarithm of each figure over the logarithm of the rate. The two
ends come first, and the rate between them in proportion. Then:

1. Where throughput goes flat. Below, latency hardly moves; above, it is the backlog's; between lies most of what there
   is to know. A point that is flat tells the server's capacity by what it completed, and the next points lie just below
   and just above that, until the last point that is not flat and the first that is are within BRACKET. A rate at which
   the server fails is come near to likewise.
2. Where the curve bends. A line over an interval of length h misses a curve by up to h² |f''| / 8 (Davis, Interpolation
   and Approximation, 1975, theorem 3.1.1). f'' at a point is what its two neighbours say of it, that of an interval the
   mean of its ends'. The interval of the greatest error, over all figures together, is halved.

Figures are taken as they were measured: allowing for their intervals placed points worse (benchmarks/adaptive_rates).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

APART = 1.05  # times: closer rates differ by less than two points of one rate do
BRACKET = 1.5  # times
FLAT = 0.9  # of what was offered; a window that misses a tenth of it by chance is too short for anything
AROUND_CAPACITY = (0.9, 1.05)  # of the capacity: where a queue is long, and where it has no end
LEAST_BEND = 0.16  # of f'': an interval of a factor of e has an error of 2 % though nothing shows it
DIGITS = 3  # of a rate, as people write one


@dataclass(frozen=True, slots=True)
class Measured:
    """A point. figures: latencies in s and throughput, the same ones in the same order at each point."""

    rate: float  # requests/s, asked for
    offered: float | None  # requests/s, in the window
    completed: float | None
    figures: tuple[float | None, ...]
    saturated: bool = False
    usable: bool = True
    failed: bool = False

    @property
    def flat(self) -> bool:
        """Whether throughput does not follow the rate any more."""
        if self.saturated:
            return True
        return self.offered is not None and self.completed is not None and self.completed < FLAT * self.offered


def middle(low: float, high: float) -> float:
    """Between two rates in proportion."""
    return _rounded(math.sqrt(low * high))


def next_rate(low: float, high: float, points: Sequence[Measured]) -> float | None:
    """The rate to measure after `points`, in requests/s, from low to high. None where none is left that is APART from
    all others, and where the server failed at the lowest rate: it is not asked for as much as it failed at again."""
    points = sorted(points, key=lambda point: point.rate)
    top = min((point.rate for point in points if point.failed), default=math.inf)
    for end in (low, high):
        if end < top and all(point.rate != end for point in points):
            return end
    below = [point for point in points if point.rate < top]
    known = [point for point in below if point.usable and point.completed and point.offered]
    wanted = _gaps([point.rate for point in below] + ([] if math.isinf(top) else [top]))
    if len(known) >= 3:  # where points must not be used, other rates than those that would be best are left
        wanted = [*_below_failure(known, top), *_around_the_knee(known), *_bends(known), *wanted]
    for rate in map(_rounded, wanted):
        if low < rate < min(high, top) and all(_apart(rate, point.rate) for point in points):
            return rate
    return None


def _rounded(rate: float) -> float:
    return float(f"{rate:.{DIGITS}g}")


def _apart(one: float, other: float) -> bool:
    return max(one, other) >= APART * min(one, other)


def _gaps(rates: Sequence[float]) -> list[float]:
    """The middles between neighbours, the widest apart first."""
    between = sorted(pairwise(rates), key=lambda pair: pair[1] / pair[0], reverse=True)
    return [middle(*pair) for pair in between]


def _below_failure(points: Sequence[Measured], top: float) -> Iterator[float]:
    """The rate between the last point and one at which the server failed, where nothing below it was flat."""
    last = points[-1]
    if last.rate * BRACKET < top < math.inf and not any(point.flat for point in points):
        yield middle(last.rate, top)


def _around_the_knee(points: Sequence[Measured]) -> Iterator[float]:
    """Rates between the last point that is not flat and the first that is."""
    first = next((k for k, point in enumerate(points) if point.flat), 0)
    if first == 0:
        return
    below, above = points[first - 1], points[first]
    if above.rate <= BRACKET * below.rate:
        return
    assert above.completed is not None
    guesses = [part * above.completed for part in AROUND_CAPACITY] + [middle(below.rate, above.rate)]
    yield from (rate for rate in guesses if APART * below.rate <= rate <= above.rate / APART)


def _bends(points: Sequence[Measured]) -> list[float]:
    """The middles of intervals, those of the greatest error first."""
    bends = [0.0, *(_bend(*three) for three in zip(points, points[1:], points[2:], strict=False)), 0.0]
    bends[0], bends[-1] = bends[1], bends[-2]  # nothing is known beyond the ends
    found = []
    for k, (left, right) in enumerate(pairwise(points)):
        error = _x(left, right) ** 2 * (LEAST_BEND + (bends[k] + bends[k + 1]) / 2) / 8
        found.append((error, middle(left.rate, right.rate)))
    return [rate for _, rate in sorted(found, reverse=True)]


def _bend(left: Measured, here: Measured, right: Measured) -> float:
    """|f''| of all figures together: the change of slope over the mean of the two lengths."""
    before, after = _x(left, here), _x(here, right)
    total = 0.0
    for first, second, third in zip(left.figures, here.figures, right.figures, strict=True):
        if first and second and third:
            slopes = math.log(second / first) / before, math.log(third / second) / after
            total += abs(slopes[1] - slopes[0]) / ((before + after) / 2)
    return total


def _x(left: Measured, right: Measured) -> float:
    """The length of an interval."""
    return math.log(right.rate / left.rate)
