"""Looks at a running probe: `python -m latency_profile.capacity`. A Probing comes on standard input, Looks go out."""

from latency_profile.capacity.answers import answers_so_far
from latency_profile.capacity.probing import Probing
from latency_profile.children import order_to_follow
from latency_profile.plan import NS
from latency_profile.slo.structure import Outcome
from latency_profile.until_ci.follow import follow
from latency_profile.until_ci.tail import Tail

NEW_SHARE = 0.1  # of the time that has passed, before there is another look
FIRST_LOOK_S = 1.0


class _Clear:
    """Implements `Sight`: the objectives are clearly kept, or one is clearly broken."""

    def __init__(self, asked: Probing) -> None:
        self._probe, self._start_ns = asked.probe, asked.order.start_ns
        self._next_s = FIRST_LOOK_S

    def due(self, tail: Tail) -> bool:
        return self._now_s(tail) >= self._next_s

    def enough(self, tail: Tail) -> bool:
        self._next_s = self._now_s(tail) * (1 + NEW_SHARE)
        return self._probe.look(answers_so_far(tail, self._start_ns)) is not Outcome.UNRESOLVED

    def thinned(self) -> None:
        """Looks are by time."""

    def _now_s(self, tail: Tail) -> float:
        return (tail.seen_ns - self._start_ns) / NS


def main() -> None:
    if (asked := order_to_follow(Probing)) is not None:
        follow(asked.order, _Clear(asked))


main()
