"""Which concurrency to try next, for how long, and when to stop: the highest number of users of a closed loop that
keeps the objectives. Pure, as `search` is for rates, and with the same doors.

There is nothing between 5 users and 6, and nothing collapses: what is too much for a server keeps its users waiting,
and latency grows about as their number does. So no line is fitted. Each probe goes on until it is clear, and counts
for the two ends of the interval only then:

1. the concurrency is doubled until a probe breaks an objective;
2. then the middle is tried of what is clearly kept and clearly broken. A concurrency so near the capacity that its
   probe is not clear after the most requests stays in between, and those beside it are tried instead.

The interval holds with the wanted confidence: a probe errs, at any of its looks, with 1 / MOST_PROBES of what is left
for errors (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from latency_profile.capacity.clear import Clarity
from latency_profile.capacity.probe import ROUNDS, ROUNDS_LEFT_OUT, Probe, Running, Told
from latency_profile.capacity.probes import coarse_requests, suffers_for_long
from latency_profile.capacity.scores import Answers
from latency_profile.capacity.structure import Capacity, Ended, Of
from latency_profile.slo.grammar import Objective
from latency_profile.slo.structure import Outcome
from latency_profile.statistics import CONFIDENCE

MOST_PROBES = 24
LONGEST = 8  # times as many requests as tell roughly: a probe that is not clear by then is too near
TIGHTEST_AT = 2000  # independent requests
REASONS = {
    Ended.MAX_CONCURRENCY_KEPT: "the highest concurrency that may be tried keeps all objectives",
    Ended.MAX_DURATION: "the time was over before the interval was as narrow as wanted",
    Ended.SERVER_SUFFERS: "half of the requests failed, so that the server was left alone",
    Ended.UNRESOLVED: "what lies between is too near the capacity to tell",
    Ended.FIRST_CONCURRENCY_BROKEN: "the first concurrency breaks an objective already",
}


@dataclass(slots=True)
class UsersSearch:
    """`next` says what to run, `running` how it is looked at, `told` takes what came of it."""

    objectives: Sequence[Objective]  # none of gaps (itl)
    lowest: int
    highest: int
    max_seconds: float = math.inf  # of all probes' sending
    width: float = 0.06  # relative, of the wanted interval; two neighbours are always narrow enough
    confidence: float = CONFIDENCE
    _probes: list[Told] = field(default_factory=list)
    _lost_s: float = 0.0  # of sending, for probes that had to be sent again
    _asked: int = 0  # users of the last probe

    def next(self) -> Probe | Capacity:
        """The next probe, or what was found."""
        if suffers_for_long(self._probes, self.lowest):
            return self._done(Ended.SERVER_SUFFERS)
        if not self._probes:
            return self._probe(self.lowest)
        kept, broken = self._ends()
        if broken == self.lowest:
            return self._done(Ended.FIRST_CONCURRENCY_BROKEN)
        if kept == self.highest:
            return self._done(Ended.MAX_CONCURRENCY_KEPT)
        if broken is not None and kept is not None and self._narrow(kept, broken):
            return self._done(Ended.CONFIRMED)
        users = self._further() if broken is None else self._between(kept, broken)
        if users is None or len(self._probes) == MOST_PROBES:
            return self._done(Ended.UNRESOLVED)
        return self._done(Ended.MAX_DURATION) if self._left_s() <= 0 else self._probe(users)

    @property
    def most_requests(self) -> int:
        """All that a search can send."""
        return MOST_PROBES * self._requests(self.highest)

    def running(self) -> Running:
        """What the looks at the probe that `next` gave need to know."""
        return Running(
            self.objectives,
            self._asked,
            self._left_s(),
            clarity=Clarity((1 - self.confidence) / MOST_PROBES / len(self.objectives), TIGHTEST_AT),
            requests=self._requests(self._asked),
        )

    def told(self, answers: Answers) -> None:
        """Of the probe that `next` or `again` gave, when it is over."""
        self._probes.append(self.running().told(answers))

    def again(self, sent_s: float) -> Probe | Capacity:
        """The last probe once more: it was sent for `sent_s`, and tells nothing."""
        self._lost_s += sent_s
        return self._done(Ended.MAX_DURATION) if self._left_s() <= 0 else self._probe(self._asked)

    def gave_up(self, reason: str = "", ended: Ended = Ended.CUT_SHORT) -> Capacity:
        """What is known where the search cannot go on."""
        return self._done(ended, reason)

    def _probe(self, users: int) -> Probe:
        self._asked = users
        return Probe(users, self._left_s(), self._requests(users))

    def _requests(self, users: int) -> int:
        """At most, of a probe."""
        return math.ceil(LONGEST * coarse_requests(self.objectives)) + (ROUNDS + ROUNDS_LEFT_OUT) * users

    def _left_s(self) -> float:
        return self.max_seconds - self._sent_s()

    def _sent_s(self) -> float:
        return self._lost_s + sum(probe.seconds for probe in self._probes)

    def _tried(self, outcome: Outcome) -> list[int]:
        return [round(probe.load) for probe in self._probes if probe.outcome is outcome]

    def _ends(self) -> tuple[int | None, int | None]:
        """The highest concurrency that was clearly kept, below the lowest that was clearly broken."""
        broken = min(self._tried(Outcome.BROKEN), default=None)
        kept = [users for users in self._tried(Outcome.KEPT) if broken is None or users < broken]
        return max(kept, default=None), broken

    def _narrow(self, kept: int, broken: int) -> bool:
        """The capacity is one of kept … broken - 1."""
        return broken - 1 - kept <= self.width * kept

    def _further(self) -> int | None:
        """Twice as many as the most that were tried."""
        most = max(round(probe.load) for probe in self._probes)
        return None if most == self.highest else min(2 * most, self.highest)

    def _between(self, kept: int | None, broken: int) -> int | None:
        """The middle of the wider of the two gaps beside what was not clear."""
        if kept is None:  # the first was not clear
            return None
        unclear = [users for users in self._tried(Outcome.UNRESOLVED) if kept < users < broken]
        gaps = [(kept, min(unclear, default=broken)), (max(unclear, default=kept), broken)]
        first, last = max(gaps, key=lambda gap: gap[1] / gap[0])
        if last - first > 1:
            return min(max(round(math.sqrt(first * last)), first + 1), last - 1)
        first, last = min(gaps, key=lambda gap: gap[1] / gap[0])  # neighbours in the one, but not in the other
        return round((first + last) / 2) if last - first > 1 else None

    def _done(self, ended: Ended, why: str = "") -> Capacity:
        kept, broken = self._ends()
        low, high = (kept, broken - 1) if kept is not None and broken is not None else (None, None)
        return Capacity(
            of=Of.CONCURRENCY,
            estimate=None if low is None or high is None else float(self._estimate(low, high)),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            confidence=self.confidence,
            binding=None if broken is None else next(each.worst for each in self._probes if each.load == broken),
            highest_kept=max(map(float, self._tried(Outcome.KEPT)), default=None),
            lowest_broken=None if broken is None else float(broken),
            probes=len(self._probes),
            requests=sum(probe.requests for probe in self._probes),
            seconds=self._sent_s(),
            ended=ended,
            reason=why or REASONS.get(ended, ""),
        )

    def _estimate(self, low: int, high: int) -> int:
        """The most users of whom an unclear probe kept the objectives by its figures; without one the middle."""
        unclear = [probe for probe in self._probes if probe.outcome is Outcome.UNRESOLVED and low < probe.load <= high]
        if not unclear:
            return round(math.sqrt(low * high))
        return max([low, *(round(probe.load) for probe in unclear if probe.score <= 1)])
