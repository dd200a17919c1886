"""From a point's records to what it says of each objective."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from latency_profile import measures
from latency_profile.measures import Rows, Window, is_burst
from latency_profile.outcome import Status
from latency_profile.records import Records
from latency_profile.slo import words
from latency_profile.slo.attainment import KEPT, Counted, counted
from latency_profile.slo.grammar import ERRORS, MEAN, Objective, parse
from latency_profile.slo.structure import Attainment, Judged, Outcome, Slo
from latency_profile.statistics import (
    NS_PER_MS,
    NS_PER_S,
    Distribution,
    Known,
    Percentile,
    Sample,
    effective_size,
    known_of,
    share_known,
)
from latency_profile.until_ci.result import Certainty, certainty, describer
from latency_profile.verdict import Kind, Verdict

MS_PER_S = NS_PER_S / NS_PER_MS
# What a server answers that has too much to do, or that breaks under it. All other failures are of a request that it
# would refuse at any load.
OVERLOAD = (
    *(Status.CONNECT_REFUSED, Status.CONNECT_TIMEOUT, Status.TIMEOUT, Status.STALLED, Status.RESET),
    *(Status.DISCONNECTED, Status.TRUNCATED, Status.HTTP_TOO_MANY_REQUESTS, Status.HTTP_SERVER_ERROR),
    *(Status.HTTP_UNAVAILABLE, Status.HTTP_GATEWAY, Status.ERROR_EVENT),
)
# Where the backlog grows the waits grow with it, beyond any limit; the pace of an answer that has begun need not.
WAITS = frozenset({"ttft", "ntpot", "e2e"})


class _Figure(NamedTuple):
    value_s: float | None
    low_s: float | None
    high_s: float | None


class _Judge:
    """Judges objectives by the requests `rows` of a point; what is known of a metric is found once."""

    def __init__(
        self,
        records: Records,
        rows: Rows,
        gaps: Sample | None,
        described: Mapping[str, Distribution | None],
    ) -> None:
        self._records, self._rows, self._gaps = records, rows, gaps
        self._described = dict(described)
        self._known: dict[str, Known] = {}
        self._certainty: Certainty = certainty(records.context)
        self._requests = int(rows.sum())

    def of(self, objective: Objective) -> Judged:
        return self._mean(objective) if objective.level is None else self._share(objective, objective.level)

    def _sample(self, metric: str) -> Sample:
        records, rows = self._records, self._rows
        origin = "sent_ns" if records.context.concurrency is not None else "due_ns"
        if metric == "itl":
            assert self._gaps is not None
            return self._gaps
        if metric == "tpot":
            return measures.time_per_output_token(records, rows)
        if metric == "ttft":
            return measures.time_to_first_token(records, rows, origin)
        if metric == "ntpot":
            return measures.normalized_time_per_output_token(records, rows, origin)
        return measures.end_to_end(records, rows, origin)

    def _of_metric(self, metric: str) -> Known:
        if metric not in self._known:
            self._known[metric] = known_of(self._sample(metric))
        return self._known[metric]

    def _distribution(self, metric: str) -> Distribution:
        found = self._described.get(metric)
        if found is None:
            found = self._described[metric] = describer(self._records.context)(self._sample(metric))
        return found

    def _figure(self, objective: Objective) -> _Figure:
        """The statistic, as the results have it wherever they do."""
        if objective.metric == ERRORS:
            return _Figure(None, None, None)
        of = self._distribution(objective.metric)
        if objective.statistic == MEAN:
            return _Figure(of.mean_s, of.mean_low_s, of.mean_high_s)
        assert objective.level is not None
        found = getattr(of, objective.statistic, None)
        if not isinstance(found, Percentile):
            found = self._certainty.percentile(self._of_metric(objective.metric), objective.level)
        return _Figure(found.value_s, found.low_s, found.high_s)

    def _mean(self, objective: Objective) -> Judged:
        assert objective.limit_ms is not None
        limit_s = objective.limit_ms / MS_PER_S
        value, low, high = figure = self._figure(objective)
        outcome, needed = Outcome.UNRESOLVED, None
        if high is not None and high <= limit_s:
            outcome = Outcome.KEPT
        elif low is not None and low > limit_s:
            outcome = Outcome.BROKEN
        elif value is not None and low is not None and high is not None and value != limit_s:
            reach = high - value if value < limit_s else value - low
            needed = words.rounded_up(self._requests * (reach / (limit_s - value)) ** 2)
        return self._told(objective, outcome, figure, None, needed)

    def _share(self, objective: Objective, level: float) -> Judged:
        of = counted(self._records, self._rows, objective, self._gaps)
        effective = self._effective(of, objective.metric)
        values = of.decided + of.open
        independent = effective * values / of.decided if of.decided else 0.0
        known = share_known(
            of.kept / values if values else 0.0,
            (of.kept + of.open) / values if values else 1.0,
            math.floor(independent),
            level,
            self._certainty.ranks,
        )
        outcome = Outcome.KEPT if known.above else Outcome.BROKEN if known.below else Outcome.UNRESOLVED
        needed = None
        if known.needed is not None and independent:
            needed = words.rounded_up(known.needed / independent * self._requests)
        attainment = Attainment(
            kept=of.kept,
            broken=of.decided - of.kept,
            open=of.open,
            failed=of.failed,
            share=of.kept / of.decided if of.decided else None,
            low=known.low,
            high=known.high,
            effective_n=round(effective, 1),
        )
        return self._told(objective, outcome, self._figure(objective), attainment, needed)

    def _effective(self, of: Counted, metric: str) -> float:
        """How many independent values tell as much. The misses are too few to show by themselves for how long they stay
        together, and where there is none they show nothing: they are taken to hang together as the metric does. Of
        failures, which no queue spaces, nothing more is known than what they show."""
        if not of.decided:
            return 0.0
        if metric == ERRORS:
            return effective_size(of.misses, KEPT)
        known = self._of_metric(metric)
        found = effective_size(of.misses, KEPT, known.memory)
        if not 0 < of.kept < of.decided:
            found /= known.memory
        return max(1.0, min(found, self._certainty.size(known) or found))

    def _told(
        self,
        objective: Objective,
        outcome: Outcome,
        figure: _Figure,
        attainment: Attainment | None,
        needed: int | None,
    ) -> Judged:
        judged = msgspec.structs.replace(
            unjudged(objective, ""),
            outcome=outcome,
            measured_s=figure.value_s,
            measured_low_s=figure.low_s,
            measured_high_s=figure.high_s,
            attainment=attainment,
            needed_requests=needed,
        )
        return words.with_reason(judged)


def slo(
    records: Records,
    rows: Rows,
    span: Window,
    verdict: Verdict,
    described: Mapping[str, Distribution | None],
    gaps: Sample | None,
) -> Slo | None:
    """What the requests `rows` say of the objectives of the settings; None without any.

    verdict: on these requests. described: their latencies by metric, as the results have them. gaps: those of the
    window, None unless streamed.
    """
    names: list[str] = records.context.settings.get("slo") or []
    objectives = [parse(name) for name in names]
    if not objectives:
        return None
    why = _not_judged(records, rows & span.rows, verdict)
    if not why:
        judge = _Judge(records, rows & span.rows, gaps, described)
        judged = [_in_the_long_run(judge.of(objective), span, verdict) for objective in objectives]
        outcome = worst(judged)
        if outcome is Outcome.BROKEN or not verdict.holds(Kind.FAILED):
            return Slo(outcome=outcome, reason="", objectives=judged)
        why = "not judged: FAILED"
    return Slo(outcome=None, reason=why, objectives=[unjudged(objective, why) for objective in objectives])


def _not_judged(records: Records, rows: Rows, verdict: Verdict) -> str:
    if is_burst(records.context):
        return "not judged: a burst has no steady state, and its latencies grow with the number of its requests"
    for kind in (Kind.CLIENT_LIMITED, Kind.CONTAMINATED):
        if verdict.holds(kind):
            return f"not judged: {kind.value}"
    if verdict.holds(Kind.FAILED):
        lost = records["status"][rows & ~measures.succeeded(records, rows) & ~measures.waiting(records)]
        if 2 * int(np.isin(lost, OVERLOAD).sum()) < len(lost):
            return "not judged: FAILED, most of it in ways that are not those of a server with too much to do"
    return ""


def unjudged(objective: Objective, why: str) -> Judged:
    """The objective without an outcome, and why there is none."""
    return Judged(
        name=objective.name,
        metric=objective.metric,
        statistic=objective.statistic,
        limit_s=None if objective.limit_ms is None else objective.limit_ms / MS_PER_S,
        level=objective.level,
        outcome=None,
        reason=why,
    )


def _in_the_long_run(judged: Judged, span: Window, verdict: Verdict) -> Judged:
    """What the window shows is not what such a load comes to where the backlog grows, or where the window is over
    before it could show whether it does."""
    if verdict.holds(Kind.SATURATED):
        if judged.metric in WAITS:
            return words.because(judged, Outcome.BROKEN, words.GROWS)
        if judged.outcome is not Outcome.BROKEN:
            return words.because(judged, Outcome.UNRESOLVED, words.GROWS_UNSEEN)
    elif span.filled.length_s <= 0 and judged.outcome is Outcome.KEPT:
        return words.because(judged, Outcome.UNRESOLVED, words.TOO_SHORT)
    return judged


def worst(judged: list[Judged]) -> Outcome:
    """Of all objectives together."""
    found = {objective.outcome for objective in judged}
    return next(outcome for outcome in (Outcome.BROKEN, Outcome.UNRESOLVED, Outcome.KEPT) if outcome in found)
