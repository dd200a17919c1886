"""Random numbers that depend only on (seed, stream, index): no generator is carried along, so any slice of a workload
is drawn alike by one process and by many, and a request's draws never depend on how many were made before.

The numbers are SplitMix64's (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
output i of the generator whose state starts at `key(seed, stream)`.
"""

import hashlib
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from latency_profile.workload import Lengths

Words64 = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def key(seed: int | str, stream: str) -> int:
    """64 bits that begin one stream of draws; streams of one seed are unrelated."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "big")


def mix(words: Words64) -> Words64:
    """SplitMix64's output function, a bijection of 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def bits(start: int | Words64, index: NDArray[np.integer]) -> Words64:
    """Output `index` of the SplitMix64 generator that starts at `start`; both broadcast."""
    state = np.asarray(start & _MASK if isinstance(start, int) else start, dtype=np.uint64)
    return mix(state + (index.astype(np.uint64) + np.uint64(1)) * _GAMMA)


def uniforms(seed: int, stream: str, index: NDArray[np.integer]) -> NDArray[np.float64]:
    """One number in the open interval (0, 1) for each index."""
    return ((bits(key(seed, stream), index) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def order(seed: int, count: int) -> NDArray[np.int64]:
    """A permutation of range(count)."""
    return np.argsort(bits(key(seed, "order"), np.arange(count)), kind="stable").astype(np.int64)


def share(lengths: Lengths, low: int, high: int) -> float:
    """Probability that the normal law of `lengths`, rounded and before its own bounds, falls into low..high."""
    law = NormalDist(lengths.mean, lengths.stddev)
    return law.cdf(high + 0.5) - law.cdf(low - 0.5)


def token_lengths(lengths: Lengths, seed: int, stream: str, index: NDArray[np.integer]) -> NDArray[np.int64]:
    """One length in tokens for each index: the inverse distribution function at a uniform draw inside the bounds."""
    if lengths.stddev == 0:
        return np.full(len(index), round(lengths.mean), dtype=np.int64)
    law = NormalDist(lengths.mean, lengths.stddev)
    bottom, top = law.cdf(lengths.low - 0.5), law.cdf(lengths.high + 0.5)
    levels = bottom + uniforms(seed, stream, index) * (top - bottom)
    drawn = [round(law.inv_cdf(float(level))) for level in levels]
    # Rounding may step over a bound by one only where a level lies within one float of the bound's own.
    return np.clip(np.asarray(drawn, dtype=np.int64), lengths.low, lengths.high)


def choices(weights: tuple[float, ...], seed: int, stream: str, index: NDArray[np.integer]) -> NDArray[np.int64]:
    """For each index one of range(len(weights)), in proportion to the weights."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.searchsorted(edges[:-1], uniforms(seed, stream, index), side="right").astype(np.int64)
