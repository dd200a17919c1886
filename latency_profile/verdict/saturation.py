"""SATURATED: the backlog grew, so that latencies describe how long the run was."""

import numpy as np

from latency_profile import measures
from latency_profile.statistics import NS_PER_S, growth
from latency_profile.verdict.evidence import Evidence

# The backlog is read at so many equal steps over the window's second half. One-sided 99.5 % point of Student's t with
# one degree of freedom fewer: in two hundred steady points one is called saturated by chance.
GROWTH_STEPS = 20
GROWTH_T_LIMIT = 2.861
# Growth at a hundredth of the offered rate takes a hundred latencies to double what is in flight (Little).
GROWTH_SHARE_LIMIT = 0.01


def saturated(known: Evidence) -> list[str]:
    """Whether what was due and not yet done grew over the window's second half. Open loop with a rate only."""
    records, rows, span = known.records, known.rows, known.span
    context = records.context
    if context.concurrency is not None or context.request_rate is None or not rows.any():
        return []
    start = max((span.start_ns + span.end_ns) // 2, span.ramp_ends_ns)
    if span.end_ns - start < GROWTH_STEPS:
        return []
    times = np.linspace(start, span.end_ns, GROWTH_STEPS + 1).astype(np.int64)
    found = growth(
        measures.in_flight(records, rows, times).astype(np.float64), (span.end_ns - start) / GROWTH_STEPS / NS_PER_S
    )
    half_s = (span.end_ns - start) / NS_PER_S
    due = records["due_ns"][rows]
    offered = float(((due >= start) & (due < span.end_ns)).sum()) / half_s
    limit = max(GROWTH_SHARE_LIMIT * offered, GROWTH_T_LIMIT * found.standard_error)
    if found.per_s <= limit:
        return []
    return [
        f"The backlog grew by {found.per_s:.2f} requests/s over the last {half_s:.1f} s of the window, at "
        f"{offered:.2f} requests/s offered; a steady server's grows by less than {limit:.2f}."
    ]
