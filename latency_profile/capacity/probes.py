"""What both searches know of their probes: how many requests tell roughly, and when a server is left alone. Pure."""

from collections.abc import Sequence

from latency_profile.capacity.probe import Told
from latency_profile.slo.grammar import ERRORS, Objective
from latency_profile.slo.structure import Outcome

MISSES_A_PROBE = 20  # that a coarse probe would have at the crossing
FEWEST_REQUESTS = 1500  # of a coarse probe
MOST_SUFFERED = 3


def coarse_requests(objectives: Sequence[Objective]) -> float:
    """That tell roughly whether objectives are kept."""
    levels = [each.level for each in objectives if each.level is not None and each.metric != ERRORS]
    return max([FEWEST_REQUESTS, *(MISSES_A_PROBE / (1 - level) for level in levels)])


def suffers_for_long(probes: Sequence[Told], lowest: float) -> bool:
    """Whether to leave the server alone: it broke at the first load, at one that it kept before, or at each of the
    last MOST_SUFFERED. A server that refuses what is far too much for it is still to be asked for less."""
    last = probes[-MOST_SUFFERED:]
    if not last or not last[-1].suffered:
        return False
    kept = max((probe.load for probe in probes if probe.outcome is Outcome.KEPT), default=lowest)
    return last[-1].load <= kept or (len(last) == MOST_SUFFERED and all(probe.suffered for probe in last))
