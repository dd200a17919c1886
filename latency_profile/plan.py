"""When each request of a point is due. Pure: no clock, no sleep; the same arguments give the same plan, everywhere.

A plan is absolute. Shards slice it (`offsets[i::n]`) and never draw their own.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arrival = Literal["poisson", "gamma", "constant"]

NS = 1_000_000_000
_CHUNK = 4096


def offsets_ns(
    rate: float,
    *,
    count: int | None = None,
    duration_s: float | None = None,
    seed: int,
    point: int,
    arrival: Arrival = "poisson",
    burstiness: float = 1.0,
) -> NDArray[np.int64]:
    """Due times of a point's requests: ns from its start, ascending, shape (requests,).

    rate: requests/s; infinite: a burst, all due at 0. The plan ends with `count` requests or before `duration_s`,
    whichever comes first; a burst needs `count`. Gaps are independent and gamma distributed with shape `burstiness` and
    mean 1/rate; shape 1 is the exponential distribution, so arrivals are a Poisson process; the index of dispersion of
    the counts tends to 1/burstiness (Cox & Lewis 1966, The Statistical Analysis of Series of Events, 4.5). "constant":
    k/rate, the first at 0. Drawn from NumPy's PCG64 seeded by (seed, point). Raises ValueError without a bound.
    """
    if count is None and (duration_s is None or math.isinf(rate)):
        raise ValueError("a plan needs a number of requests or a duration")
    if math.isinf(rate):
        return np.zeros(count or 0, dtype=np.int64)
    end_s = math.inf if duration_s is None else duration_s
    if arrival == "constant":
        within = count if duration_s is None else math.ceil(duration_s * rate)
        assert within is not None
        return _before(end_s, np.arange(within) / rate)[:count]
    shape = burstiness if arrival == "gamma" else 1.0
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(point,)))
    parts: list[NDArray[np.float64]] = []
    drawn, last = 0, 0.0
    while last < end_s and (count is None or drawn < count):
        # Chunks are of one size, so that a longer plan begins with the shorter one.
        part = last + np.cumsum(generator.gamma(shape, 1.0 / (rate * shape), _CHUNK))
        parts.append(part)
        drawn += _CHUNK
        last = float(part[-1])
    return _before(end_s, np.concatenate(parts))[:count]


def _before(end_s: float, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """In whole ns, and those only that are then before the end: 55/2.2 s are a hair less than 25 s in binary."""
    due: NDArray[np.int64] = np.rint(seconds * NS).astype(np.int64)
    return due[due < end_s * NS]
