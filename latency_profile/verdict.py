"""What may be concluded from a point. Pure: the same records give the same verdict.

Each limit is a named constant with its reason; each reason that is given states the figure and the limit.
"""

import enum
import math
from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from latency_profile import measures
from latency_profile.errors import Exit
from latency_profile.measures import Rows, Window
from latency_profile.records import Records
from latency_profile.statistics import CONFIDENCE, NS_PER_MS, NS_PER_S, Distribution, describe, growth, quantile

# With more than one request in twenty lost, the 95th percentile of what users met is a failure, and every percentile of
# those who were answered describes other, luckier users.
FAILED_SHARE_LIMIT = 0.05

# People notice a delay from about 100 ms on (Miller, Response time in man-computer conversational transactions, 1968).
# A tenth of that cannot be felt, and shifts no arrival process that a server of language models would notice.
LATENESS_P99_LIMIT_MS = 10.0

# A read that comes late may hold events that came apart; all but the last of them lose their times. While that is fewer
# than one event in a hundred, fewer than two gaps in a hundred are touched, each by less than the read was late.
MERGED_SHARE_LIMIT = 0.01

# The backlog is read at so many equal steps over the window's second half. One-sided 99.5 % point of Student's t with
# one degree of freedom fewer: in two hundred steady points one is called saturated by chance.
GROWTH_STEPS = 20
GROWTH_T_LIMIT = 2.861
# Growth at a hundredth of the offered rate takes a hundred latencies to double what is in flight (Little).
GROWTH_SHARE_LIMIT = 0.01
# Of fewer independent requests even the slowest is below the true p99 too often: 0.99^n > 2.5 %.
SAMPLES_FOR_P99 = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(0.99))
# Before the first answers end, everything in flight is the ramp. These many first requests met an empty server.
RAMP_REQUESTS = 20


class Kind(enum.Enum):
    """In order of precedence: a point gets the first that applies."""

    FAILED = "FAILED"
    CLIENT_LIMITED = "CLIENT_LIMITED"
    SATURATED = "SATURATED"
    TOO_FEW_SAMPLES = "TOO_FEW_SAMPLES"
    VALID = "VALID"


UNUSABLE = frozenset({Kind.FAILED, Kind.CLIENT_LIMITED})


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be concluded from a point, and why."""

    verdict: Annotated[
        Kind,
        Meta(
            description="FAILED and CLIENT_LIMITED: do not use the numbers. SATURATED: the percentiles describe the "
            "run's length, not the server. TOO_FEW_SAMPLES: p99 has no interval. VALID: none of these"
        ),
    ]
    reasons: Annotated[
        list[str], Meta(description="one sentence each, with the figure and its limit; empty when VALID")
    ]

    @property
    def usable(self) -> bool:
        """Whether the point may enter capacity, cost and comparisons."""
        return self.verdict not in UNUSABLE


def exit_code(verdicts: Iterable[Verdict]) -> Exit:
    """UNUSABLE where any point's numbers must not be used, else DONE: saturation and wide intervals are results."""
    return Exit.DONE if all(verdict.usable for verdict in verdicts) else Exit.UNUSABLE


def judge(records: Records, model: str | None = None) -> Verdict:
    """The verdict on a point, or on its requests to one model."""
    rows = measures.all_rows(records) if model is None else measures.rows_of_model(records, model)
    span = measures.window(records)
    found: list[tuple[Kind, str]] = []
    for kind, reasons in (
        (Kind.FAILED, _failed(records, rows & span.rows)),
        (Kind.CLIENT_LIMITED, _client_limited(records, rows & span.rows)),
        (Kind.SATURATED, _saturated(records, rows, span)),
        (Kind.TOO_FEW_SAMPLES, _unresolved(records, rows & span.rows)),
    ):
        if kind is Kind.TOO_FEW_SAMPLES and found and found[0][0] in UNUSABLE:
            break  # how wide the intervals of numbers are that must not be used is no reason
        found.extend((kind, reason) for reason in reasons)
    return Verdict(verdict=found[0][0] if found else Kind.VALID, reasons=[reason for _, reason in found])


def _failed(records: Records, rows: Rows) -> list[str]:
    counts = measures.counts(records, rows)
    ended = counts.succeeded + counts.failed
    if not ended or counts.failed / ended <= FAILED_SHARE_LIMIT:
        return []
    share = counts.failed / ended
    return [f"{counts.failed} of {ended} requests failed ({share:.1%}); the limit is {FAILED_SHARE_LIMIT:.0%}."]


def _client_limited(records: Records, rows: Rows) -> list[str]:
    reasons = []
    lateness = quantile(measures.lateness_ns(records, rows), 0.99)
    if lateness is not None and not measures.is_burst(records.context):
        late_ms = lateness / NS_PER_MS
        if late_ms > LATENESS_P99_LIMIT_MS:
            reasons.append(
                f"The client sent late: the p99 of its lateness is {late_ms:.1f} ms; the limit is "
                f"{LATENESS_P99_LIMIT_MS:.0f} ms."
            )
    merged = int(records["merged_events"][rows].sum())
    events = int(np.diff(records.event_start)[rows].sum())
    if events and merged / events > MERGED_SHARE_LIMIT:
        reasons.append(
            f"The client read late: {merged / events:.1%} of the events shared a read with a later one, more than 1 ms "
            f"after its bytes came; the limit is {MERGED_SHARE_LIMIT:.0%}."
        )
    return reasons


def _saturated(records: Records, rows: Rows, span: Window) -> list[str]:
    """Whether what was due and not yet done grew over the window's second half. Open loop with a rate only."""
    context = records.context
    if context.concurrency is not None or context.request_rate is None or not rows.any():
        return []
    start = max((span.start_ns + span.end_ns) // 2, _ramp_ns(records, rows))
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


def _ramp_ns(records: Records, rows: Rows) -> int:
    """When the ramp is over: after the p90 of the first requests' E2E, or 0 where none of them was answered."""
    due = records["due_ns"]
    first = np.flatnonzero(measures.succeeded(records, rows) & (due >= 0))
    first = first[np.argsort(due[first], kind="stable")][:RAMP_REQUESTS]
    ramp = quantile(np.sort((records["end_ns"] - due)[first]), 0.9)
    return 0 if ramp is None else round(ramp)


def _unresolved(records: Records, rows: Rows) -> list[str]:
    origin, word = ("sent_ns", "service") if records.context.concurrency is not None else ("due_ns", "response")
    told: dict[str, Distribution] = {}
    if records.context.streaming:
        told["TTFT"] = describe(measures.time_to_first_token(records, rows, origin))
    told["E2E"] = describe(measures.end_to_end(records, rows, origin))
    open_ones = {name: known for name, known in told.items() if not known.p99.resolved}
    if not open_ones:
        return []
    worst = min(open_ones.values(), key=lambda known: known.p99.effective_n)
    lost = f" and {worst.unfinished} unfinished" if worst.unfinished else ""
    return [
        f"The p99 of {word} {' and '.join(open_ones)} has no {CONFIDENCE:.0%} interval: {worst.n} requests{lost} tell "
        f"as much as {worst.p99.effective_n:.0f} independent ones; it takes {SAMPLES_FOR_P99} and more."
    ]
