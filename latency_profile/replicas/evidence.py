"""What a point says of objectives that may be others than its run was given."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from latency_profile.capacity.structure import Of
from latency_profile.replicas.points import ReplicaPoint, Result
from latency_profile.replicas.structure import Basis, Evidence
from latency_profile.results.found import load_records, records_in
from latency_profile.results.latency import by_metric
from latency_profile.results.point import point_result
from latency_profile.results.structure import Latency
from latency_profile.slo import words
from latency_profile.slo.grammar import ERRORS, Objective
from latency_profile.slo.judge import WAITS, unjudged, worst
from latency_profile.slo.loads import PointSlo
from latency_profile.slo.structure import Judged, Outcome, Slo
from latency_profile.statistics import Distribution, Percentile

_WITHOUT_RECORDS = "from the results without their records"


def evidence(points: Iterable[ReplicaPoint], objectives: Sequence[Objective], of: Of) -> list[Evidence]:
    """Of each point, in the same order; those of another kind of load than `of` tell nothing. Records are read where
    the results themselves do not tell."""
    beside: dict[Path, dict[int, Path]] = {}
    found = []
    for point in points:
        slo, basis = judged_by_run(point.result, objectives), Basis.RESULTS
        if slo is None:
            path = _records_of(point, beside)
            if path is not None:
                slo, basis = _again(path, point.result, objectives), Basis.RECORDS
        if slo is None:
            slo, basis = _by_intervals(point.result, objectives), Basis.INTERVALS
        found.append(_told(point, slo, basis, of))
    return found


def _told(point: ReplicaPoint, slo: Slo, basis: Basis, unit: Of) -> Evidence:
    of = point.result
    outcome, why = slo.outcome, slo.reason
    if of.kind is not unit:
        whose = {Of.RATE: "an open loop", Of.CONCURRENCY: "a closed loop", None: "a burst"}[of.kind]
        outcome, why = None, f"{whose} has no {'rate' if unit is Of.RATE else 'fixed number in flight'}"
    elif of.barred is not None and (of.cut_short is not None or outcome is not Outcome.BROKEN):
        outcome, why = None, of.barred  # a FAILED point can break objectives, and keeps none
    elif outcome is Outcome.KEPT:
        why = ""
    elif outcome is not None:
        why = PointSlo(of.load.request_rate, of.load.concurrency, slo).why
    return Evidence(
        file=point.place,
        load=of.load_name,
        request_rate=of.load.request_rate,
        concurrency=of.load.concurrency,
        offered_requests_per_s=of.load.offered_requests_per_s,
        completed_requests_per_s=of.load.completed_requests_per_s,
        verdict=of.verdict.verdict,
        remarks=[remark.name for remark in of.verdict.remarks],
        outcome=outcome,
        saturated=of.saturated and of.cut_short is None,
        basis=None if outcome is None else basis,
        reason=why,
    )


def judged_by_run(of: Result, objectives: Sequence[Objective]) -> Slo | None:
    """From what the point's own run judged; None where that had other objectives, or is of another version."""
    if of.slo is None:
        return None
    try:
        slo = msgspec.convert(of.slo, Slo)
    except msgspec.ValidationError:
        return None
    judged = {each.name: each for each in slo.objectives}
    if not all(objective.name in judged for objective in objectives):
        return None
    asked = [judged[objective.name] for objective in objectives]
    if slo.outcome is None:
        return Slo(outcome=None, reason=slo.reason, objectives=asked)
    return Slo(outcome=worst(asked), reason="", objectives=asked)


def _records_of(point: ReplicaPoint, beside: dict[Path, dict[int, Path]]) -> Path | None:
    if point.path.suffix == ".npz":
        return point.path
    folder = point.path.parent
    if folder not in beside:
        beside[folder] = records_in(folder)
    return beside[folder].get(point.result.started_ns)


def _again(path: Path, of: Result, objectives: Sequence[Objective]) -> Slo | None:
    """Judged from the records, as the point's run would have with these objectives."""
    records = load_records(path)
    settings = {**records.context.settings, "slo": [objective.name for objective in objectives]}
    records = replace(records, context=msgspec.structs.replace(records.context, settings=settings))
    return point_result(records, None if of.of_all_models else of.config.model).slo


def _by_intervals(of: Result, objectives: Sequence[Objective]) -> Slo:
    """From the intervals that the results have of percentiles and means."""
    why = ""
    if of.burst:
        why = "a burst has no rate"
    elif of.barred is not None:
        why = of.barred
    if why:
        return Slo(outcome=None, reason=why, objectives=[unjudged(objective, why) for objective in objectives])
    judged = [_by_interval(of, objective) for objective in objectives]
    return Slo(outcome=worst(judged), reason="", objectives=judged)


def _by_interval(of: Result, objective: Objective) -> Judged:
    figure = None if objective.metric == ERRORS else _figure(of, objective)
    judged = unjudged(objective, "")
    if figure is None:
        why = f"{_WITHOUT_RECORDS} there is no interval of {objective.figure}"
        return msgspec.structs.replace(judged, outcome=Outcome.UNRESOLVED, reason=why)
    assert judged.limit_s is not None  # of all but errors
    limit_s, (value, low, high) = judged.limit_s, figure
    judged = msgspec.structs.replace(judged, measured_s=value, measured_low_s=low, measured_high_s=high)
    if of.saturated and objective.metric in WAITS:
        return words.because(judged, Outcome.BROKEN, words.GROWS)
    if low is not None and low > limit_s:  # failed requests, which are in no percentile, make it no better
        return words.because(judged, Outcome.BROKEN, _WITHOUT_RECORDS)
    if of.saturated:
        return words.because(judged, Outcome.UNRESOLVED, words.GROWS_UNSEEN)
    if high is None or high > limit_s:
        return words.because(judged, Outcome.UNRESOLVED, _WITHOUT_RECORDS)
    if of.load.counts.failed:
        why = f"{of.load.counts.failed} requests failed, which only the records tell apart"
        return words.because(judged, Outcome.UNRESOLVED, why)
    if of.window.rates_start_s >= of.window.end_s:
        return words.because(judged, Outcome.UNRESOLVED, words.TOO_SHORT)
    return words.because(judged, Outcome.KEPT, _WITHOUT_RECORDS)


def _figure(of: Result, objective: Objective) -> tuple[float | None, float | None, float | None] | None:
    """The statistic in s with its interval; None where the results have none."""
    try:
        known = by_metric(msgspec.convert(of.latency, Latency))[objective.metric]
    except msgspec.ValidationError:  # of another version
        return None
    if not isinstance(known, Distribution):
        return None
    if objective.level is None:
        return known.mean_s, known.mean_low_s, known.mean_high_s
    found = getattr(known, objective.statistic, None)
    return (found.value_s, found.low_s, found.high_s) if isinstance(found, Percentile) else None
