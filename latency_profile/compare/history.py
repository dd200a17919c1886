"""Which of the nights are the base, and which are judged. Pure.

The base is the first BASE_NIGHTS nights, or with `rolling` those just before the ones that are judged. No night that
was called regressed is ever in it, also not after the loss was mended; and while tonight's word is regressed the base
stands still, so that a loss that nobody mends is called one every night and does not become the rule. Somebody has to
accept it, by the date from which nights count. (What can get in are a loss's first nights, before it was found.) An
improvement is accepted the same way; a rolling base takes it over by itself, LONG nights later.

A fixed base finds a slow drift, however slow, as soon as it adds up; a rolling one forgives what stays below the margin
from its base to tonight, along with everything that slowly changes and is nobody's fault.

Until there are enough nights for both, a third of them are judged, MAIN at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latency_profile.compare.judge import judge
from latency_profile.compare.shift import FEWEST_BASE, LONG, MAIN, Base, sizes, windows
from latency_profile.compare.structure import Word

BASE_NIGHTS = 20
CATCH_UP = 2  # nights a night by which a base that stood still may follow: one night's luck does not undo it


@dataclass(frozen=True, slots=True)
class Split:
    """Of nights by their numbers, from 0: which are the base, oldest first, and from which on they are judged."""

    base: tuple[int, ...]
    stop: int  # all of the base is before it; what else is before it is neither base nor judged
    passed_over: int  # nights before it that were called regressed


def wanted_stop(nights: int, rolling: bool, passed_over: int = 0) -> int:
    """Where the base of so many nights (two or more) ends. passed_over: nights before it that cannot be in it."""
    growing = min(BASE_NIGHTS + passed_over, nights - min(MAIN, max(1, nights // 3)))
    return max(growing, nights - LONG) if rolling else growing


def bases(goodness: Sequence[float], margin: float, rolling: bool) -> Iterator[tuple[Split, Word | None]]:
    """For each night from the second on: how the nights up to it are split, and the word that follows; None: too few
    nights. goodness: the logarithms of the primary measure night after night, higher for better."""
    split = Split((0,), 1, 0)
    worse: set[int] = set()
    for nights in range(2, len(goodness) + 1):
        if nights - 2 not in worse:  # the night before
            stop = max(split.stop, wanted_stop(nights, rolling, split.passed_over))
            split = _split(min(stop, split.stop + CATCH_UP), worse)
        word = None
        if len(split.base) >= FEWEST_BASE:
            recent = goodness[split.stop : nights]
            found = windows(Base.of([goodness[night] for night in split.base]), recent, sizes(len(recent)))
            word = judge(found, margin).word
        if word is Word.REGRESSED:
            worse.add(nights - 1)
        yield split, word


def _split(stop: int, worse: set[int]) -> Split:
    healthy = [night for night in range(stop) if night not in worse]
    return Split(tuple(healthy[-BASE_NIGHTS:]), stop, stop - len(healthy))


def base_of(goodness: Sequence[float], margin: float, rolling: bool) -> Split:
    """How the nights are split on the last one; without any base where it is the first."""
    *_, (split, _) = ((Split((), 0, 0), None), *bases(goodness, margin, rolling))
    return split
