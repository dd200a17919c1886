"""What `latency-profile replicas` prints. Pure."""

from collections.abc import Iterator, Sequence

from latency_profile.cost.per_token import digits
from latency_profile.cost.text import table
from latency_profile.replicas.structure import Carried, Evidence, PlanCost, ReplicaPlan, Searched, Sizing
from latency_profile.slo.structure import Outcome


def lines(found: ReplicaPlan) -> Iterator[str]:
    """The points, what one replica carries, how many it takes, what they cost, and what that rests on."""
    yield f"Replicas for {_target(found)}"
    yield f"Objectives: {', '.join(found.objectives)}"
    yield ""
    yield from table(["load", "offered", "objectives", "verdict", "why"], [_row(each) for each in found.points])
    yield ""
    if found.carried is None or found.sizing is None:
        yield from _nothing(found)
        yield from _assumptions(found)
        return
    yield from _carried(found.carried) if found.searched is None else _by_search(found.carried, found.searched)
    yield from _sizing(found.carried, found.sizing)
    yield _cost(found.cost)
    yield ""
    yield from _assumptions(found)


def _assumptions(found: ReplicaPlan) -> Iterator[str]:
    yield from (f"- {each.rstrip('.')}." for each in found.assumptions)


def _target(found: ReplicaPlan) -> str:
    if found.target_rate is None:
        assert found.in_flight is not None
        return f"{found.in_flight.target:.4g} requests in flight, with a headroom of {found.headroom:.3g}"
    wanted = _rate(found.target_rate * (1 + found.headroom))
    rate = f"{_rate(found.target_rate)}, with a headroom of {found.headroom:.3g} for {wanted}"
    of = found.in_flight
    return rate if of is None else f"{of.target:.4g} requests in flight, of {of.e2e_mean_s:.4g} s each: {rate}"


def _row(of: Evidence) -> list[str]:
    return [
        of.load,
        "" if of.offered_requests_per_s is None else f"{of.offered_requests_per_s:.4g}",
        "no evidence" if of.outcome is None and not of.saturated else _word(of),
        of.verdict,
        "" if of.reason == of.verdict else of.reason,
    ]


def _word(of: Evidence) -> str:
    outcome = of.outcome.value if of.outcome else "not judged"
    return f"{outcome}, saturated" if of.saturated and of.outcome is not Outcome.BROKEN else outcome


def _nothing(found: ReplicaPlan) -> Iterator[str]:
    yield "No number of replicas: no measured rate is known to keep all objectives, below all that break them."
    if any(each.outcome is Outcome.UNRESOLVED for each in found.points):
        yield "Longer points, or --until-ci, tell where a sample does not."
    if any(each.outcome is Outcome.BROKEN or each.saturated for each in found.points):
        yield "Lower rates may keep them: measure some."


def _carried(of: Carried) -> Iterator[str]:
    upper = "no measured rate breaks them: it may carry more, for less"
    if of.broken is not None:
        upper = f"not at {_rate(of.broken)}"
    yield f"One replica keeps all objectives at {_rate(of.kept)}; {upper}."
    if of.unresolved:
        yield f"Samples do not tell at {_listed(of.unresolved)} req/s a replica: longer points there may save replicas."
    if of.skipped:
        yield f"Below that, samples do not tell at {_listed(of.skipped)} req/s a replica."
    if of.not_monotone:
        yield (
            f"The curve is not monotone: {_listed(of.not_monotone)} req/s a replica keep the objectives too, above one "
            "that breaks them. They are not used."
        )


def _by_search(of: Carried, found: Searched) -> Iterator[str]:
    whose = "the search for the capacity" if len(found.files) == 1 else f"{len(found.files)} searches for the capacity"
    if of.broken is None:
        yield (
            f"By {whose}, one replica keeps all objectives at {_rate(of.kept)}, the highest rate that was tried: it "
            "may carry more, for less."
        )
    else:
        yield (
            f"By {whose}, one replica keeps all objectives at {_rate(of.kept)}, the lower end of the "
            f"{found.confidence:.0%} interval; it may carry {_rate(of.broken)} at most, the upper end."
        )
    if of.broken_below:
        yield (
            f"Points at {_listed(of.broken_below)} req/s a replica break the objectives all the same; the search "
            "weighs them against its others."
        )


def _sizing(of: Carried, sized: Sizing) -> Iterator[str]:
    reach = ""
    if sized.at_least is not None and of.broken is not None:
        reach = f" (at least {sized.at_least}, were the truth just below {_rate(of.broken)})"
    yield (
        f"{_replicas(sized.replicas)}{reach}: each gets {_rate(sized.requests_per_s)} at the target, "
        f"{sized.utilization:.0%} of what it is known to keep."
    )
    if sized.one_down is None:
        yield "When it fails, nothing remains."
    else:
        told = {
            Outcome.KEPT: "the objectives are kept",
            Outcome.BROKEN: "the objectives are broken",
            Outcome.UNRESOLVED: "more than is known to be kept",
        }
        yield f"When one fails, each other gets {_rate(sized.one_down.requests_per_s)}: {told[sized.one_down.outcome]}."
    yield f"For the target to be kept when any one fails, without headroom: {_replicas(sized.with_one_spare)}."


def _cost(of: PlanCost | None) -> str:
    if of is None:
        return "No cost: neither the points nor --machine-cost have a price."
    tokens = ""
    if of.usd_per_million_output_tokens is not None:
        tokens = (
            f"; at the target ${digits(of.usd_per_million_output_tokens)} per million output tokens, "
            f"{of.output_tokens_mean:.4g} an answer"
        )
    return (
        f"${digits(of.usd_per_hour)} an hour (${digits(of.usd_per_replica_hour)} each), ${digits(of.usd_per_month)} a "
        f"month of 730 h{tokens}."
    )


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:.4g}" for rate in rates)


def _rate(rate: float) -> str:
    return f"{rate:.4g} req/s"
