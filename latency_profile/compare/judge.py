"""One word for a measure. Pure.

Regressed or improved: a window's interval leaves out "no shift", and its shift is beyond the margin; a shift that is
real and smaller is none that anybody asked for. A window longer than the main one counts only where the main one's
90 % interval leaves out "no shift" on the same side. Equivalent: the 90 % interval of the longest window lies within
the margin on both sides, which is two one-sided tests of 5 % (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987).
Inconclusive: neither. That nothing was found is no equivalence.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latency_profile.compare.shift import ALPHA, MAIN, Base, Window, window
from latency_profile.compare.structure import Word

EQUIVALENCE_CONFIDENCE = 0.9
AGREEMENT_CONFIDENCE = 0.9
FARTHEST = 60  # nights that are looked ahead
SMALLEST_P = 1e-15  # what a p-value is exact to


@dataclass(frozen=True, slots=True)
class Judged:
    """A word, and the window that gave it."""

    word: Word
    by: Window


def log_margin(margin: float) -> float:
    """The margin on the scale of the logarithms: from 1 / (1 + margin) to 1 + margin."""
    return math.log1p(margin)


def judge(found: Sequence[Window], margin: float, scale: float = 1.0) -> Judged:
    """The word for one window or more, fewest nights first. scale: what p-values are multiplied by, for a measure that
    is one of many."""
    limit = log_margin(margin)
    main = _main(found)
    significant = [
        each
        for each in found
        if abs(each.shift) > limit
        and each.p * scale <= ALPHA * each.part
        and (each.nights <= main.nights or _agrees(main, each))
    ]
    worse = [each for each in significant if each.shift < 0]
    for word, of in ((Word.REGRESSED, worse), (Word.IMPROVED, significant)):
        if of:
            return Judged(word, min(of, key=lambda each: each.p / each.part))
    longest = found[-1]
    low, high = longest.interval(EQUIVALENCE_CONFIDENCE)
    if -limit < low and high < limit and abs(main.shift) < limit:
        return Judged(Word.EQUIVALENT, longest)
    return Judged(Word.INCONCLUSIVE, main)


def _agrees(main: Window, longer: Window) -> bool:
    """A loss that is over stays in the long window for two weeks, and none of it is tonight's. So the main window has
    to show the same by itself, if not as surely; that it has the same sign is a coin's toss on healthy nights."""
    low, high = main.interval(AGREEMENT_CONFIDENCE)
    return high < 0 if longer.shift < 0 else low > 0


def _main(found: Sequence[Window]) -> Window:
    return max((each for each in found if each.nights <= MAIN), key=lambda each: each.nights, default=found[0])


def combined_p(found: Sequence[Window]) -> float:
    """One p-value of all windows: that at which the first would speak, if they shared it as they share ALPHA."""
    return min(1.0, *(each.p / each.part for each in found)) if found else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for that there are several: below ALPHA for any that is truly equal, in at most ALPHA of nights, however
    they hang together (Holm, Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted


def scale_of(adjusted: float, p: float) -> float:
    """What an adjustment multiplied the p-value by."""
    return max(1.0, adjusted / max(p, SMALLEST_P))


def more_nights(
    base: Base,
    found: Sequence[Window],
    margin: float,
    scale: float,
    grown: Callable[[int], tuple[int, dict[int, float]]],
) -> int | None:
    """How many more nights would settle an inconclusive measure, should the noise and the longest window's shift stay
    what they are. None: no number up to FARTHEST. grown: the base's nights and the windows' parts so many nights on."""
    shift = found[-1].shift
    for more in range(1, FARTHEST + 1):
        nights, parts = grown(more)
        larger = Base(nights, base.mean, base.spread)
        ahead = [window(larger, shift, held, part) for held, part in parts.items()]
        if judge(ahead, margin, scale).word is not Word.INCONCLUSIVE:
            return more
    return None
