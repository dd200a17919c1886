"""Looks at a running point of --until-ci: `python -m latency_profile.until_ci`. An Asked comes on standard input, Looks
go out."""

from latency_profile.children import order_to_follow
from latency_profile.until_ci.follow import follow
from latency_profile.until_ci.precision import precision, reached
from latency_profile.until_ci.tail import Tail
from latency_profile.until_ci.watch import Asked

# There is a look for every so many new requests, a share of those that were there already.
NEW_SHARE = 0.02
FIRST_LOOK = 50  # requests: fewer are bounded by nothing, at any level
# Requests that are in flight at the stop still change the intervals a little: what is known so much better stays known.
MARGIN = 0.95


class _Precise:
    """Implements `Sight`: all percentiles are known to the target."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._looked_at = 0

    def due(self, tail: Tail) -> bool:
        return tail.requests >= max(FIRST_LOOK, self._looked_at * (1 + NEW_SHARE))

    def enough(self, tail: Tail) -> bool:
        self._looked_at = tail.requests
        return reached(precision(tail.samples(), self._target), self._target * MARGIN)

    def thinned(self) -> None:
        self._looked_at //= 2


def main() -> None:
    if (asked := order_to_follow(Asked)) is not None:
        follow(asked.order, _Precise(asked.target))


main()
