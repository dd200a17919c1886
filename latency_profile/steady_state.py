"""Where a point's warm-up ends, and whether it drifts after that. Pure functions of series in order of arrival.

Everything here looks at ranks, scaled to (0, 1), and not at latencies: one answer of ten seconds among thousands of
fifty milliseconds is one slow answer, and neither the end of a warm-up nor a trend.

The end of the warm-up is MSER-5's (White, An effective truncation heuristic for bias reduction in simulation output,
Simulation 69, 1997; White, Cobb & Spratt, A comparison of five steady-state truncation heuristics, Winter Simulation
Conference 2000): means of five, and the cut d that minimizes sum (y_i - mean)² / (k - d)² over the k - d means that are
kept. MSER-5 always has a minimum, also where there was no warm-up: it then cuts behind the slowest early requests, and
so picks by the outcome. Its cut is therefore taken only where what it cuts away differs from the rest by more than
chance, correlation between neighbours allowed for.

The drift is the slope of ranks over time (Spearman's rho, in other words), its variance widened for correlation between
neighbours, as by Hamed & Rao (A modified Mann-Kendall trend test for autocorrelated data, J. Hydrology 204, 1998).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from latency_profile.statistics import NS_PER_S, autocorrelation_time, filled

Values = NDArray[Any]
Unfinished = NDArray[np.bool_]

BATCH = 5  # White's
# With fewer than twenty means, ten in the half that is searched, chance cannot be told from a warm-up.
FEWEST_FOR_WARMUP = 20 * BATCH
# Below that, the waits of a queue at utilization 0.8, which stay high or low for a hundred requests, look like a trend
# in more than one of a hundred points; and so does a change in the second half.
FEWEST_FOR_DRIFT = 300
# A series of millions says nothing that these many of its values do not.
MOST = 50_000
# The minimum is the best of many cuts, so that the limit for one is far below the one in a hundred that may be wrong.
CUT_P_LIMIT = 1e-4
# Last means that MSER-5 may not keep alone: a few values are alike by chance, and the minimum is then at the very end.
LAST_KEPT = 5
# Both: the slope through all values is precise where they are nearly independent and sees too little correlation where
# they are not; that through the means of a few long parts errs the other way. Chosen by simulation, so that waits at
# utilization 0.8 are called drifting in fewer than one of a hundred points.
DRIFT_P_LIMIT = 1e-4
DRIFT_PARTS = 8
DRIFT_PARTS_P_LIMIT = 5e-3
# A smaller trend may be there, and changes nothing that is decided by it: intervals of percentiles are about as wide.
DRIFT_SHARE_LIMIT = 0.05
# What the client's own clockwork may account for, and nobody feels.
DRIFT_SHIFT_LIMIT_S = 0.001
MEDIANS = 40  # equal parts whose medians give its size


@dataclass(frozen=True, slots=True)
class Cut:
    """The warm-up at the beginning of a series."""

    values: int  # how many belong to it; 0 where there is none
    beyond_half: bool  # it takes more than half of the series: there was no steady state, and `values` is 0


NO_CUT = Cut(0, beyond_half=False)


class Drift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The trend of a latency over the window."""

    shift_s: Annotated[float, Meta(description="by how much its p50 rose from the window's first request to its last")]
    share: Annotated[float, Meta(description="shift_s in proportion to the p50")]
    p_value: Annotated[float, Meta(ge=0, le=1, description="how often chance alone shows such a trend")]
    drifted: Annotated[
        bool,
        Meta(
            description="whether p_value is under 0.0001, the means of eight parts show the trend too, at 0.005, and "
            "it matters: |share| is 0.05 or more, and |shift_s| 0.001"
        ),
    ]


@dataclass(frozen=True, slots=True)
class Series:
    """One latency of the requests that have it, in order of arrival; shapes (values,)."""

    values: Values  # ns
    times: Values  # when each arrived, ns
    unfinished: Unfinished  # this value is only what had passed at the stop

    def after(self, time: int) -> "Series":
        """Those that arrived at `time` or later."""
        first = int(np.searchsorted(self.times, time))
        return Series(self.values[first:], self.times[first:], self.unfinished[first:])


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What a point's latencies say of its beginning, and of its trend after that."""

    warmup_ends_ns: int | None  # None where no warm-up was found
    beyond_half: tuple[str, ...]  # latencies whose warm-up takes more than half of the point
    drifts: Mapping[str, Drift]  # by the latency's name

    @property
    def steady(self) -> bool | None:
        """Whether there was a steady state; None where too few requests tell."""
        if self.beyond_half or any(drift.drifted for drift in self.drifts.values()):
            return False
        return True if self.drifts else None


