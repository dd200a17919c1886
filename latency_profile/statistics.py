"""Numbers about samples: summaries, percentiles with their intervals, trends. Pure functions of arrays.

A percentile's interval comes from order statistics: the number of values at or below the true q-quantile is binomial
(n, q), so the values at two binomial quantiles enclose it, whatever the distribution (David & Nagaraja, Order
Statistics, 3rd ed., 7.1). That holds for independent values; requests that met the same queue are not. So n is
replaced by an effective size, from the autocorrelation of the series 1{X <= q} in order of arrival (Heidelberger &
Lewis, Quantile Estimation in Dependent Sequences, Oper. Res. 32, 1984).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

CONFIDENCE = 0.95
NS_PER_S = 1e9
NS_PER_MS = 1e6
CHUNK = 1 << 20  # values at a time, where a pass over a large array needs room


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seven numbers about a sample, in the unit of the field that holds them; all null where the sample is empty."""

    mean: float | None
    median: float | None
    sd: Annotated[float | None, Meta(description="of the population")]
    min: float | None
    max: float | None
    p90: Annotated[float | None, Meta(description="interpolated linearly between order statistics")]
    p99: Annotated[float | None, Meta(description="interpolated linearly between order statistics")]


NOTHING = Summary(mean=None, median=None, sd=None, min=None, max=None, p90=None, p99=None)


class Percentile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A percentile and how far it can be trusted."""

    value_s: Annotated[
        float | None,
        Meta(description="the sample's percentile; only a lower bound where it falls among unfinished requests"),
    ]
    low_s: Annotated[float | None, Meta(description="lower end of the 95 % interval; null: the sample gives none")]
    high_s: Annotated[float | None, Meta(description="upper end of the 95 % interval; null: the sample gives none")]
    resolved: Annotated[bool, Meta(description="whether the sample bounds this percentile from both sides")]
    effective_n: Annotated[
        float, Meta(ge=0, description="how many independent values tell as much about it as these did")
    ]


class Distribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a latency: mean, sd, min, max of the finished values; percentiles over unfinished ones too."""

    n: Annotated[int, Meta(ge=0, description="finished values")]
    unfinished: Annotated[
        int, Meta(ge=0, description="requests still waiting at the stop, which count as at least as slow as they were")
    ]
    mean_s: float | None
    sd_s: float | None
    min_s: float | None
    max_s: float | None
    p50: Percentile
    p90: Percentile
    p95: Percentile
    p99: Percentile


@dataclass(frozen=True, slots=True)
class Sample:
    """Values in ns, request after request, shape (values,); requests in order of arrival unless `order` is given."""

    values: NDArray[Any]
    unfinished: NDArray[np.bool_] | None = None  # (values,): this value is only what had passed at the stop
    per_request: NDArray[np.int64] | None = None  # (requests,): how many values each gave; None: one each
    order: NDArray[np.intp] | None = None  # (requests,): puts them in order of arrival


def quantile(ordered: NDArray[Any], level: float) -> float | None:
    """The `level` quantile of ascending values by linear interpolation, as numpy.percentile has it; None of none."""
    if not len(ordered):
        return None
    position = (len(ordered) - 1) * level
    below = math.floor(position)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (position - below)


def mean_and_sd(ordered: NDArray[Any]) -> tuple[float, float]:
    """Mean and the population's standard deviation of one value or more, in their unit.

    The sums are exact for integers and correctly rounded for floats: the same values give the same bits in any order.
    """
    n = len(ordered)
    total = int(ordered.sum()) if ordered.dtype.kind in "iu" else math.fsum(ordered.tolist())
    mean = total / n
    parts = [float(np.square(ordered[i : i + CHUNK] - mean).sum()) for i in range(0, n, CHUNK)]
    return mean, math.sqrt(math.fsum(parts) / n)


def summarize(values: NDArray[Any], per_unit: float = 1.0) -> Summary:
    """The summary of `values` (any order), divided by `per_unit`. Works on a sorted copy."""
    if not len(values):
        return NOTHING
    ordered = np.sort(values)
    mean, sd = mean_and_sd(ordered)

    def at(level: float) -> float:
        return (quantile(ordered, level) or 0.0) / per_unit

    return Summary(
        mean=mean / per_unit,
        median=at(0.5),
        sd=sd / per_unit,
        min=at(0),
        max=at(1),
        p90=at(0.9),
        p99=at(0.99),
    )


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


