"""Numbers about samples: summaries, percentiles and means with their intervals, rates, trends. Pure."""

from latency_profile.statistics.censoring import filled, ordered
from latency_profile.statistics.describe import Known, describe, known_of
from latency_profile.statistics.means import mean_interval, rate_interval
from latency_profile.statistics.memory import autocorrelation_time, autoregressive_time
from latency_profile.statistics.percentiles import binomial_ranks, effective_size
from latency_profile.statistics.samples import (
    CHUNK,
    CONFIDENCE,
    NOTHING,
    NS_PER_MS,
    NS_PER_S,
    Distribution,
    Percentile,
    Sample,
    Summary,
)
from latency_profile.statistics.shares import Ranks, ShareKnown, share_known
from latency_profile.statistics.summary import mean_and_sd, quantile, summarize
from latency_profile.statistics.trend import Growth, growth

__all__ = [
    "CHUNK",
    "CONFIDENCE",
    "NOTHING",
    "NS_PER_MS",
    "NS_PER_S",
    "Distribution",
    "Growth",
    "Known",
    "Percentile",
    "Ranks",
    "Sample",
    "ShareKnown",
    "Summary",
    "autocorrelation_time",
    "autoregressive_time",
    "binomial_ranks",
    "describe",
    "effective_size",
    "filled",
    "growth",
    "known_of",
    "mean_and_sd",
    "mean_interval",
    "ordered",
    "quantile",
    "rate_interval",
    "share_known",
    "summarize",
]
