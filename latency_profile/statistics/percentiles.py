"""Percentiles with their intervals.

A percentile's interval comes from order statistics: the number of values at or below the true q-quantile is binomial
(n, q), so the values at two binomial quantiles enclose it, whatever the distribution (David & Nagaraja, Order
Statistics, 3rd ed., 7.1). That holds for independent values; requests that met the same queue are not. So n is
replaced by an effective size, from the autocorrelation of the series 1{X <= q} in order of arrival (Heidelberger &
Lewis, Quantile Estimation in Dependent Sequences, Oper. Res. 32, 1984).
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latency_profile.statistics.censoring import Ordered
from latency_profile.statistics.memory import autoregressive_time, paired_time
from latency_profile.statistics.samples import CONFIDENCE, NS_PER_S, Percentile, Sample
from latency_profile.statistics.summary import quantile


@lru_cache(maxsize=1024)
def binomial_ranks(n: int, level: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Ranks (1 to n) of the order statistics that enclose the `level` quantile of n independent values.

    The lower is the smallest l with P(B <= l) >= a/2 and the upper u the smallest with P(B >= u) <= a/2, B binomial
    (n, level) and a = 1 - confidence, so that P(X(l) <= quantile <= X(u)) >= confidence. None where n is too small to
    have one. The probabilities are B's own, summed from the ratio of successive terms, p(k + 1) / p(k) = (n - k) /
    (k + 1) * level / (1 - level), out to 12 standard deviations, beyond which less than 1e-15 lies.
    """
    if n < 1:
        return None, None
    mode = min(n, math.floor((n + 1) * level))
    reach = math.ceil(12 * math.sqrt(n * level * (1 - level))) + 40
    first, last = max(0, mode - reach), min(n, mode + reach)
    odds = level / (1 - level)
    up = np.arange(mode, last, dtype=np.float64)
    down = np.arange(mode, first, -1, dtype=np.float64)
    above = np.cumprod((n - up) / (up + 1) * odds)
    below = np.cumprod(down / (n - down + 1) / odds)
    terms = np.concatenate((below[::-1], [1.0], above))
    terms /= terms.sum()
    tail = (1 - confidence) / 2
    lower = first + int(np.argmax(np.cumsum(terms) >= tail))
    from_above = np.cumsum(terms[::-1])[::-1]  # P(B >= first + i)
    inside = np.flatnonzero(from_above <= tail)
    upper = first + int(inside[0]) if len(inside) else last + 1
    return (lower if lower >= 1 else None), (upper if upper <= n else None)


class Excess(NamedTuple):
    """By how many of its values at or below a limit each request exceeds the pooled share, in order of arrival."""

    residuals: NDArray[np.float64]
    share: float
    requests: int  # that gave values


def excess(sample: Sample, limit: float) -> Excess:
    """Of several values a request this is the ratio estimator's residual: gaps of one answer are not independent."""
    size = len(sample.values)
    if sample.per_request is None:
        counts = np.ones(size)
        hits = (sample.values <= limit).astype(np.float64)
    else:
        counts = sample.per_request.astype(np.float64)
        edges = np.concatenate(([0], np.cumsum(sample.per_request)))
        slower = np.searchsorted(np.flatnonzero(sample.values > limit), edges)
        hits = counts - np.diff(slower)
    share = float(hits.sum()) / size
    return Excess(sample.arrived(hits - share * counts), share, int(np.count_nonzero(counts)))


def effective_size(sample: Sample, limit: float, memory: float = 1.0) -> float:
    """How many independent values tell as much about P(X <= limit) as this sample does: between 1 and its size.

    memory: the autocorrelation time is taken to be that long at least. Where no request differs from the others, the
    requests are counted.
    """
    found = excess(sample, limit)
    size, residuals, share = len(sample.values), found.residuals, found.share
    variance = float(np.square(residuals).mean())
    if variance <= 0 or not 0 < share < 1:
        return float(found.requests)
    widening = len(residuals) * variance * max(memory, paired_time(residuals))
    return float(np.clip(share * (1 - share) * size * size / widening, 1, size))


def memory_of(sample: Sample, ordered: NDArray[Any]) -> float:
    """The autocorrelation time that the sample shows in its middle; at least 1. ordered: its values, ascending.

    A few slow requests cannot show by themselves for how long the server stays slow; a run without a long busy spell
    would take its p99 for known, and be wrong. So no percentile is believed to forget faster than the median does.
    """
    middle = quantile(ordered, 0.5)
    return 1.0 if middle is None else max(1.0, autoregressive_time(excess(sample, middle).residuals))


UNKNOWN = Percentile(value_s=None, low_s=None, high_s=None, resolved=False, effective_n=0.0)


def percentile(sample: Sample, known: Ordered, level: float, memory: float) -> Percentile:
    """The `level` percentile with its interval. sample, known: from `ordered`; memory: see `effective_size`."""
    value = quantile(known.estimated, level)
    if value is None:
        return UNKNOWN
    effective = effective_size(sample, value, memory)
    return at_ranks(known, value, effective, binomial_ranks(math.floor(effective), level))


def at_ranks(known: Ordered, value: float, effective: float, ranks: tuple[int | None, int | None]) -> Percentile:
    """A percentile `value` with the interval between two ranks of so many independent values (None: there is none).

    Rank r of the effective size stands for a block of size / independent ranks: its outer end is taken. In tiny samples
    the interpolated value can fall outside the ranks' values; the interval is then widened to hold it.
    """
    at_least, finished = known.at_least, known.finished
    size, independent = len(at_least), math.floor(effective)
    lower, upper = ranks
    low = high = None
    if lower is not None:
        low = min(value, float(at_least[(lower - 1) * size // independent])) / NS_PER_S
    if upper is not None:
        rank = -(-upper * size // independent)
        high = max(value, float(finished[rank - 1])) / NS_PER_S if rank <= len(finished) else None
    return Percentile(
        value_s=value / NS_PER_S,
        low_s=low,
        high_s=high,
        resolved=low is not None and high is not None,
        effective_n=round(effective, 1),
    )
