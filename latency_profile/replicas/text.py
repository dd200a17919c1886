"""What `latency-profile replicas` prints. Pure."""

from collections.abc import Iterator, Sequence

from latency_profile.capacity.structure import Of
from latency_profile.capacity.text import UNITS
from latency_profile.cost.per_token import digits
from latency_profile.cost.text import table
from latency_profile.replicas.structure import Carried, Evidence, InFlight, PlanCost, ReplicaPlan, Searched, Sizing
from latency_profile.replicas.units import NOUNS, load_text
from latency_profile.slo.structure import Outcome


def lines(found: ReplicaPlan) -> Iterator[str]:
    """The points, what one replica carries, how many it takes, what they cost, and what that rests on."""
    yield f"Replicas for {_target(found)}"
    yield f"Objectives: {', '.join(found.objectives)}"
    yield ""
    of_plan = "offered" if found.of is Of.RATE else "answers/s"
    yield from table(["load", of_plan, "objectives", "verdict", "why"], [_row(each, found.of) for each in found.points])
    yield ""
    if found.carried is None or found.sizing is None:
        yield from _nothing(found)
        yield from _assumptions(found)
        return
    if found.searched is None:
        yield from _carried(found.carried, found.of)
    else:
        yield from _by_search(found.carried, found.searched, found.of, found.measured_replicas)
    yield from _sizing(found.carried, found.sizing, found.of)
    if found.of is Of.CONCURRENCY and found.in_flight is not None:
        yield from _limits(found.in_flight)
    yield _cost(found.cost, found.of)
    yield ""
    yield from _assumptions(found)


def _assumptions(found: ReplicaPlan) -> Iterator[str]:
    yield from (f"- {each.rstrip('.')}." for each in found.assumptions)


def _target(found: ReplicaPlan) -> str:
    of = found.in_flight
    target = found.target_rate
    if target is None:
        assert of is not None
        said = f"{of.target:.4g} requests in flight"
        if found.of is Of.RATE:  # and nothing is carried
            return f"{said}, with a headroom of {found.headroom:.3g}"
        return f"{said}, with a headroom of {found.headroom:.3g} for {of.target * (1 + found.headroom):.4g}"
    wanted = load_text(target * (1 + found.headroom), Of.RATE)
    rate = f"{load_text(target, Of.RATE)}, with a headroom of {found.headroom:.3g} for {wanted}"
    return rate if of is None else f"{of.target:.4g} requests in flight, of {of.e2e_mean_s:.4g} s each: {rate}"


def _row(of: Evidence, kind: Of) -> list[str]:
    shown = of.offered_requests_per_s if kind is Of.RATE else of.completed_requests_per_s
    return [
        of.load,
        "" if shown is None else f"{shown:.4g}",
        "no evidence" if of.outcome is None and not of.saturated else _word(of),
        of.verdict,
        "" if of.reason == of.verdict else of.reason,
    ]


def _word(of: Evidence) -> str:
    outcome = of.outcome.value if of.outcome else "not judged"
    return f"{outcome}, saturated" if of.saturated and of.outcome is not Outcome.BROKEN else outcome


def _nothing(found: ReplicaPlan) -> Iterator[str]:
    noun = NOUNS[found.of]
    yield f"No number of replicas: no measured {noun} is known to keep all objectives, below all that break them."
    if any(each.outcome is Outcome.UNRESOLVED for each in found.points):
        yield "Longer points, or --until-ci, tell where a sample does not."
    broken = [each for each in found.points if each.outcome is Outcome.BROKEN or each.saturated]
    if any(each.concurrency == 1 for each in broken):
        yield "A single request in flight breaks them already: it takes a faster replica, not more of them."
    elif broken:
        yield f"{'Lower rates' if found.of is Of.RATE else 'Fewer'} may keep them: measure some."


def _carried(of: Carried, kind: Of) -> Iterator[str]:
    upper = f"no measured {NOUNS[kind]} breaks them: it may carry more, for less"
    if of.broken is not None:
        upper = f"not at {load_text(of.broken, kind)}"
    yield f"One replica keeps all objectives at {load_text(of.kept, kind)}; {upper}."
    if of.unresolved:
        yield f"Samples do not tell at {_listed(of.unresolved, kind)}: longer points there may save replicas."
    if of.skipped:
        yield f"Below that, samples do not tell at {_listed(of.skipped, kind)}."
    if of.not_monotone:
        yield (
            f"The curve is not monotone: {_listed(of.not_monotone, kind)} keep the objectives too, above one "
            "that breaks them. They are not used."
        )


def _by_search(of: Carried, found: Searched, kind: Of, replicas: int) -> Iterator[str]:
    whose = "the search for the capacity" if len(found.files) == 1 else f"{len(found.files)} searches for the capacity"
    kept = f"By {whose}, one replica keeps all objectives at {load_text(of.kept, kind)}"
    if found.high is None:
        yield f"{kept}, the highest {NOUNS[kind]} that was tried: it may carry more, for less."
    elif found.high == found.low and of.broken is not None and kind is Of.CONCURRENCY:
        yield f"{kept}, and not at {load_text(of.broken, kind)}: both ends of the {found.confidence:.0%} interval."
    else:
        most = load_text(found.high / replicas, kind)
        yield (
            f"{kept}, the lower end of the {found.confidence:.0%} interval; it may carry {most} at most, the upper end."
        )
    if of.broken_below:
        why = "; the search weighs them against its others" if kind is Of.RATE else ", by intervals of their own"
        yield f"Points at {_listed(of.broken_below, kind)} break the objectives all the same{why}."


def _sizing(of: Carried, sized: Sizing, kind: Of) -> Iterator[str]:
    gets = "gets" if kind is Of.RATE else "has"
    reach = ""
    if sized.at_least == sized.replicas:
        reach = " (no fewer, with that headroom)"
    elif sized.at_least is not None and of.broken is not None:
        reach = f" (at least {sized.at_least}, were the truth just below {load_text(of.broken, kind)})"
    yield (
        f"{_replicas(sized.replicas)}{reach}: each {gets} {load_text(sized.per_replica, kind)} at the target, "
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
        each = load_text(sized.one_down.per_replica, kind)
        yield f"When one fails, each other {gets} {each}: {told[sized.one_down.outcome]}."
    yield f"For the target to be kept when any one fails, without headroom: {_replicas(sized.with_one_spare)}."


def _limits(of: InFlight) -> Iterator[str]:
    if of.scale_at is not None:
        yield f"An autoscaler on requests in flight may aim at {of.scale_at:.4g} a replica, headroom taken off."
    if of.limit is not None:
        yield f"A gateway's limit may be {of.limit} in flight a replica: more are not known to keep the objectives."


def _cost(of: PlanCost | None, kind: Of) -> str:
    if of is None:
        return "No cost: neither the points nor --machine-cost have a price."
    tokens = ""
    if of.usd_per_million_output_tokens is not None:
        at = "at" if kind is Of.RATE else "as measured at about"
        tokens = (
            f"; {at} the target ${digits(of.usd_per_million_output_tokens)} per million output tokens, "
            f"{of.output_tokens_mean:.4g} an answer"
        )
    elif of.requests_per_s is None:
        tokens = f"; per output token unknown, as {of.reason}"
    return (
        f"${digits(of.usd_per_hour)} an hour (${digits(of.usd_per_replica_hour)} each), ${digits(of.usd_per_month)} a "
        f"month of 730 h{tokens}."
    )


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"


def _listed(loads: Sequence[float], kind: Of) -> str:
    return f"{', '.join(f'{load:.4g}' for load in loads)} {UNITS[kind]} a replica"
