"""The server's own counters of its prefix cache, read before and after each point, where it has them at /metrics.

They are asked for without being asked: a server that has no such door, or is not there, is no error and no notice. The
way is the sender's (no proxy, no redirect), so that the key reaches nobody but the server.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from latency_profile.server import NoAnswer, Server
from latency_profile.telemetry.deltas import increases, process_starts
from latency_profile.telemetry.exposition import Family, Scrape, parse

TIMEOUT_S = 5.0
SETTLE_S = 0.3  # a server counts a request a moment after its last byte
PATH = "/metrics"


@dataclass(frozen=True, slots=True)
class Counters:
    """Names of counters whose sums over all series are prompt tokens looked up, and those of them that were found."""

    queries: tuple[str, ...]
    hits: tuple[str, ...]


# By backend; of several the first whose names are all there. SGLang's gauge cache_hit_rate is of its last batch only,
# and tells nothing of a point.
VLLM = (
    Counters(("vllm:prefix_cache_queries_total",), ("vllm:prefix_cache_hits_total",)),
    Counters(("vllm:gpu_prefix_cache_queries_total",), ("vllm:gpu_prefix_cache_hits_total",)),
)
COUNTERS: Mapping[str, tuple[Counters, ...]] = {
    "vllm": VLLM,
    # it may be any server, and most are vLLM or SGLang; one that is neither has no such names
    "openai": (*VLLM, Counters(("sglang:prompt_tokens_total",), ("sglang:cached_tokens_total",))),
    "sglang": (Counters(("sglang:prompt_tokens_total",), ("sglang:cached_tokens_total",)),),
    "llamacpp": (
        Counters(
            ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),  # the first is without the second
            ("llamacpp:prompt_tokens_cached_total",),
        ),
    ),
}


class CacheCounters:
    """Reads them of every server; never raises."""

    def __init__(self, backend: str, servers: Sequence[Server]) -> None:
        known = COUNTERS.get(backend, ())
        self._known = known
        self._servers = [server for server in servers if not server.grpc] if known else []
        self._whole = len(self._servers) == len(servers)
        self._before: list[Scrape | None] = []

    def point_started(self) -> None:
        """Before anything of the point is sent. One server that does not tell ends it: a part would not tell of all,
        and it is not asked again."""
        self._before = []
        if not self._servers or not self._whole:
            return
        self._before = [_scrape(server) for server in self._servers]
        if None in self._before:
            self._servers, self._before = [], []

    def point_finished(self) -> dict[str, Any] | None:
        """After the point's last answer: queries_tokens and hits_tokens over all servers, or None where one of them did
        not tell or was restarted."""
        if not self._before:
            return None
        time.sleep(SETTLE_S)
        queries = hits = 0.0
        for server, before in zip(self._servers, self._before, strict=True):
            after = _scrape(server)
            grown = None if before is None or after is None else growth(before, after, self._known)
            if grown is None:
                return None
            queries += grown[0]
            hits += grown[1]
        return {"source": "counters", "queries_tokens": queries, "hits_tokens": hits}


def growth(before: Scrape, after: Scrape, known: Sequence[Counters]) -> tuple[float, float] | None:
    """Tokens looked up and found between two looks; None where the counters are not there or were reset."""
    counters = _of(after, known)
    if counters is None or process_starts(before) != process_starts(after):
        return None
    sums = []
    for names in (counters.queries, counters.hits):
        total = 0.0
        for name in names:
            later = after.families[name]
            earlier = before.families.get(name, Family(later.kind))
            grown, fell = increases(earlier, later)
            if fell or earlier.samples.keys() - later.samples.keys():
                return None
            total += sum(grown.values())
        sums.append(total)
    return sums[0], sums[1]


def _of(scrape: Scrape, known: Sequence[Counters]) -> Counters | None:
    """The first of the known counters that are all there. (SGLang's have no series before they first count.)"""
    for counters in known:
        if all(name in scrape.families for name in (*counters.queries, *counters.hits)):
            return counters
    return None


def _scrape(server: Server) -> Scrape | None:
    try:
        status, body = server.ask(PATH, TIMEOUT_S)
        return Scrape(time.monotonic(), parse(body.decode())) if status == HTTPStatus.OK else None
    except (NoAnswer, ValueError):  # ValueError: not in Prometheus' text format
        return None
