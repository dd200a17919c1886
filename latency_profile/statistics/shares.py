"""What a sample tells of a share: its interval, on which side of a level it lies, and how many values would tell.

Nothing new: of n independent values a percentile lies between two of them, whose ranks are known, and a limit that as
many of the values keep as the upper rank says lies above that percentile. So the ranks decide, and the interval of the
share is made of all levels that they do not decide against. With binomial ranks it is Clopper and Pearson's (The use of
confidence or fiducial limits, Biometrika 26, 1934).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

Ranks = Callable[[int, float], tuple[int | None, int | None]]  # of so many values, at a level, as `binomial_ranks` has

TOLERANCE = 1e-7  # to which the interval's ends are found
MOST = 100_000_000  # independent values; no point has so many


class ShareKnown(NamedTuple):
    """What n independent values tell of a share."""

    low: float
    high: float
    above: bool  # it is `level` at least
    below: bool  # it is less than `level`
    needed: int | None  # how many values would tell, were the share what it is here; None: told, or MOST would not


def share_known(least: float, most: float, n: int, level: float, ranks: Ranks) -> ShareKnown:
    """least, most: the share of the n values that hits, where those that are open do not, and where they do."""
    hits_low, hits_high = _whole(least * n, math.floor), _whole(most * n, math.ceil)
    above, below = _above(hits_low, n, level, ranks), _below(hits_high, n, level, ranks)
    low = _last(lambda share: _above(hits_low, n, share, ranks), level if above else 0.0, 1.0 if above else level)
    high = 1 - _last(
        lambda share: _below(hits_high, n, 1 - share, ranks), 1 - level if below else 0.0, 1.0 if below else 1 - level
    )
    return ShareKnown(low, high, above, below, None if above or below else _needed(least, most, n, level, ranks))


def _whole(hits: float, rounded: Callable[[float], int]) -> int:
    """Blocks of values that tell as much as one: the rest of one counts against what is to be shown. What floating
    point leaves beside a whole number is none."""
    return round(hits) if abs(hits - round(hits)) < 1e-9 * max(1.0, hits) else rounded(hits)


def _above(hits: int, n: int, level: float, ranks: Ranks) -> bool:
    upper = ranks(n, level)[1]
    return upper is not None and hits >= upper


def _below(hits: int, n: int, level: float, ranks: Ranks) -> bool:
    lower = ranks(n, level)[0]
    return lower is not None and hits < lower


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The end of what holds at `low`, or is 0, and not at `high`; to TOLERANCE, and never beyond it."""
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _needed(least: float, most: float, n: int, level: float, ranks: Ranks) -> int | None:
    def told(size: int) -> bool:
        return _above(_whole(least * size, math.floor), size, level, ranks) or _below(
            _whole(most * size, math.ceil), size, level, ranks
        )

    low, high = max(n, 1), max(2 * n, 2)
    while not told(high):
        if high >= MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return high
