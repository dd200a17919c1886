"""The server's own counters of its prefix cache, read before and after each point, where it has them at /metrics.

They are asked for without being asked: a server that has no such door, or is not there, is no error and no notice. The
way is the sender's (no proxy, no redirect), so that the key reaches nobody but the server.
"""

import time
from collections.abc import Sequence
from typing import Any

from latency_profile.server import Server
from latency_profile.telemetry.common import readings
from latency_profile.telemetry.doors import Door, NoMetrics, own_doors
from latency_profile.telemetry.exposition import Scrape
from latency_profile.telemetry.fold import Folded
from latency_profile.telemetry.readings import COUNTED_S
from latency_profile.telemetry.vocabulary import Metric, Quantity, metrics_of

TIMEOUT_S = 5.0
TOLD = (Quantity.CACHE_QUERIES, Quantity.CACHE_HITS)


class CacheCounters:
    """Reads them of every server; never raises."""

    def __init__(self, backend: str, servers: Sequence[Server]) -> None:
        self._backend = backend
        doors = own_doors(servers, None)
        able = {metric.quantity for metric in metrics_of(backend)} >= set(TOLD)
        self._doors = doors if able and len(doors) == len(servers) else []
        self._before: list[Scrape] = []

    def point_started(self) -> None:
        """Before anything of the point is sent. One server that does not tell ends it: a part would not tell of all,
        and it is not asked again."""
        looks = [_look(door) for door in self._doors]
        self._before = [look for look in looks if look is not None]
        if len(self._before) < len(self._doors):
            self._doors, self._before = [], []

    def point_finished(self) -> dict[str, Any] | None:
        """After the point's last answer: queries_tokens and hits_tokens over all servers, or None where one of them did
        not tell or was restarted."""
        if not self._before:
            return None
        time.sleep(COUNTED_S)
        queries = hits = 0.0
        for door, before in zip(self._doors, self._before, strict=True):
            after = _look(door)
            grown = (
                None if after is None else growth(before, after, metrics_of(self._backend, frozenset(after.families)))
            )
            if grown is None:
                return None
            queries += grown[0]
            hits += grown[1]
        return {"source": "counters", "queries_tokens": queries, "hits_tokens": hits}


def growth(before: Scrape, after: Scrape, known: Sequence[Metric]) -> tuple[float, float] | None:
    """Tokens looked up and found between two looks; None where the counters are not there or were reset."""
    folded = Folded()
    folded.add(before)
    folded.add(after)
    found = readings("direct", [metric for metric in known if metric.quantity in TOLD], {"": folded}, before.at_s)
    if found is None or found.at_least or found.unlike:
        return None
    sums = [found.counters.get(quantity.value) for quantity in TOLD]
    return None if sums[0] is None or sums[1] is None else (sums[0], sums[1])


def _look(door: Door) -> Scrape | None:
    try:
        return door.look(time.time(), TIMEOUT_S)
    except NoMetrics:
        return None
