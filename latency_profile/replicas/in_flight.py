"""From requests in flight to a rate, by Little's law: in flight = rate × mean E2E. Pure.

J. D. C. Little, A proof for the queuing formula L = λW, Operations Research 9 (1961). E2E is known where it was
measured; between two measured rates it is taken to lie on the straight line between theirs. Elsewhere it is not known.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Measured:
    """One point: rate of one replica (requests/s), mean E2E from due (s), and how many requests the mean is of."""

    rate: float
    e2e_s: float
    requests: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean E2E over the rate, (rates,) each: rates rise, and E2E does not fall."""

    rates: tuple[float, ...]
    e2e_s: tuple[float, ...]

    @classmethod
    def of(cls, points: Iterable[Measured]) -> "Curve":
        """The rising curve that is nearest by least squares (`capacity.isotonic` has the source): no server is faster
        for more load, and where a mean says so it is chance. Raises ValueError without points."""
        pools: list[tuple[list[float], float, float]] = []  # rates, mean, weight
        for point in sorted(points, key=lambda point: point.rate):
            rates, mean, weight = [point.rate], point.e2e_s, point.requests
            while pools and (pools[-1][1] >= mean or pools[-1][0][-1] == point.rate):
                before, its_mean, its_weight = pools.pop()
                mean = (mean * weight + its_mean * its_weight) / (weight + its_weight)
                rates, weight = [*before, *rates], weight + its_weight
            pools.append((rates, mean, weight))
        known = {rate: mean for rates, mean, _ in pools for rate in rates}
        if not known:
            raise ValueError("no point that may be used and keeps its backlog has a mean E2E")
        return cls(tuple(known), tuple(known.values()))

    def e2e_at(self, rate: float) -> float:
        """Raises ValueError outside of the measured rates."""
        self._check(rate)
        for (low, before), (high, after) in pairwise(zip(self.rates, self.e2e_s, strict=True)):
            if rate <= high:
                return before + (after - before) * max(0.0, rate - low) / (high - low)
        return self.e2e_s[-1]

    def rate_at(self, in_flight: float) -> float:
        """Where rate × E2E is `in_flight`. Raises ValueError outside of what was measured."""
        ends = [rate * e2e_s for rate, e2e_s in zip(self.rates, self.e2e_s, strict=True)]
        if in_flight < ends[0] * (1 - _ROUNDING):
            raise ValueError(
                f"{in_flight:.4g} in flight are fewer than the lowest measured rate has ({ends[0]:.4g} at "
                f"{self.rates[0]:.4g} req/s a replica), and nothing is extrapolated: measure a lower rate"
            )
        for place, (low, high) in enumerate(pairwise(self.rates)):
            if in_flight <= ends[place + 1]:
                slope = (self.e2e_s[place + 1] - self.e2e_s[place]) / (high - low)
                at_zero = self.e2e_s[place] - slope * low
                # rate (at_zero + slope rate) = in_flight, in the form that a slope of 0 does not break
                rate = 2 * in_flight / (at_zero + math.sqrt(at_zero * at_zero + 4 * slope * in_flight))
                return min(max(rate, low), high)
        if in_flight <= ends[-1] * (1 + _ROUNDING):
            return self.rates[-1]
        raise ValueError(
            f"{in_flight:.4g} in flight are more than the highest measured rate that keeps the objectives has "
            f"({ends[-1]:.4g} at {self.rates[-1]:.4g} req/s a replica)"
        )

    def _check(self, rate: float) -> None:
        lowest, highest = self.rates[0], self.rates[-1]
        if not lowest * (1 - _ROUNDING) <= rate <= highest * (1 + _ROUNDING):
            where, remedy = ("below", "a lower rate") if rate < lowest else ("above", "a rate nearer to it")
            raise ValueError(
                f"one replica would be planned at {rate:.4g} req/s, {where} all measured rates whose E2E may be used "
                f"({_listed(self.rates)} req/s a replica), and nothing is extrapolated: measure {remedy}, or change "
                "--headroom"
            )


def _listed(rates: Sequence[float]) -> str:
    return f"{rates[0]:.4g}" if len(rates) == 1 else f"{rates[0]:.4g} to {rates[-1]:.4g}"
