"""Which of the nights are the base, and which are judged. Pure.

The base is the first BASE_NIGHTS nights, or with `rolling` those just before the ones that are judged. It is never
what was found worse: while tonight's word is regressed the base stands still, so that a loss that nobody mends is
called one every night and does not become the rule. Somebody has to accept it, by the date from which nights count. An
improvement is accepted the same way; a rolling base takes it over by itself, LONG nights later.

A fixed base finds a slow drift, however slow, as soon as it adds up; a rolling one forgives it, along with everything
that slowly changes and is nobody's fault.

Until there are enough nights for both, a third of them are judged, MAIN at most.
"""

from collections.abc import Iterator, Sequence

from latency_profile.compare.judge import judge
from latency_profile.compare.shift import FEWEST_BASE, LONG, MAIN, Base, sizes, windows
from latency_profile.compare.structure import Word

BASE_NIGHTS = 20
CATCH_UP = 2  # nights a night by which a base that stood still may follow: one night's luck does not undo it


def wanted_stop(nights: int, rolling: bool) -> int:
    """Where the base of so many nights (two or more) ends."""
    growing = min(BASE_NIGHTS, nights - min(MAIN, max(1, nights // 3)))
    return max(growing, nights - LONG) if rolling else growing


def bases(goodness: Sequence[float], margin: float, rolling: bool) -> Iterator[tuple[int, int, Word | None]]:
    """For each night from the second on: where its base begins and ends, and the word that follows; None: too few
    nights. goodness: the logarithms of the primary measure night after night, higher for better."""
    stop, regressed = 1, False
    for nights in range(2, len(goodness) + 1):
        if not regressed:
            stop = min(max(stop, wanted_stop(nights, rolling)), stop + CATCH_UP)
        start = max(0, stop - BASE_NIGHTS)
        word = None
        if stop - start >= FEWEST_BASE:
            recent = goodness[stop:nights]
            found = windows(Base.of(goodness[start:stop]), recent, sizes(len(recent)))
            word = judge(found, margin).word
        regressed = word is Word.REGRESSED
        yield start, stop, word


def base_of(goodness: Sequence[float], margin: float, rolling: bool) -> tuple[int, int]:
    """Where the base of the last night begins and ends; (0, 0) for a night that is the first."""
    *_, (start, stop, _) = ((0, 0, None), *bases(goodness, margin, rolling))
    return start, stop
