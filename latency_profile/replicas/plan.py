"""From points, a target and objectives to the whole plan. Pure but for reading records (`evidence`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latency_profile.errors import UsageError
from latency_profile.replicas.bracket import carried
from latency_profile.replicas.evidence import evidence
from latency_profile.replicas.in_flight import Curve, Measured
from latency_profile.replicas.points import ReplicaPoint, Result
from latency_profile.replicas.searched import Search, carried_by, of_objectives, unused
from latency_profile.replicas.sizing import at_most, plan_cost, sizing
from latency_profile.replicas.structure import PLAN_VERSION, Carried, Evidence, InFlight, PlanCost, ReplicaPlan, Sizing
from latency_profile.slo.grammar import Objective
from latency_profile.slo.structure import Outcome

_SPLIT = {  # what becomes of arrivals that a balancer splits, by how they came when they were measured
    "poisson": "Poisson arrivals that are split at random are Poisson at each replica, as they were measured",
    "gamma": "arrivals were of a gamma process when measured, and those of a split stream are nearer to Poisson ones",
    "constant": "arrivals were evenly spaced when measured: any others, and those of a split stream are, take more",
}
_OF_IN_FLIGHT = (
    "By Little's law, requests in flight are the rate times the mean E2E from due. Between measured rates E2E is taken "
    "to lie on a straight line, and no higher rate to have a lower one: where it bends upward, a part of the headroom "
    "is used up by that",
    "What remains when one fails is told at the same rate. Users who wait for their answers send less as these take "
    "longer, so that it is no more than that",
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
    """replicas: that served together when the points were measured. price: of all that did; None takes the point's own.
    searches: for the capacity, of the points' profiles; they go before points where they were for these objectives.
    Raises UsageError where records are there and cannot be read, and where E2E is not known at the rate in question."""
    told = evidence(points, objectives)
    searched = of_objectives(searches, objectives)
    found = carried(told, replicas) if searched is None else carried_by(searched, told, replicas)
    rate, in_flight = _target(target, points, told, found, headroom, replicas)
    sized = cost = None
    assumptions = list(searched.text) if searched else unused(searches, objectives)
    if found is not None and rate is not None:
        sized, nearest = sizing(rate, headroom, found.kept, found.broken), _nearest(points, told, found)
        cost = _cost(sized, nearest, rate, replicas, price_per_hour_usd)
        assumptions += [*_assumptions(nearest, sized, replicas), *(_OF_IN_FLIGHT if in_flight else ())]
    return ReplicaPlan(
        schema_version=PLAN_VERSION,
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
        assumptions=assumptions,
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
        return None, InFlight(target=target.in_flight, per_replica=None, e2e_mean_s=None)
    try:
        curve = Curve.of(_measured(points, told, replicas))
        planned = found.kept / (1 + headroom)
        count = at_most(target.in_flight, planned * curve.e2e_at(planned))
        each = target.in_flight / count
        rate = curve.rate_at(each)
    except ValueError as error:
        raise UsageError(f"--target-concurrency: got {target.in_flight:g}: {error}") from None
    return rate * count, InFlight(target=target.in_flight, per_replica=each, e2e_mean_s=each / rate)


def _measured(points: Sequence[ReplicaPoint], told: Sequence[Evidence], replicas: int) -> Iterator[Measured]:
    """Points whose mean E2E is that of a load which goes on so: not of a backlog that grows, nor of one that broke the
    objectives, where a search ends a point as soon as an overload shows."""
    for point, each in zip(points, told, strict=True):
        (n, e2e_s), offered = point.result.e2e, each.offered_requests_per_s
        steady = point.result.barred is None and not each.saturated and each.outcome is not Outcome.BROKEN
        if steady and each.request_rate and offered and e2e_s:
            yield Measured(min(each.request_rate, offered) / replicas, e2e_s, n)


def _nearest(points: Sequence[ReplicaPoint], told: Sequence[Evidence], found: Carried) -> Result:
    """The point that the kept rate is of; of a search's rate the one that is nearest to it."""

    def order(pair: tuple[ReplicaPoint, Evidence]) -> tuple[bool, float]:
        rate = pair[1].request_rate
        of_no_use = pair[0].result.barred is not None or pair[1].outcome is not Outcome.KEPT
        return rate is None or of_no_use, abs((rate or 0.0) - found.kept_of)

    return min(zip(points, told, strict=True), key=order)[0].result


def _cost(sized: Sizing, of_kept: Result, target_rate: float, replicas: int, price: float | None) -> PlanCost | None:
    if price is None:
        price = of_kept.cost.machine_cost_per_hour_usd if of_kept.cost else None
    return None if price is None else plan_cost(sized, target_rate, price / replicas, of_kept.output_tokens_mean)


def _assumptions(of: Result, sized: Sizing, replicas: int) -> Iterator[str]:
    urls = "one URL" if of.urls == 1 else f"{of.urls} URLs in turn"
    if replicas == 1:
        yield (
            f"A replica is all that was measured together, behind {urls}; where several served there, "
            "--measured-replicas says how many"
        )
    else:
        yield f"A replica is one of the {replicas} that were measured together behind {urls}, each with an equal part"
    yield (
        f"Load is split evenly. A balancer that does not costs more: the busiest replica may get {sized.imbalance:.3g} "
        "times an even share before it is above the kept rate"
    )
    process = of.load.arrival_process
    yield _SPLIT[process][0].upper() + _SPLIT[process][1:]
    yield "Requests are like those that were measured, in length above all"
    if of.cache is not None and of.cache.intended_hit_rate > 0:
        yield (
            f"Prompts shared {of.cache.intended_hit_rate:.0%} of their tokens when measured; each replica has a cache "
            "of its own, which is hit less often where requests of one prefix go to several"
        )
    for remark in of.verdict.remarks:
        yield f"At {of.load_name}, from which the tokens are: {remark.name}: {remark.text}"
