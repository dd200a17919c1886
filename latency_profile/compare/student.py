"""Student's t for whole degrees of freedom, exactly.

Finite sums: Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4. `statistics.means.student` is
an approximation for fractional degrees, made for 95 %; the tails that a correction for many tests needs are further
out.
"""

import math
from functools import lru_cache

_LARGEST_T = 1e9
_HALVINGS = 100


def p_value(t: float, degrees: int) -> float:
    """P(|T| >= |t|) for `degrees` of freedom, 1 or more; correct to 1e-15 of the whole, 0 for an infinite t."""
    angle = math.atan2(abs(t), math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= square * (k - 1) / k
    inside = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return max(0.0, 1.0 - inside)


@lru_cache(maxsize=4096)
def quantile(confidence: float, degrees: int) -> float:
    """The t with P(|T| < t) = confidence."""
    low, high = 0.0, 1.0
    while p_value(high, degrees) > 1 - confidence and high < _LARGEST_T:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, degrees) > 1 - confidence else (low, middle)
    return high