def examine(latencies: Mapping[str, Series], *, cut: bool = True) -> Steadiness:
    """The longest warm-up among the latencies, by their names, and the drift of each after that.

    One that drifts over all its length has no warm-up: it is the drift's beginning that would be cut away. Where a
    latency has no steady state, nothing is cut. Without `cut` nothing ever is.
    """
    drifts = _drifts(latencies)
    if not cut or any(drift.drifted for drift in drifts.values()):
        return Steadiness(None, (), drifts)
    cuts = {name: find_warmup(series.values, series.unfinished) for name, series in latencies.items()}
    beyond_half = tuple(name for name, found in cuts.items() if found.beyond_half)
    ends = [int(latencies[name].times[found.values - 1]) + 1 for name, found in cuts.items() if found.values]
    if beyond_half or not ends:
        return Steadiness(None, beyond_half, drifts)
    end = max(ends)
    return Steadiness(end, (), _drifts({name: series.after(end) for name, series in latencies.items()}))


def _drifts(latencies: Mapping[str, Series]) -> dict[str, Drift]:
    found = {name: drift(series.values, series.times, series.unfinished) for name, series in latencies.items()}
    return {name: one for name, one in found.items() if one is not None}


def find_warmup(values: Values, unfinished: Unfinished | None = None) -> Cut:
    """The warm-up of a series in order of arrival, shape (values,). See `filled` for what `unfinished` does.

    No warm-up in a series of fewer than FEWEST_FOR_WARMUP, and none beyond half of fewer than FEWEST_FOR_DRIFT.
    """
    n = len(values)
    if n < FEWEST_FOR_WARMUP:
        return NO_CUT
    looked_at = _thinned(n)
    scores = _ranks(_filled_at(values, unfinished, looked_at))
    means = _means(scores, len(scores) // BATCH)
    criterion = _mser(means)
    half = len(means) // 2
    best = int(np.argmin(criterion[: len(means) - LAST_KEPT]))
    if best >= half and _differs(means, best):
        return Cut(0, beyond_half=n >= FEWEST_FOR_DRIFT)
    best = int(np.argmin(criterion[: half + 1]))
    if best == 0 or not _differs(means, best):
        return NO_CUT
    if best == half:
        return Cut(0, beyond_half=n >= FEWEST_FOR_DRIFT)
    return Cut(int(looked_at[best * BATCH]), beyond_half=False)


def drift(values: Values, times: Values, unfinished: Unfinished | None = None) -> Drift | None:
    """The trend of values in ns over times in ns, both in order of arrival, shape (values,).

    None for fewer than FEWEST_FOR_DRIFT, where two successive of DRIFT_PARTS equal parts of them came at once, and
    where the median is 0. See `filled` for
    what `unfinished` does.
    """
    if len(values) < FEWEST_FOR_DRIFT:
        return None
    looked_at = _thinned(len(values))
    known = _filled_at(values, unfinished, looked_at)
    when = np.asarray(times[looked_at] - times[0], dtype=np.float64)
    median = float(np.median(known))
    if median <= 0 or (np.diff(_means(when, DRIFT_PARTS)) <= 0).any():
        return None
    scores = _ranks(known)
    p_value = _trend_of_all(scores, when)
    shift = _slope_of_medians(known, when) * float(when[-1])
    share = shift / median
    return Drift(
        shift_s=shift / NS_PER_S,
        share=share,
        p_value=p_value,
        drifted=p_value < DRIFT_P_LIMIT
        and _trend_of_parts(scores, when) < DRIFT_PARTS_P_LIMIT
        and abs(share) >= DRIFT_SHARE_LIMIT
        and abs(shift) / NS_PER_S >= DRIFT_SHIFT_LIMIT_S,
    )


def _filled_at(values: Values, unfinished: Unfinished | None, places: NDArray[np.int64]) -> Values:
    return filled(values[places], None if unfinished is None else unfinished[places])


def _thinned(n: int) -> NDArray[np.int64]:
    """Indices of at most MOST values, one of each stretch, at a place in it that goes with no period of the series."""
    if n <= MOST:
        return np.arange(n)
    edges = np.arange(MOST + 1) * n // MOST
    return edges[:-1] + (np.random.default_rng(0).random(MOST) * np.diff(edges)).astype(np.int64)


def _ranks(values: Values) -> NDArray[np.float64]:
    """Ranks of the values as shares of all, between 0 and 1; equal values share theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middles: NDArray[np.float64] = (np.cumsum(counts) - counts / 2) / len(values)
    return middles[place]


def _means(values: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """Means of so many parts of equal size; what is left over at the end is left out."""
    size = len(values) // parts
    means: NDArray[np.float64] = values[: parts * size].reshape(parts, size).mean(axis=1)
    return means


def _mser(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """MSER's criterion for each cut d: sum over i >= d of (y_i - their mean)² / (k - d)²."""
    kept = np.arange(1, len(means) + 1)
    backwards = means[::-1] - means.mean()
    sums, squares = np.cumsum(backwards), np.cumsum(np.square(backwards))
    return np.asarray(((squares - np.square(sums) / kept) / np.square(kept))[::-1], dtype=np.float64)


def _differs(means: NDArray[np.float64], cut: int) -> bool:
    """Whether the first `cut` means differ from the others by more than chance, at CUT_P_LIMIT.

    Both parts together give the variance and the autocorrelation time, the first one's about the line through it: a
    warm-up falls or rises. The mean of fewer than that time has the variance of one.
    """
    before, after = means[:cut], means[cut:]
    of_before = _line(before, np.arange(cut, dtype=np.float64))[1] if cut > 2 else before - before.mean()
    rest = np.concatenate((of_before, after - after.mean()))
    time = autocorrelation_time(rest)
    freedom = len(after) / time - 1
    if freedom <= 0:
        return False
    variance = float(np.square(rest).mean()) * (1 + 1 / freedom)
    error = math.sqrt(variance * (min(1.0, time / len(before)) + min(1.0, time / len(after))))
    difference = abs(float(before.mean() - after.mean()))
    return difference > 0 and (error == 0 or two_sided(difference / error, freedom) < CUT_P_LIMIT)


def _line(levels: NDArray[np.float64], when: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], float]:
    """Least squares: slope, residuals, and the sum of squared distances of `when` from its mean."""
    centred = when - when.mean()
    spread = float(centred @ centred)
    slope = float(centred @ levels) / spread
    return slope, levels - levels.mean() - slope * centred, spread


