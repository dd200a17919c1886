"""From what one replica carries to how many a target takes, and what they cost. Pure.

Two numbers of a replica are enough: `kept`, a load that it is known to carry, and `broken`, one that it is known not
to. A capacity with its interval has them too: its lower and its upper end. Loads are requests/s or requests in flight.
"""

import math

from latency_profile.capacity.structure import Of
from latency_profile.cost.per_token import usd_per_million
from latency_profile.replicas.structure import OneDown, PlanCost, Sizing
from latency_profile.slo.structure import Outcome

HOURS_PER_MONTH = 730.0  # 365 days / 12
_ROUNDING = 1e-9  # 12 / 0.4 is no reason for a 31st replica


def sizing(
    target: float, headroom: float, kept: float, broken: float | None, of: Of = Of.RATE, step: float = 0.0
) -> Sizing:
    """All in the unit of `of` but headroom, a share of the target. `broken` is above `kept`. step: from one load of a
    replica to the next; 0 where there is no next one."""
    wanted = target * (1 + headroom)
    replicas = at_most(wanted, kept)
    each = target / replicas
    at_least = None
    if broken is not None:
        at_least = at_most(wanted, broken - step) if step else _below(wanted, broken)
    return Sizing(
        replicas=replicas,
        at_least=None if at_least is None else min(replicas, at_least),
        per_replica=each,
        requests_per_s=each if of is Of.RATE else None,
        utilization=each / kept,
        imbalance=max(1.0, kept / each),
        one_down=_one_down(target, replicas, kept, broken, of),
        with_one_spare=at_most(target, kept) + 1,
    )


def plan_cost(
    sized: Sizing, requests_per_s: float | None, usd_per_hour: float, output_tokens_mean: float | None
) -> PlanCost:
    """usd_per_hour: of one replica. requests_per_s: of all, None where it was not measured at about the target.
    output_tokens_mean: of an answer, None where it is not known."""
    of_all = usd_per_hour * sized.replicas
    per_million = usd_per_million(of_all, (requests_per_s or 0.0) * (output_tokens_mean or 0.0))
    reason = "" if per_million is not None else "no answer with output tokens was measured"
    if requests_per_s is None:
        reason = f"no point that keeps the objectives was measured at about {sized.per_replica:.4g} in flight a replica"
    return PlanCost(
        usd_per_replica_hour=usd_per_hour,
        usd_per_hour=of_all,
        usd_per_month=of_all * HOURS_PER_MONTH,
        usd_per_million_output_tokens=per_million,
        requests_per_s=requests_per_s,
        output_tokens_mean=output_tokens_mean,
        reason=reason,
    )


def at_most(load: float, each: float) -> int:
    """The fewest that get at most `each`."""
    return max(1, math.ceil(load / each * (1 - _ROUNDING)))


def _below(load: float, each: float) -> int:
    """The fewest that get less than `each`."""
    return math.floor(load / each * (1 + _ROUNDING)) + 1


def _one_down(target: float, replicas: int, kept: float, broken: float | None, of: Of) -> OneDown | None:
    if replicas == 1:
        return None
    each = target / (replicas - 1)
    outcome = Outcome.UNRESOLVED
    if each <= kept * (1 + _ROUNDING):
        outcome = Outcome.KEPT
    elif broken is not None and each >= broken * (1 - _ROUNDING):
        outcome = Outcome.BROKEN
    return OneDown(per_replica=each, requests_per_s=each if of is Of.RATE else None, outcome=outcome)
