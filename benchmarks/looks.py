"""What a look at the server's metrics does to the requests beside it, within one point. Pure.

A machine that is slower in one run than in the next hides a change of a tenth of a millisecond between them. Within a
point the requests that were waiting for their first token while a look was taken stand beside all others, and whatever
else disturbs the machine does not know when the looks are: moved by a part of a second, the same windows say what
chance gives (a randomization test over the phase; Fisher, The Design of Experiments, 1935, on the principle).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BEFORE_S = 0.003  # a first token so long before a look's stamp may already be held up by it
AFTER_S = 0.015  # and a request that falls due so long after it may still wait for what was held up
DRAWS = 500
SEED = 1


@dataclass(frozen=True)
class Change:
    """How much higher the percentile is with the requests beside the looks than without them, s."""

    observed_s: float
    by_chance_s: NDArray[np.float64]  # shape (DRAWS,): of windows at other phases, the same ones in every point
    beside: float  # share of the requests that is beside a look


def change(due_s: NDArray[np.float64], ttft_s: NDArray[np.float64], looks_s: Sequence[float], share: float) -> Change:
    """Of one point. due_s, ttft_s: shape (requests,); share: 0.99 for the p99.

    Raises ValueError where there are fewer than two looks, or no request is away from them.
    """
    if len(looks_s) < 2:
        raise ValueError("a point with fewer than two looks tells nothing of them")
    looks = np.sort(np.asarray(looks_s))
    period_s = float(np.median(np.diff(looks)))
    whole = float(np.quantile(ttft_s, share))

    def without(shift_s: float) -> tuple[float, float]:
        beside = _beside(due_s, due_s + ttft_s, looks + shift_s)
        if beside.all():
            raise ValueError("every request is beside a look")
        return float(np.quantile(ttft_s[~beside], share)), float(beside.mean())

    apart_s = BEFORE_S + AFTER_S + float(np.median(ttft_s))  # so far at least are the moved windows from their own
    if 2 * apart_s >= period_s:
        raise ValueError(f"looks every {period_s:.3f} s leave no room beside them")
    shifts = np.random.default_rng(SEED).uniform(apart_s, period_s - apart_s, DRAWS)
    left, beside = without(0.0)
    return Change(whole - left, np.array([whole - without(shift)[0] for shift in shifts]), beside)


def mean_change(changes: Sequence[Change]) -> tuple[float, float, float]:
    """Of several points: the change and its 95 % interval, s."""
    observed_s = float(np.mean([one.observed_s for one in changes]))
    chance = np.mean([one.by_chance_s for one in changes], axis=0)
    low, high = np.quantile(chance, [0.025, 0.975])
    return observed_s - float(chance.mean()), observed_s - float(high), observed_s - float(low)


def _beside(due_s: NDArray[np.float64], first_s: NDArray[np.float64], looks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a request was due or waiting for its first token from BEFORE_S before a look until AFTER_S after it."""
    next_look = np.searchsorted(looks, due_s - AFTER_S)  # the first that it is not too late for
    reached = looks[np.minimum(next_look, len(looks) - 1)]
    return (next_look < len(looks)) & (first_s >= reached - BEFORE_S)
