"""Everything that the results say of one latency."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latency_profile.statistics.censoring import Ordered, ordered
from latency_profile.statistics.means import mean_interval
from latency_profile.statistics.memory import autocorrelation_time, autoregressive_time
from latency_profile.statistics.percentiles import memory_of, percentile
from latency_profile.statistics.samples import NS_PER_S, Distribution, Percentile, Sample
from latency_profile.statistics.summary import mean_and_sd, quantile

NS_DIGITS = 9  # of seconds: interval ends are rounded to the nanosecond, which stamps have


class MeanKnown(NamedTuple):
    """What is known of the mean of a sample."""

    low_s: float | None
    high_s: float | None
    effective_n: float
    memory: float  # autocorrelation time of the requests' values, by autoregression; at least 1


class Known(NamedTuple):
    """A sample, as its figures are read from it."""

    whole: Sample  # with unfinished values filled in
    values: Ordered
    mean_ns: float | None  # of the finished values
    sd_ns: float | None
    mean: MeanKnown
    memory: float  # the autocorrelation time that no percentile is believed to fall below

    def percentile(self, level: float) -> Percentile:
        return percentile(self.whole, self.values, level, self.memory)


def known_of(sample: Sample) -> Known:
    """What any figure of a sample is read from, found once. Values in ns; unfinished ones as `describe` takes them."""
    whole, values = ordered(sample)
    at_least, finished = values.at_least, values.finished
    mean, sd = mean_and_sd(finished) if len(finished) else (None, None)
    if len(finished) == len(at_least):
        known = _mean(sample, mean or 0.0, sd or 0.0)
    else:
        known = _mean(sample, *mean_and_sd(at_least))
    return Known(whole, values, mean, sd, known, max(known.memory, memory_of(whole, values.estimated)))


def describe(sample: Sample) -> Distribution:
    """Everything that the results say of a latency, in seconds.

    Unfinished values are taken in three ways: as they are already (which bounds each percentile and the mean from
    below), as infinite (from above), and for the percentile itself where the others' distribution puts them (`filled`).
    A percentile that falls beyond all finished values is not resolved.
    """
    of = known_of(sample)
    at_least, finished, known = of.values.at_least, of.values.finished, of.mean

    def seconds(ns: float | None) -> float | None:
        return None if ns is None else ns / NS_PER_S

    return Distribution(
        n=len(finished),
        unfinished=len(at_least) - len(finished),
        mean_s=seconds(of.mean_ns),
        mean_low_s=known.low_s,
        mean_high_s=known.high_s if len(finished) == len(at_least) else None,
        mean_effective_n=round(known.effective_n, 1),
        sd_s=seconds(of.sd_ns),
        min_s=seconds(quantile(finished, 0.0)),
        max_s=seconds(quantile(finished, 1.0)),
        p50=of.percentile(0.5),
        p90=of.percentile(0.9),
        p95=of.percentile(0.95),
        p99=of.percentile(0.99),
    )


def _mean(sample: Sample, mean: float, sd: float) -> MeanKnown:
    """mean, sd: of all values, ns. Unfinished values are taken as they are.

    Of several values a request the mean is a ratio of two sums, and what each request adds to the first beyond its part
    is what varies (Cochran, Sampling Techniques, 3rd ed., 6).
    """
    size = len(sample.values)
    residuals, per_step = sample.arrived(_residuals(sample, mean)), 1.0
    requests = len(residuals)
    if sample.per_request is not None and requests:
        per_step = size / requests
    if requests < 3 or not size:  # two leave Student's t one degree of freedom: it tells nothing
        return MeanKnown(None, None, float(min(size, 1)), 1.0)
    memory = autoregressive_time(residuals)
    time = autocorrelation_time(residuals)
    low, high = (end / per_step for end in mean_interval(residuals, time))
    variance = float(np.square(residuals).mean()) * time / requests / per_step**2
    effective = min(max(sd * sd / variance, 1.0), float(size)) if variance > 0 else float(requests)
    floor = 0.0 if sample.values.min() >= 0 else -np.inf  # a mean of times that are not negative is not
    return MeanKnown(
        low_s=min(round(max(floor, mean + low) / NS_PER_S, NS_DIGITS), mean / NS_PER_S),
        high_s=max(round((mean + high) / NS_PER_S, NS_DIGITS), mean / NS_PER_S),
        effective_n=effective,
        memory=max(1.0, memory),
    )


def _residuals(sample: Sample, mean: float) -> NDArray[np.float64]:
    """What each request's values add to the sum beyond their number's part of it, ns, shape (requests,)."""
    if sample.per_request is None:
        return np.asarray(sample.values - mean, dtype=np.float64)
    filled = sample.per_request > 0
    found = np.zeros(len(sample.per_request))
    if filled.any():
        starts = np.cumsum(sample.per_request)[filled] - sample.per_request[filled]
        found[filled] = np.add.reduceat(sample.values, starts)
    return found - mean * sample.per_request