def autocorrelation_time(series: NDArray[np.float64]) -> float:
    """By how much its autocorrelation widens the variance of a series' mean; at least 1. The series has mean 0.

    The sum of autocovariances is cut by the initial monotone positive sequence of Geyer (Practical Markov Chain Monte
    Carlo, Statistical Science 7, 1992, 3.3): sums of neighbouring pairs, as long as they are positive, never rising.
    """
    n = len(series)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(series, size)
    covariance = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[: n + n % 2] / n
    if covariance[0] <= 0:
        return 1.0
    pairs = covariance.reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    positive = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    return max(1.0, float(2 * positive.sum() / covariance[0] - 1))


def effective_size(sample: Sample, limit: float) -> float:
    """How many independent values tell as much about P(X <= limit) as this sample does: between 1 and its size.

    Each request gives the excess of its values at or below the limit over what the pooled share would make it give
    (of several values a request this is the ratio estimator's residual, so that the gaps of one answer do not count as
    independent). Where no request differs from the others, the requests are counted.
    """
    size = len(sample.values)
    if sample.per_request is None:
        counts = np.ones(size)
        hits = (sample.values <= limit).astype(np.float64)
    else:
        counts = sample.per_request.astype(np.float64)
        edges = np.concatenate(([0], np.cumsum(sample.per_request)))
        slower = np.searchsorted(np.flatnonzero(sample.values > limit), edges)
        hits = counts - np.diff(slower)
    share = hits.sum() / size
    residuals = hits - share * counts
    if sample.order is not None:
        residuals = residuals[sample.order]
    variance = float(np.square(residuals).mean())
    if variance <= 0 or not 0 < share < 1:
        return float(np.count_nonzero(counts))
    widening = len(residuals) * variance * autocorrelation_time(residuals)
    return float(np.clip(share * (1 - share) * size * size / widening, 1, size))


def describe(sample: Sample) -> Distribution:
    """Everything that the results say of a latency, in seconds.

    Unfinished values are taken in two ways: as they are already (which bounds each percentile from below) and as
    infinite (from above). A percentile that falls among them is not resolved.
    """
    at_least = np.sort(sample.values)
    finished = at_least if sample.unfinished is None else np.sort(sample.values[~sample.unfinished])
    mean, sd = mean_and_sd(finished) if len(finished) else (None, None)

    def seconds(ns: float | None) -> float | None:
        return None if ns is None else ns / NS_PER_S

    return Distribution(
        n=len(finished),
        unfinished=len(at_least) - len(finished),
        mean_s=seconds(mean),
        sd_s=seconds(sd),
        min_s=seconds(quantile(finished, 0.0)),
        max_s=seconds(quantile(finished, 1.0)),
        p50=_percentile(sample, at_least, finished, 0.5),
        p90=_percentile(sample, at_least, finished, 0.9),
        p95=_percentile(sample, at_least, finished, 0.95),
        p99=_percentile(sample, at_least, finished, 0.99),
    )


def _percentile(sample: Sample, at_least: NDArray[Any], finished: NDArray[Any], level: float) -> Percentile:
    size = len(at_least)
    value = quantile(at_least, level)
    if value is None:
        return Percentile(value_s=None, low_s=None, high_s=None, resolved=False, effective_n=0.0)
    effective = effective_size(sample, value)
    independent = math.floor(effective)
    lower, upper = binomial_ranks(independent, level)
    low = high = None
    # Rank r of the effective size stands for a block of size / independent ranks: take its outer end. In tiny samples
    # the interpolated value can fall outside the ranks' values; the interval is then widened to hold it.
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


@dataclass(frozen=True, slots=True)
class Growth:
    """A straight line through a level that was read at equal steps."""

    per_s: float  # least-squares slope
    standard_error: float  # 1/s; 0 where the level rose by the same amount in each step


def growth(levels: NDArray[np.float64], step_s: float) -> Growth:
    """The least-squares slope of levels read every `step_s` seconds, three or more.

    A backlog's random part is not white noise around the line but a random walk (arrivals less departures), which gives
    the slope of n readings the variance 6/5 (n² + 1) / (n (n² - 1)) s²/step², s² being the variance of an increment.
    """
    n = len(levels)
    centred = (np.arange(n) - (n - 1) / 2) * step_s
    slope = float(centred @ levels / (centred @ centred))
    walk = float(np.var(np.diff(levels), ddof=1)) / step_s**2
    return Growth(slope, math.sqrt(1.2 * (n * n + 1) / (n * (n * n - 1)) * walk))
