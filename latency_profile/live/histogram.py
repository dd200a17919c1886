"""A histogram as Prometheus has them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Powers of two: the buckets of the first inference-benchmark, by which dashboards have been made.
POWERS_OF_TWO = tuple(float(2**power) for power in range(1, 16))


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` has one place for each bound and one for what is above the last."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float  # sum of all values

    @classmethod
    def empty(cls, bounds: Sequence[float] = POWERS_OF_TWO) -> "Histogram":
        return cls(tuple(bounds), (0,) * (len(bounds) + 1), 0.0)

    def observed(self, values: NDArray[Any]) -> "Histogram":
        """With these values too. A value on a bound belongs to the bucket that ends there (`le`)."""
        places = np.searchsorted(self.bounds, values, side="left")
        more = np.bincount(places, minlength=len(self.counts)).tolist()
        counts = tuple(old + new for old, new in zip(self.counts, more, strict=True))
        return Histogram(self.bounds, counts, self.total + float(values.sum()))

    @property
    def cumulative(self) -> list[int]:
        """How many values were not above each bound; at last, how many there were."""
        running: list[int] = np.cumsum(self.counts).tolist()
        return running