def _trend_of_all(scores: NDArray[np.float64], when: NDArray[np.float64]) -> float:
    """p-value of the slope, its variance widened by the residuals' autocorrelation time."""
    slope, rest, spread = _line(scores, when)
    time = autocorrelation_time(rest)
    freedom = len(scores) / time - 2
    if freedom <= 0:
        return 1.0
    variance = float(np.square(rest).mean()) * (1 + 2 / freedom) * time / spread
    return two_sided(slope / math.sqrt(variance), freedom) if variance > 0 else float(slope == 0)


def _trend_of_parts(scores: NDArray[np.float64], when: NDArray[np.float64]) -> float:
    """p-value of the slope through the means of DRIFT_PARTS parts, so long that neighbours hardly depend on another."""
    slope, rest, spread = _line(_means(scores, DRIFT_PARTS), _means(when, DRIFT_PARTS))
    freedom = DRIFT_PARTS - 2
    variance = float(rest @ rest) / freedom / spread
    return two_sided(slope / math.sqrt(variance), freedom) if variance > 0 else float(slope == 0)


def _slope_of_medians(values: Values, when: NDArray[np.float64]) -> float:
    """The median of the slopes between any two of MEDIANS parts' medians (Theil 1950, Sen 1968)."""
    size = len(values) // MEDIANS
    medians = np.median(np.asarray(values[: MEDIANS * size]).reshape(MEDIANS, size), axis=1)
    places = _means(when, MEDIANS)
    first, second = np.triu_indices(MEDIANS, 1)
    apart = places[second] - places[first]
    return float(np.median((medians[second] - medians[first])[apart > 0] / apart[apart > 0]))


def two_sided(t: float, freedom: float) -> float:
    """P(|T| >= |t|) of Student's t: with 6 degrees of freedom and more, 0 to 25 % too large down to 1e-5; below, more.

    By the normal deviate of Wallace, Bounds on normal approximations to Student's and the chi-square distributions,
    Annals of Mathematical Statistics 30, 1959.
    """
    deviate = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.erfc(deviate / math.sqrt(2))
