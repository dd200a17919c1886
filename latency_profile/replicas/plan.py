"""From points, a target and objectives to the whole plan. Pure but for reading records (`evidence`)."""

from collections.abc import Iterator, Sequence

from latency_profile.replicas.bracket import carried
from latency_profile.replicas.evidence import evidence
from latency_profile.replicas.points import ReplicaPoint, Result
from latency_profile.replicas.sizing import plan_cost, sizing
from latency_profile.replicas.structure import PLAN_VERSION, Carried, Evidence, PlanCost, ReplicaPlan, Sizing
from latency_profile.slo.grammar import Objective
from latency_profile.slo.structure import Outcome

_SPLIT = {  # what becomes of arrivals that a balancer splits, by how they came when they were measured
    "poisson": "Poisson arrivals that are split at random are Poisson at each replica, as they were measured",
    "gamma": "arrivals were of a gamma process when measured, and those of a split stream are nearer to Poisson ones",
    "constant": "arrivals were evenly spaced when measured: any others, and those of a split stream are, take more",
}


def plan(
    points: Sequence[ReplicaPoint],
    objectives: Sequence[Objective],
    target_rate: float,
    headroom: float,
    replicas: int,
    price_per_hour_usd: float | None,
) -> ReplicaPlan:
    """replicas: that served together when the points were measured. price: of all that did; None takes the point's own.
    Raises UsageError where records are there and cannot be read."""
    told = evidence(points, objectives)
    found = carried(told, replicas)
    sized = None if found is None else sizing(target_rate, headroom, found.kept, found.broken)
    of_kept = None if found is None else _kept(points, told, found)
    return ReplicaPlan(
        schema_version=PLAN_VERSION,
        target_rate=target_rate,
        headroom=headroom,
        objectives=[objective.name for objective in objectives],
        measured_replicas=replicas,
        urls=points[0].result.urls,
        points=told,
        carried=found,
        sizing=sized,
        cost=_cost(sized, of_kept, target_rate, replicas, price_per_hour_usd),
        assumptions=[] if sized is None or of_kept is None else list(_assumptions(of_kept, sized, replicas)),
    )


def _kept(points: Sequence[ReplicaPoint], told: Sequence[Evidence], found: Carried) -> Result:
    return next(
        point.result
        for point, each in zip(points, told, strict=True)
        if each.request_rate == found.kept_of and each.outcome is Outcome.KEPT
    )


def _cost(
    sized: Sizing | None, of_kept: Result | None, target_rate: float, replicas: int, price: float | None
) -> PlanCost | None:
    if sized is None or of_kept is None:
        return None
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
        yield f"At the kept rate: {remark.name}: {remark.text}"
