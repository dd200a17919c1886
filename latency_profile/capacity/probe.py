"""One probe: when its transient is over, whether it is to go on, and what is kept of it when it is over. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_profile.capacity.clear import COARSE, Clarity, clear, grows, suffers
from latency_profile.capacity.fit import Blocks, blocks
from latency_profile.capacity.scores import Answers, Scores, scores
from latency_profile.measures import RAMP_LEVEL, RAMP_REQUESTS
from latency_profile.slo.grammar import Objective
from latency_profile.slo.structure import Outcome

TRANSIENT = 5  # times the p95 of E2E: how much of a probe's beginning is left out
AT_ONCE = 0.3  # of the offered rate: growth that is no transient
ROUNDS = 2  # answers to each user of a closed loop, who all began at once, before it is looked at
ROUNDS_LEFT_OUT = 3  # times the p95 of E2E


@dataclass(frozen=True, slots=True)
class Probe:
    """A point to run."""

    load: float  # requests/s, or users of a closed loop
    seconds: float  # at most
    requests: int | None = None  # of a closed loop, at most


@dataclass(frozen=True, slots=True)
class Told:
    """A probe that is over."""

    load: float
    seconds: float
    requests: float
    outcome: Outcome
    score: float  # the worst mean of its objectives; 0 or inf where the outcome is clear
    worst: str | None  # the objective that has it
    suffered: bool
    whole: bool  # it ran for as long as was planned, and in a steady state: its end was not chosen by its figures
    e2e_s: float | None  # p95
    parts: tuple[Blocks | None, ...]  # an objective each; of an open loop


@dataclass(frozen=True, slots=True)
class Running:
    """What is to be known of a probe beforehand."""

    objectives: Sequence[Objective]
    load: float
    planned_s: float
    e2e_s: float = 0.0  # p95 of the probes before; 0 without any
    clear_ends_it: bool = True  # else only an overload does: a probe near the crossing is there to be measured
    clarity: Clarity = COARSE
    requests: int | None = None  # of a closed loop, at most

    @property
    def closed(self) -> bool:
        return self.requests is not None

    def look(self, answers: Answers) -> Outcome:
        """Unresolved where it is to go on."""
        if suffers(answers) or self._overloaded(answers):
            return Outcome.BROKEN
        start_s = self._start_s(answers)
        if answers.now_s < 2 * start_s:
            return Outcome.UNRESOLVED
        if not self.clear_ends_it and answers.now_s < self.planned_s:
            return Outcome.BROKEN if grows(answers, start_s) else Outcome.UNRESOLVED
        if not self.closed and grows(answers, start_s):
            return Outcome.BROKEN
        return clear(self._scored(answers, start_s), self.clarity)

    def told(self, answers: Answers) -> Told:
        start_s = self._start_s(answers)
        scored = self._scored(answers, start_s)
        outcome = self.look(answers)
        found = {each.name: float(of.sums.sum() / of.weights.sum()) for each, of in scored if of.weights.any()}
        means = found.values()
        if outcome is Outcome.UNRESOLVED and self._ended_early(answers):
            # A look ended it, to which it was clear; what was in flight then does not take that back.
            keeps = self.clear_ends_it and max(means, default=math.inf) <= 1
            outcome = Outcome.KEPT if keeps else Outcome.BROKEN
        clearly = {Outcome.KEPT: 0.0, Outcome.BROKEN: math.inf}
        e2e = _ended(answers)
        return Told(
            load=self.load,
            seconds=answers.now_s,
            requests=float(len(answers.due_s)) if self.closed else self.load * answers.now_s,
            outcome=outcome,
            score=clearly.get(outcome, max(means, default=math.inf)),
            worst=max(found, key=found.__getitem__, default=None),
            suffered=suffers(answers),
            whole=answers.now_s >= self.planned_s and not grows(answers, start_s),
            e2e_s=float(np.quantile(e2e, 0.95)) if len(e2e) else None,
            parts=() if self.closed else tuple(blocks(self.load, of, start_s) for _, of in scored),
        )

    def _overloaded(self, answers: Answers) -> bool:
        """A closed loop never is: what is too much for the server keeps its users waiting."""
        if self.closed:
            return False
        ramp_s = _ramp_s(answers)
        return answers.now_s >= 2 * ramp_s and grows(answers, ramp_s, AT_ONCE)

    def _ended_early(self, answers: Answers) -> bool:
        return answers.now_s < self.planned_s and (self.requests is None or len(answers.due_s) < self.requests)

    def _start_s(self, answers: Answers) -> float:
        """When its transient is over: what has ended soon is what took least, and so the probes before count too. At
        most half of what there is: where the backlog grows, E2E does."""
        e2e = _ended(answers)
        if self.closed:
            enough = len(e2e) >= ROUNDS * self.load
            return min(ROUNDS_LEFT_OUT * float(np.quantile(e2e, 0.95)), answers.now_s / 2) if enough else math.inf
        transient_s = TRANSIENT * max(self.e2e_s, float(np.quantile(e2e, 0.95)) if len(e2e) else 0.0)
        return max(_ramp_s(answers), min(transient_s, answers.now_s / 2))

    def _scored(self, answers: Answers, start_s: float) -> list[tuple[Objective, Scores]]:
        return [(objective, scores(answers, objective).after(start_s)) for objective in self.objectives]


def _ended(answers: Answers) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """E2E of the requests that have ended, s."""
    e2e = answers.end_s - answers.due_s
    return e2e[~np.isnan(e2e)]


def _ramp_s(answers: Answers) -> float:
    """How long the backlog grows in any server that was idle: some times as long as the first requests took, which met
    no queue yet; inf until they have ended."""
    if len(answers.due_s) < RAMP_REQUESTS:
        return math.inf
    e2e = (answers.end_s - answers.due_s)[:RAMP_REQUESTS]
    known = np.sort(e2e[~np.isnan(e2e)])
    needed = math.ceil(RAMP_LEVEL * RAMP_REQUESTS)
    return TRANSIENT * float(known[needed - 1]) if len(known) >= needed else math.inf
