"""How often intervals that are looked at all the time miss the truth: `python -m benchmarks.confidence_sequence`.

Streams of known law: independent lognormal values, an autoregression of them, and the times in an M/M/1 queue. Each is
looked at every 50 values. Three shares of streams: where some look's interval misses its percentile, by the bound that
the results give each percentile; where any of the three misses at some look, by the bound that decides when to stop;
and where any misses at the look that stops it, which is the first one at which all are known to 20 %, or else the last.
The same intervals with ordinary order statistics stand beside the first, to show what looking costs.
"""

import argparse
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from latency_profile.confidence_sequence import Anytime
from latency_profile.statistics import CONFIDENCE, NS_PER_S, Percentile, Sample, describe, ordered
from latency_profile.until_ci.precision import (
    LEVELS,
    ONE_BY_ONE,
    TIGHTEST_AT,
    anytime_percentile,
    relative_half_width,
    shared_effective_size,
)

EVERY = 50
TARGET = 0.2
CORRELATION = 0.8
UTILIZATION = 0.8
TOGETHER = Anytime((1 - CONFIDENCE) / len(LEVELS), TIGHTEST_AT)

Values = NDArray[np.float64]


def independent(rng: np.random.Generator, n: int) -> Values:
    return np.exp(rng.normal(size=n))


def autoregression(rng: np.random.Generator, n: int) -> Values:
    """The logarithms are an AR(1) of unit variance."""
    steps = rng.normal(size=n) * math.sqrt(1 - CORRELATION**2)
    values = np.empty(n)
    values[0] = rng.normal()
    for i in range(1, n):
        values[i] = CORRELATION * values[i - 1] + steps[i]
    return np.exp(values)


def queue(rng: np.random.Generator, n: int) -> Values:
    """Times in system by Lindley's recursion, from a steady start; mean service 1."""
    service, gaps = rng.exponential(1, n), rng.exponential(1 / UTILIZATION, n)
    walk = np.concatenate(([0.0], np.cumsum(service - gaps)))[:n]
    first = rng.exponential(1 / (1 - UTILIZATION)) if rng.random() < UTILIZATION else 0.0
    waits: Values = np.maximum(first + walk, walk - np.minimum.accumulate(walk))
    return waits + service


def lognormal_quantile(level: float) -> float:
    return math.exp(NormalDist().inv_cdf(level))


def queue_quantile(level: float) -> float:
    return -math.log(1 - level) / (1 - UTILIZATION)


LAWS: dict[str, tuple[Callable[[np.random.Generator, int], Values], Callable[[float], float]]] = {
    "independent": (independent, lognormal_quantile),
    "AR(1) 0.8": (autoregression, lognormal_quantile),
    "M/M/1 0.8": (queue, queue_quantile),
}


def misses(found: Percentile, truth: float) -> bool:
    return (found.low_s or 0.0) > truth or (found.high_s is not None and found.high_s < truth)


def measure(law: str, streams: int, length: int, seed: int) -> dict[str, float]:
    draw, quantile = LAWS[law]
    truths = {name: quantile(level) for name, level in LEVELS.items()}
    rng = np.random.default_rng(seed)
    counted = {**dict.fromkeys(LEVELS, 0), **{f"{name} fixed": 0 for name in LEVELS}, "together": 0, "at the stop": 0}
    for _ in range(streams):
        values = draw(rng, length) * NS_PER_S
        missed: set[str] = set()
        stopped = False
        for n in range(EVERY, length + 1, EVERY):
            sample = Sample(values[:n])
            known = ordered(sample)[1]
            effective = shared_effective_size(sample, known.estimated)
            ordinary = describe(sample)
            together = {name: anytime_percentile(known, LEVELS[name], TOGETHER, effective) for name in LEVELS}
            for name, truth in truths.items():
                if misses(anytime_percentile(known, LEVELS[name], ONE_BY_ONE, effective), truth):
                    missed.add(name)
                if misses(getattr(ordinary, name), truth):
                    missed.add(f"{name} fixed")
            wrong = any(misses(together[name], truth) for name, truth in truths.items())
            if wrong:
                missed.add("together")
            widths = [relative_half_width(one) for one in together.values()]
            if not stopped and (n == length or all(width is not None and width <= TARGET for width in widths)):
                stopped = True
                if wrong:
                    missed.add("at the stop")
        for name in missed:
            counted[name] += 1
    return {name: count / streams for name, count in counted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--length", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--law", choices=LAWS, action="append")
    arguments = parser.parse_args()
    for law in arguments.law or LAWS:
        found = measure(law, arguments.streams, arguments.length, arguments.seed)
        print(f"{law}: " + ", ".join(f"{name} {share:.1%}" for name, share in found.items()), flush=True)


if __name__ == "__main__":
    main()
