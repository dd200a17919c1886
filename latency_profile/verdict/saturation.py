"""SATURATED: the backlog grew, so that latencies describe how long the run was."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.statistics import NS_PER_S, Growth, growth
from latency_profile.verdict.evidence import Evidence

# The backlog is read at so many equal steps over the window's second half. One-sided 99.5 % point of Student's t with
# one degree of freedom fewer: in two hundred steady points one is called saturated by chance.
GROWTH_STEPS = 20
GROWTH_T_LIMIT = 2.861
# Growth at a hundredth of the offered rate takes a hundred latencies to double what is in flight (Little).
GROWTH_SHARE_LIMIT = 0.01


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was due and not yet done, over the window's second half."""

    times_ns: NDArray[np.int64]  # shape (GROWTH_STEPS + 1,)
    requests: NDArray[np.int64]  # at each of them
    growth: Growth
    offered_per_s: float
    limit_per_s: float  # a steady server's backlog grows by less

    @property
    def length_s(self) -> float:
        return int(self.times_ns[-1] - self.times_ns[0]) / NS_PER_S


def backlog(known: Evidence) -> Backlog | None:
    """Of an open loop with a rate; None without one, and where the window is too short to be read so often."""
    records, rows, span = known.records, known.rows, known.span
    context = records.context
    if context.concurrency is not None or context.request_rate is None or not rows.any():
        return None
    start = max((span.start_ns + span.end_ns) // 2, span.ramp_ends_ns)
    if span.end_ns - start < GROWTH_STEPS:
        return None
    times = np.linspace(start, span.end_ns, GROWTH_STEPS + 1).astype(np.int64)
    requests = measures.in_flight(records, rows, times)
    found = growth(requests.astype(np.float64), (span.end_ns - start) / GROWTH_STEPS / NS_PER_S)
    due = records["due_ns"][rows]
    offered = float(((due >= start) & (due < span.end_ns)).sum()) / ((span.end_ns - start) / NS_PER_S)
    limit = max(GROWTH_SHARE_LIMIT * offered, GROWTH_T_LIMIT * found.standard_error)
    return Backlog(times, requests, found, offered, limit)


def saturated(known: Evidence) -> list[str]:
    """Whether what was due and not yet done grew over the window's second half."""
    found = backlog(known)
    if found is None or found.growth.per_s <= found.limit_per_s:
        return []
    return [
        f"The backlog grew by {found.growth.per_s:.2f} requests/s over the last {found.length_s:.1f} s of the window, "
        f"at {found.offered_per_s:.2f} requests/s offered; a steady server's grows by less than "
        f"{found.limit_per_s:.2f}."
    ]
