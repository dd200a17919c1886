"""From what one replica carries to how many a target takes, and what they cost. Pure.

Two numbers of a replica are enough: `kept`, a rate that it is known to carry, and `broken`, one that it is known not
to. A capacity with its interval has them too: its lower and its upper end.
"""

import math

from latency_profile.cost.per_token import usd_per_million
from latency_profile.replicas.structure import OneDown, PlanCost, Sizing
from latency_profile.slo.structure import Outcome

HOURS_PER_MONTH = 730.0  # 365 days / 12
_ROUNDING = 1e-9  # 12 / 0.4 is no reason for a 31st replica


def sizing(target_rate: float, headroom: float, kept: float, broken: float | None) -> Sizing:
    """All in requests/s but headroom, a share of the target. `broken` is above `kept`."""
    wanted = target_rate * (1 + headroom)
    replicas = at_most(wanted, kept)
    each = target_rate / replicas
    return Sizing(
        replicas=replicas,
        at_least=None if broken is None else min(replicas, _below(wanted, broken)),
        requests_per_s=each,
        utilization=each / kept,
        imbalance=max(1.0, kept / each),
        one_down=_one_down(target_rate, replicas, kept, broken),
        with_one_spare=at_most(target_rate, kept) + 1,
    )


def plan_cost(sized: Sizing, target_rate: float, usd_per_hour: float, output_tokens_mean: float | None) -> PlanCost:
    """usd_per_hour: of one replica. output_tokens_mean: of an answer, None where it is not known."""
    of_all = usd_per_hour * sized.replicas
    return PlanCost(
        usd_per_replica_hour=usd_per_hour,
        usd_per_hour=of_all,
        usd_per_month=of_all * HOURS_PER_MONTH,
        usd_per_million_output_tokens=usd_per_million(of_all, target_rate * (output_tokens_mean or 0.0)),
        output_tokens_mean=output_tokens_mean,
    )


def at_most(load: float, each: float) -> int:
    """The fewest that get at most `each`."""
    return max(1, math.ceil(load / each * (1 - _ROUNDING)))


def _below(load: float, each: float) -> int:
    """The fewest that get less than `each`."""
    return math.floor(load / each * (1 + _ROUNDING)) + 1


def _one_down(target_rate: float, replicas: int, kept: float, broken: float | None) -> OneDown | None:
    if replicas == 1:
        return None
    each = target_rate / (replicas - 1)
    outcome = Outcome.UNRESOLVED
    if each <= kept * (1 + _ROUNDING):
        outcome = Outcome.KEPT
    elif broken is not None and each >= broken * (1 - _ROUNDING):
        outcome = Outcome.BROKEN
    return OneDown(requests_per_s=each, outcome=outcome)
