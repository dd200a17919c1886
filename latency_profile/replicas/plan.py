"""From points, a target and objectives to the whole plan. Pure but for reading records (`evidence`)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latency_profile.capacity.structure import Of
from latency_profile.errors import UsageError
from latency_profile.replicas.assumptions import assumptions
from latency_profile.replicas.bracket import carried
from latency_profile.replicas.evidence import evidence
from latency_profile.replicas.in_flight import Curve, Measured
from latency_profile.replicas.points import ReplicaPoint, Result, kind_of
from latency_profile.replicas.searched import Search, carried_by, of_objectives, unused
from latency_profile.replicas.sizing import at_most, plan_cost, sizing
from latency_profile.replicas.structure import PLAN_VERSION, Carried, Evidence, InFlight, ReplicaPlan, Sizing
from latency_profile.replicas.units import STEPS
from latency_profile.slo.grammar import Objective
from latency_profile.slo.structure import Outcome

_ABOUT = 0.1  # relative: a point at a load that is no further away was measured at about that
_BOTH = (
    "The points of a closed loop tell nothing here, as others are at rates. Given alone, they take "
    "--target-concurrency as it is, without Little's law"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What all replicas together are to carry: requests/s, or (--target-concurrency) requests in flight."""

    rate: float | None = None
    in_flight: float | None = None


def plan(
    points: Sequence[ReplicaPoint],
    objectives: Sequence[Objective],
    target: Target,
    headroom: float,
    replicas: int,
    price_per_hour_usd: float | None,
    searches: Sequence[Search] = (),
) -> ReplicaPlan:
    """target: in flight, where all points are of a closed loop. replicas: that served together when the points were
    measured. price: of all that did; None takes the point's own. searches: for the capacity, of the points' profiles;
    they go before points where they were for these objectives. Raises UsageError where records are there and cannot be
    read, and where E2E is not known at the rate in question."""
    kind = kind_of(points)
    told = evidence(points, objectives, kind)
    searched = of_objectives(searches, objectives)
    found = carried(told, replicas) if searched is None else carried_by(searched, told, kind, replicas)
    rate, in_flight = None, None
    if kind is Of.RATE:
        rate, in_flight = _target(target, points, told, found, headroom, replicas)
    load = rate if kind is Of.RATE else target.in_flight
    sized = cost = None
    said = list(searched.text) if searched else unused(searches, objectives)
    if kind is Of.RATE and target.in_flight is not None and any(each.concurrency for each in told):
        said.append(_BOTH)
    if found is not None and load is not None:
        sized = sizing(load, headroom, found.kept, found.broken, kind, STEPS[kind] / replicas)
        of_kept = _nearest(points, told, kind, found.kept_of)[0]
        if price_per_hour_usd is None and of_kept.cost is not None:
            price_per_hour_usd = of_kept.cost.machine_cost_per_hour_usd
        if price_per_hour_usd is not None:
            answers = _answers(points, told, sized, replicas) if rate is None else (rate, of_kept.output_tokens_mean)
            cost = plan_cost(sized, answers[0], price_per_hour_usd / replicas, answers[1])
        said += assumptions(of_kept, sized, in_flight, kind, replicas)
    if kind is Of.CONCURRENCY and target.in_flight is not None:
        in_flight = _users(target.in_flight, found, sized, headroom)
    return ReplicaPlan(
        schema_version=PLAN_VERSION,
        of=kind,
        target_rate=rate,
        in_flight=in_flight,
        headroom=headroom,
        objectives=[objective.name for objective in objectives],
        measured_replicas=replicas,
        urls=points[0].result.urls,
        points=told,
        searched=searched,
        carried=found,
        sizing=sized,
        cost=cost,
        assumptions=said,
    )


def _target(
    target: Target,
    points: Sequence[ReplicaPoint],
    told: Sequence[Evidence],
    found: Carried | None,
    headroom: float,
    replicas: int,
) -> tuple[float | None, InFlight | None]:
    """The target as a rate: with so many in flight at each of the fewest replicas that are then at the kept rate or
    below, headroom included."""
    if target.in_flight is None:
        return target.rate, None
    if found is None:
        return None, _in_flight(target.in_flight)
    try:
        curve = Curve.of(_measured(points, told, replicas))
        planned = found.kept / (1 + headroom)
        count = at_most(target.in_flight, planned * curve.e2e_at(planned))
        each = target.in_flight / count
        rate = curve.rate_at(each)
    except ValueError as error:
        raise UsageError(f"--target-concurrency: got {target.in_flight:g}: {error}") from None
    return rate * count, _in_flight(target.in_flight, per_replica=each, e2e_mean_s=each / rate)


def _measured(points: Sequence[ReplicaPoint], told: Sequence[Evidence], replicas: int) -> Iterator[Measured]:
    """Points whose mean E2E is that of a load which goes on so: not of a backlog that grows, nor of one that broke the
    objectives, where a search ends a point as soon as an overload shows."""
    for point, each in zip(points, told, strict=True):
        (n, e2e_s), offered = point.result.e2e, each.offered_requests_per_s
        steady = point.result.barred is None and not each.saturated and each.outcome is not Outcome.BROKEN
        if steady and each.request_rate and offered and e2e_s:
            yield Measured(min(each.request_rate, offered) / replicas, e2e_s, n)


def _users(target: float, found: Carried | None, sized: Sizing | None, headroom: float) -> InFlight:
    """The target, by points of a closed loop: it is of their own kind of load."""
    if found is None or sized is None:
        return _in_flight(target)
    scale_at, limit = found.kept / (1 + headroom), math.floor(found.kept) or None
    return _in_flight(target, sized.per_replica, scale_at=scale_at, limit=limit)


def _in_flight(
    target: float,
    per_replica: float | None = None,
    e2e_mean_s: float | None = None,
    scale_at: float | None = None,
    limit: int | None = None,
) -> InFlight:
    return InFlight(target=target, per_replica=per_replica, e2e_mean_s=e2e_mean_s, scale_at=scale_at, limit=limit)


def _nearest(
    points: Sequence[ReplicaPoint], told: Sequence[Evidence], kind: Of, load: float
) -> tuple[Result, Evidence]:
    """The point that keeps the objectives nearest to a load of all that was measured together; where none keeps them
    the nearest."""

    def order(pair: tuple[Result, Evidence]) -> tuple[bool, float]:
        return pair[1].outcome is not Outcome.KEPT, abs((pair[1].asked or 0.0) - load)

    pairs = ((point.result, each) for point, each in zip(points, told, strict=True))
    return min((pair for pair in pairs if pair[0].kind is kind), key=order)


def _answers(
    points: Sequence[ReplicaPoint], told: Sequence[Evidence], sized: Sizing, replicas: int
) -> tuple[float | None, float | None]:
    """Requests/s of all replicas of the plan and output tokens of an answer, of a closed loop: as measured at about the
    load that each then has. None where no point that keeps the objectives was."""
    load = sized.per_replica * replicas
    of, its = _nearest(points, told, Of.CONCURRENCY, load)
    near = its.outcome is Outcome.KEPT and abs((its.asked or 0.0) - load) <= _ABOUT * load * (1 + 1e-9)
    if not near or not its.completed_requests_per_s:
        return None, None
    return its.completed_requests_per_s / replicas * sized.replicas, of.output_tokens_mean
