"""Intervals of percentiles that hold at every look at once: a confidence sequence for quantiles. Pure.

An interval of fixed size is right 95 times in 100 when it is looked at once. Who looks again and again and stops when
he likes what he sees is wrong more often. Here the chance that the interval misses the truth at *any* look is at most
`alpha`, so that one may look always and stop whenever one likes (Howard & Ramdas, Sequential estimation of quantiles
with applications to A/B testing and best-arm identification, Bernoulli 28(3), 2022; of their bounds the beta-binomial
mixture for one quantile fixed beforehand).

For the true p-quantile Q the number K of values at or below it, among the first n independent ones, is binomial (n, p)
(where values are tied at Q, one with that law lies between the numbers below and at or below Q). The likelihood of all
other shares, mixed by a beta law, against that of p,

    M(n, K) = B(a + K, b + n - K) / B(a, b) / (p^K (1 - p)^(n - K)),    a = r p, b = r (1 - p),

is a martingale that begins at 1 and is never negative. By Ville's inequality it ever reaches 1 / alpha with a
probability of at most alpha. M is convex in K, so M < 1 / alpha holds for K from l to u, and X(l) <= Q <= X(u + 1).

The law's weight r does not change whether this holds, only where the bound is tightest: at n requests, for
r = n / (2 log(1 / alpha) + log(1 + 2 log(1 / alpha))) (Howard, Ramdas, McAuliffe & Sekhon, Time-uniform, nonparametric,
nonasymptotic confidence sequences, Ann. Statist. 49, 2021, 3.5). It must be fixed before the first look.

Requests that met the same queue are not independent. As for intervals of fixed size, n is then an effective size, that
is estimated anew at each look (`until_ci.precision`). For that part there is no proof at finite n: it is right in the
limit, and benchmarks/confidence_sequence.py measures how right it is before.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

FARTHEST = 1 << 40  # no point has so many requests


@dataclass(frozen=True, slots=True)
class Anytime:
    """A bound that holds for all sizes of a sample at once.

    alpha: the chance that it ever fails. tightest_at: for which size of the sample it is tightest, 1 or more.
    """

    alpha: float
    tightest_at: int

    def ranks(self, n: int, level: float) -> tuple[int | None, int | None]:
        """Ranks (1 to n) of the order statistics that enclose the `level` quantile of n independent values, whatever
        n is and was before. None where n is too small to have one."""
        return _ranks(n, level, self.alpha, self._weight)

    @property
    def _weight(self) -> float:
        doubled = 2 * math.log(1 / self.alpha)
        return self.tightest_at / (doubled + math.log(1 + doubled))

    def margin(self, n: int, level: float) -> float | None:
        """How far from `level`, as a share of n, the farther of the two ranks is; None where one is missing."""
        lower, upper = self.ranks(n, level)
        if lower is None or upper is None:
            return None
        return max(upper / n - level, level - (lower - 1) / n)

    def smallest(self, level: float) -> int:
        """The smallest sample that bounds the `level` quantile from both sides."""
        return _first(1, lambda n: self.margin(n, level) is not None)

    def needed(self, effective_n: float, level: float, half_width: float | None, target: float) -> int:
        """How many independent values would bound the `level` quantile to `target`, where `effective_n` bound it to
        `half_width` (None: not at all; the answer is then the fewest that bound it to anything).

        An extrapolation: it takes the quantile function to be straight between the ranks, so that the half width goes
        with the ranks' margin.
        """
        n = math.floor(effective_n)
        margin = self.margin(n, level) if n else None
        if half_width is None or margin is None:
            return max(n + 1, self.smallest(level))
        if half_width <= target:
            return n
        wanted = margin * target / half_width
        return _first(n, lambda size: (self.margin(size, level) or math.inf) <= wanted)


def _first(start: int, holds: Callable[[int], bool]) -> int:
    """The smallest number from `start` on for which a condition holds that, once it does, goes on holding."""
    low, high = start - 1, start
    while not holds(high) and high < FARTHEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def _ranks(n: int, level: float, alpha: float, weight: float) -> tuple[int | None, int | None]:
    if n < 1:
        return None, None
    a, b = weight * level, weight * (1 - level)
    constant = math.lgamma(weight) - math.lgamma(weight + n) - math.lgamma(a) - math.lgamma(b) + math.log(alpha)

    def inside(count: int) -> bool:
        mixed = math.lgamma(a + count) + math.lgamma(b + n - count) + constant
        return mixed < count * math.log(level) + (n - count) * math.log1p(-level)

    middle = round(n * level)
    low, high = -1, middle  # low: outside, or below all; high: inside
    while high - low > 1:
        count = (low + high) // 2
        low, high = (low, count) if inside(count) else (count, high)
    lower = high
    low, high = middle, n + 1
    while high - low > 1:
        count = (low + high) // 2
        low, high = (count, high) if inside(count) else (low, count)
    return (lower if lower >= 1 else None), (low + 1 if low < n else None)
