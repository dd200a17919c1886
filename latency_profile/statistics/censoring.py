"""Values that are known only to be larger than what had passed when the point was stopped."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.statistics.samples import Sample


@dataclass(frozen=True, slots=True)
class Ordered:
    """What is known of a sample, ascending."""

    estimated: NDArray[Any]  # as many values with Kaplan and Meier's distribution: what percentiles are read from
    at_least: NDArray[Any]  # unfinished values as they are: what bounds them from below
    finished: NDArray[Any]  # without unfinished values: from above, with the others beyond all of these


def ordered(sample: Sample) -> tuple[Sample, Ordered]:
    """The sample with its unfinished values filled in (their order of arrival tells memory), and all of it in order."""
    at_least = np.sort(sample.values)
    if sample.unfinished is None or not sample.unfinished.any():
        return sample, Ordered(at_least, at_least, at_least)
    values, unfinished = sample.values, sample.unfinished
    known, beyond = survival(values, unfinished)
    whole = replace(sample, values=filled(values, unfinished))
    return whole, Ordered(_spread(known, beyond, at_least), at_least, known)


def survival(values: NDArray[Any], unfinished: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The finished values, ascending, and P(X > each): Kaplan and Meier's estimate (Nonparametric estimation from
    incomplete observations, JASA 53, 1958)."""
    order = np.lexsort((unfinished, values))  # of equal ones, the finished come first
    ended = ~unfinished[order]
    left = np.cumprod(1 - ended / np.arange(len(values), 0, -1), dtype=np.float64)
    return values[order][ended], left[ended]


def _spread(known: NDArray[Any], beyond: NDArray[np.float64], at_least: NDArray[Any]) -> NDArray[Any]:
    """Ascending values, as many as `at_least`, each as likely as any other; what is beyond all of `known` stays as
    it is at least."""
    if not len(known):
        return at_least
    middles = (np.arange(len(at_least)) + 0.5) / len(at_least)
    places = np.searchsorted(1 - beyond, middles)
    inside = known[np.minimum(places, len(known) - 1)]
    return np.where(places < len(known), inside, np.maximum(at_least, known[-1]))


def filled(values: NDArray[Any], unfinished: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The values, with an unfinished one (known only to be larger) in the middle of those that are larger.

    Not as it is: the last requests of a point that was cut short had waited for moments only, and would look fast. In
    ranks, this is the score of Peto & Peto (JRSS A 135, 1972). One larger than all finished ones stays as it is.
    """
    if unfinished is None or not unfinished.any():
        return values
    known, beyond = survival(values, unfinished)
    there = np.searchsorted(known, values[unfinished], side="right")
    now = np.concatenate(([1.0], beyond))[there]
    later = np.searchsorted(-beyond, -now / 2, side="left")
    waited, longest = values[unfinished], known[-1:].max(initial=0)
    result = values.copy()
    result[unfinished] = np.where(waited < longest, np.append(known, longest)[later], waited)
    return result
