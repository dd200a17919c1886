"""Which rate to try next, for how long, and when to stop. Pure: no clock, no sockets; told what came of each probe.

1. A bracket: the rate is doubled until a probe breaks an objective; then the middle of the two ends is tried, until
   they are within BRACKET of each other. A probe is over as soon as it is clear, or after as many requests as tell
   roughly. Which ends they are says the isotonic curve through all probes (`isotonic`).
2. Refinement: the next probe is where a request takes most away from the variance of the crossing (`near`). Such a
   probe runs for as long as was planned, unless the server is overloaded: an end that its figures choose would bend
   them.
3. A last confirmation at the interval's lower end, which must not be clearly broken there.

Between two probes the server is to be idle. Each begins with a transient, which is left out. Told the same again, a
search asks the same again: one that was interrupted is taken up by telling it all probes that are there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from latency_profile.capacity import isotonic
from latency_profile.capacity.near import REACH, Near, near, teaching
from latency_profile.capacity.probe import TRANSIENT, Probe, Running, Told
from latency_profile.capacity.probes import coarse_requests, suffers_for_long
from latency_profile.capacity.scores import Answers
from latency_profile.capacity.structure import Capacity, Ended
from latency_profile.slo.grammar import Objective
from latency_profile.slo.structure import Outcome
from latency_profile.statistics import CONFIDENCE

BRACKET = 1.2
DIGITS = 4  # of a rate: people read it
FACTOR = 2.0  # from one rate to the next, until one is broken
FEWEST_PROBES = 4  # that a crossing must rest on
FEWEST_BLIND, MOST_BLIND = 3, 12  # probes near the crossing without a line, before the scores are taken to jump there
MOST_PROBES = 50
MARGIN = 0.9  # of the wanted width, which is what the search goes for: the last probe moves the interval
_BETWEEN = "the capacity lies between the highest rate that was clearly kept and the lowest that was clearly broken"
REASONS = {
    Ended.MAX_RATE_KEPT: "the highest rate that may be tried keeps all objectives",
    Ended.MAX_DURATION: "the time was over before the interval was as narrow as wanted and confirmed",
    Ended.SERVER_SUFFERS: "half of the requests failed, so that the server was left alone",
    Ended.UNRESOLVED: "the probes do not tell a capacity as narrowly as wanted",
    Ended.FIRST_RATE_BROKEN: "the first rate breaks an objective already",
}
UNCLEAR = {  # the same by the figures of a probe that is not clear
    Ended.MAX_RATE_KEPT: "the highest rate that may be tried seems to keep all objectives, but not clearly",
    Ended.FIRST_RATE_BROKEN: "the first rate seems to break an objective already, but not clearly",
}


@dataclass(slots=True)
class Search:
    """`next` says what to run, `look` whether it has run for long enough, `told` takes what came of it."""

    objectives: Sequence[Objective]  # none of gaps (itl)
    lowest: float  # requests/s: the first rate
    max_rate: float
    max_seconds: float = math.inf  # of all probes' sending
    width: float = 0.06  # relative, of the wanted interval
    confidence: float = CONFIDENCE
    _probes: list[Told] = field(default_factory=list)
    _lost_s: float = 0.0  # of sending, for probes that had to be sent again
    _asked: float = 0.0  # requests/s of the last probe
    _planned_s: float = 0.0  # for how long at most it was to run
    _x: float | None = None  # log of the crossing, as far as it was known last
    _blind: int = 0  # probes that were put near the crossing without a line
    _close: bool = False  # the bracket was narrow enough once
    _confirming: bool = False
    _confirmed: bool = False

    def next(self) -> Probe | Capacity:
        """The next probe, or what was found."""
        over = self._over()
        if over is not None:
            return self._done(over)
        if not self._probes:
            return self._probe(self.lowest, self._coarse())
        kept, broken = self._ends()
        if broken is None:
            assert kept is not None
            rate = min(FACTOR * kept, self.max_rate)
            return self._done(Ended.MAX_RATE_KEPT) if kept >= self.max_rate else self._probe(rate, self._coarse())
        if kept is None:
            return self._done(Ended.FIRST_RATE_BROKEN)
        self._close = self._close or broken / kept <= BRACKET
        if not self._close:
            return self._probe(math.sqrt(kept * broken), self._coarse())
        found = self._near()
        binding = found.binding
        if binding is None:
            return self._without_a_line(kept, broken)
        if found.width > self.width * MARGIN or binding.probes < FEWEST_PROBES:
            below = self._overloaded_from()
            rate, requests = teaching(found, below, self.width * MARGIN, self.confidence, self._coarse())
            return self._probe(min(rate, self.max_rate), requests)
        if self._confirmed:
            return self._done(Ended.CONFIRMED, found)
        assert binding.low is not None
        self._confirming = True
        return self._probe(math.exp(binding.low), self._coarse())

    def look(self, answers: Answers) -> Outcome:
        """Of the probe that runs: unresolved where it is to go on."""
        return self.running().look(answers)

    def told(self, answers: Answers) -> None:
        """Of the probe that `next` or `again` gave, when it is over: what its requests came to while it was sent."""
        probe = self.running().told(answers)
        self._probes.append(probe)
        if self._confirming:
            self._confirming, self._confirmed = False, probe.outcome is not Outcome.BROKEN

    def running(self) -> Running:
        """What the looks at the probe that `next` gave need to know."""
        return Running(self.objectives, self._asked, self._planned_s, self._e2e_s(), clear_ends_it=not self._close)

    def _e2e_s(self) -> float:
        """p95, of the last probe that was not overloaded."""
        known = [each.e2e_s for each in self._probes if each.outcome is not Outcome.BROKEN and each.e2e_s is not None]
        return known[-1] if known else 0.0

    def _probe(self, rate: float, requests: float) -> Probe:
        if rate not in (self.lowest, self.max_rate):  # the two that the user gave, to which probes are compared
            rate = min(float(f"{rate:.{DIGITS}g}"), self.max_rate)
        self._asked = rate
        self._planned_s = min(self._left_s(), requests / rate + TRANSIENT * self._e2e_s())
        return Probe(rate, self._planned_s)

    def _left_s(self) -> float:
        return self.max_seconds - self._sent_s()

    def _sent_s(self) -> float:
        return self._lost_s + sum(probe.seconds for probe in self._probes)

    def _coarse(self) -> float:
        return coarse_requests(self.objectives)

    def _over(self) -> Ended | None:
        if suffers_for_long(self._probes, self.lowest):
            return Ended.SERVER_SUFFERS
        if self._left_s() <= 0:
            return Ended.MAX_DURATION
        return Ended.UNRESOLVED if len(self._probes) >= MOST_PROBES + self._confirmed else None

    def _ends(self) -> tuple[float | None, float | None]:
        """The highest rate that keeps the objectives, and the lowest that does not, as far as all probes together say.
        One that ended early because it was clear weighs as much as one of full length."""
        return isotonic.ends([(probe.load, probe.score, max(probe.requests, self._coarse())) for probe in self._probes])

    def _near(self) -> Near:
        kept, broken = self._ends()
        if not self._close or kept is None or broken is None:
            return Near((None,) * len(self.objectives), 0.0)
        start = math.log(kept * broken) / 2 if self._x is None else self._x
        found = near(self._probes, len(self.objectives), start, self.confidence)
        self._x = found.binding.x if found.binding is not None else None
        return found

    def _without_a_line(self, kept: float, broken: float) -> Probe | Capacity:
        """Where the scores jump, or no two probes near have told enough yet."""
        clear = self._clear_ends()
        if self._blind >= FEWEST_BLIND and clear is not None and clear[1] / clear[0] <= 1 + self.width:
            return self._done(Ended.CONFIRMED)
        if self._blind == MOST_BLIND:
            return self._done(Ended.UNRESOLVED)
        self._blind += 1
        aside = 0.0 if broken / kept > 1 + self.width / 2 else REACH * (-1) ** self._blind
        return self._probe(math.sqrt(kept * broken) * math.exp(aside), (1 + self._blind) * self._coarse())

    def _overloaded_from(self) -> float:
        """The lowest rate that was an overload, above all that were not: below these it was a false alarm, the first
        time."""
        steady = max((probe.load for probe in self._probes if probe.whole), default=0.0)
        broken = [probe.load for probe in self._probes if probe.outcome is Outcome.BROKEN and not probe.whole]
        return min((rate for rate in broken if rate > steady or broken.count(rate) > 1), default=math.inf)

    def _clear_ends(self) -> tuple[float, float] | None:
        """The highest rate that was clearly kept below the lowest that was clearly broken."""
        broken = min(self._rates(Outcome.BROKEN), default=math.inf)
        kept = max((rate for rate in self._rates(Outcome.KEPT) if rate < broken), default=None)
        return None if kept is None or math.isinf(broken) else (kept, broken)

    def _rates(self, outcome: Outcome) -> list[float]:
        return [probe.load for probe in self._probes if probe.outcome is outcome]

    def again(self, sent_s: float) -> Probe | Capacity:
        """The last probe once more: it was sent for `sent_s`, and tells nothing."""
        self._lost_s += sent_s
        left_s = self._left_s()
        if left_s <= 0:
            return self._done(Ended.MAX_DURATION)
        self._planned_s = min(self._planned_s, left_s)
        return Probe(self._asked, self._planned_s)

    def gave_up(self, reason: str = "", ended: Ended = Ended.CUT_SHORT) -> Capacity:
        """What is known where the search cannot go on."""
        return self._done(ended, why=reason)

    def _done(self, ended: Ended, found: Near | None = None, why: str = "") -> Capacity:
        found = found or self._near()
        binding = found.binding
        low, high = found.interval
        highest_kept = max(self._rates(Outcome.KEPT), default=None)
        lowest_broken = min(self._rates(Outcome.BROKEN), default=None)
        clearly = highest_kept == self.max_rate if ended is Ended.MAX_RATE_KEPT else lowest_broken == self.lowest
        reasons = REASONS if clearly else REASONS | UNCLEAR
        estimate, reason = (math.exp(binding.x) if binding is not None else None), why or reasons.get(ended, "")
        if binding is None and (clear := self._clear_ends()) is not None:
            low, high = clear
            estimate = math.sqrt(low * high)
            reason = f"{reason}; {_BETWEEN}" if reason else _BETWEEN
        return Capacity(
            estimate=estimate,
            low=low,
            high=high,
            confidence=self.confidence,
            binding=self.objectives[found.crossings.index(binding)].name if binding is not None else None,
            highest_kept=highest_kept,
            lowest_broken=lowest_broken,
            probes=len(self._probes),
            requests=sum(probe.requests for probe in self._probes),
            seconds=self._sent_s(),
            ended=ended,
            reason=reason,
        )
