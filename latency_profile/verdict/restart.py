"""The remark on a server that went away in mid-point and came back: a rolling restart, a crash, a node that drained.

What it leaves in the records is a run of requests, in the order in which they ended, that lost their connection or
found none (some may have met a 502, 503 or 504), with no good answer between them, and with good answers after them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_profile.records import Records, Status
from latency_profile.statistics import NS_PER_S
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

_NO_CONNECTION = (Status.CONNECT_REFUSED, Status.CONNECT_TIMEOUT, Status.RESET, Status.DISCONNECTED, Status.TRUNCATED)
# Also what a busy server says: a run of nothing but these is no absence.
_NOBODY_THERE = (Status.HTTP_UNAVAILABLE, Status.HTTP_GATEWAY)
# A server that breaks connections now and then, by chance, breaks two in a row now and then. A run is no chance where
# fewer than one such run in a hundred points would be: with n requests of which a share p breaks, n·p^k of length k.
CHANCE_LIMIT = 0.01
MOST_TOLD = 3


@dataclass(frozen=True, slots=True)
class Absence:
    """Times in ns since the point's start."""

    start_ns: int  # the first request that failed of it; the last good answer before it, where retries hid the failures
    end_ns: int  # the first byte of the next good answer
    requests: int  # that failed, or had to be sent again


def restarted(known: Evidence) -> Iterator[Remark]:
    """By what became of requests, and by the server's own counters, which also see one of several replicas."""
    yield from _restarted_by_requests(known)
    for readings in known.records.context.server_readings[:1]:
        for replica in readings.replicas:
            if replica.restarts_s:
                times = ", ".join(f"{at:.1f} s" for at in replica.restarts_s[:MOST_TOLD])
                yield Remark(
                    name=Name.SERVER_RESTARTED,
                    text=f"By its metrics {replica.name} was restarted (seen at {times}): what it did just before "
                    "that is missing in the server's counts.",
                )


def _restarted_by_requests(known: Evidence) -> Iterator[Remark]:
    found = absences(known.records, known.rows)
    if not found:
        return
    requests = sum(absence.requests for absence in found)
    told = ", ".join(
        f"at {absence.start_ns / NS_PER_S:.1f} s for {(absence.end_ns - absence.start_ns) / NS_PER_S:.1f} s"
        for absence in found[:MOST_TOLD]
    )
    more = f", and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    times = "" if len(found) == 1 else f" {len(found)} times"
    plural = "" if requests == 1 else "s"
    yield Remark(
        name=Name.SERVER_RESTARTED,
        text=f"The server went away{times} and came back ({told}{more}): {requests} request{plural} lost "
        f"the connection or found none.",
    )


def absences(records: Records, rows: NDArray[np.bool_]) -> list[Absence]:
    """When the server was not there, among the requests of `rows`; in order."""
    status, ends = records["status"], records["end_ns"]
    good = rows & (status == Status.OK)
    gone = rows & np.isin(status, _NO_CONNECTION + _NOBODY_THERE)
    if records.context.client.get("connections_failed"):  # without, what was tried again may have been a 429
        gone |= good & (records["retries"] > 0)
    chosen = np.flatnonzero(good | gone)
    chosen = chosen[np.argsort(ends[chosen], kind="stable")]
    marks = gone[chosen]
    first_bytes = np.sort(np.where(records["first_token_ns"] >= 0, records["first_token_ns"], ends)[good])
    found = []
    for first, after in _runs(marks):
        run = chosen[first:after]
        if not _no_chance(len(run), int(marks.sum()), len(marks)) or np.isin(status[run], _NOBODY_THERE).all():
            continue
        failed = run[status[run] != Status.OK]
        start = int(ends[failed[0]]) if len(failed) else int(ends[chosen[first - 1]]) if first else 0
        place = int(np.searchsorted(first_bytes, ends[failed[-1]] if len(failed) else start, side="right"))
        if place < len(first_bytes):
            found.append(Absence(start, int(first_bytes[place]), len(run)))
    return found


def _runs(marks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where each run of marks begins, and what comes after it."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marks, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _no_chance(length: int, marked: int, of: int) -> bool:
    """Whether a run so long is not what single failures, one more than those outside of it, would make by chance."""
    share = (marked - length + 1) / of
    return of * share**length < CHANCE_LIMIT
