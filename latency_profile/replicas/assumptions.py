"""What a number of replicas rests on, a sentence each. Pure."""

from collections.abc import Iterator

from latency_profile.capacity.structure import Of
from latency_profile.replicas.points import Result
from latency_profile.replicas.structure import InFlight, Sizing
from latency_profile.replicas.units import NOUNS

_SPLIT = {  # what becomes of arrivals that a balancer splits, by how they came when they were measured
    "poisson": "Poisson arrivals that are split at random are Poisson at each replica, as they were measured",
    "gamma": "arrivals were of a gamma process when measured, and those of a split stream are nearer to Poisson ones",
    "constant": "arrivals were evenly spaced when measured: any others, and those of a split stream are, take more",
}
_BY_LITTLES_LAW = (
    "By Little's law, requests in flight are the rate times the mean E2E from due. Between measured rates E2E is taken "
    "to lie on a straight line, and no higher rate to have a lower one: where it bends upward, a part of the headroom "
    "is used up by that",
    "What remains when one fails is told at the same rate. Users who wait for their answers send less as these take "
    "longer, so that it is no more than that",
)
_OF_USERS = (
    "Users wait for their answers and ask again at once, as when measured. Of those who pause between, not all are in "
    "flight at a time: with their number as the target there are more replicas than they need",
    "The target is the most that is in flight at a time, not a mean. Requests that arrive whether or not others are "
    "answered have no such bound: measure them at rates (--request-rates), and give --target-rate",
    "An autoscaler is late, and lets small deviations be (an HPA 10 %, unless told otherwise): the headroom is for "
    "both. What waits at a gateway because of its limit is latency too, and in no figure here",
)


def assumptions(of: Result, sized: Sizing, in_flight: InFlight | None, kind: Of, replicas: int) -> Iterator[str]:
    """of: the point that the kept load is of. replicas: that served together when it was measured."""
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
        f"times an even share before it is above the kept {NOUNS[kind]}"
    )
    if kind is Of.RATE:
        process = of.load.arrival_process
        split = _SPLIT.get(
            process, f"arrivals were of the law {process!r} when measured, and those of a split stream differ"
        )
        yield split[0].upper() + split[1:]
    else:
        yield "A balancer that deals requests out in turn splits users unevenly: they gather where answers take longer"
        yield from _OF_USERS
        if sized.one_down is not None:
            yield "When one fails, its users wait at the others, and all of them longer for each answer"
    yield "Requests are like those that were measured, in length above all"
    if of.cache is not None and of.cache.intended_hit_rate > 0:
        yield (
            f"Prompts shared {of.cache.intended_hit_rate:.0%} of their tokens when measured; each replica has a cache "
            "of its own, which is hit less often where requests of one prefix go to several"
        )
    for remark in of.verdict.remarks:
        whose = ", from which the tokens are" if kind is Of.RATE else ""
        yield f"At {of.load_name}{whose}: {remark.name}: {remark.text}"
    if kind is Of.RATE and in_flight is not None:
        yield from _BY_LITTLES_LAW
