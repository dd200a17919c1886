"""TOO_FEW_SAMPLES: the point does not tell where its p99 is, or ended before it could show anything."""

import math

from latency_profile import measures
from latency_profile.measures import is_burst
from latency_profile.statistics import CONFIDENCE, NS_PER_S, Distribution
from latency_profile.until_ci.precision import ONE_BY_ONE
from latency_profile.until_ci.result import describer
from latency_profile.verdict.evidence import Evidence

# Of fewer independent requests even the slowest is below the true p99 too often: 0.99^n > 2.5 %.
SAMPLES_FOR_P99 = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(0.99))


def fewest_for_p99(until_ci: bool) -> int:
    """Independent requests that it takes for an interval of p99. until_ci: whether the data decided when to stop."""
    return ONE_BY_ONE.smallest(0.99) if until_ci else SAMPLES_FOR_P99


def too_few(known: Evidence) -> list[str]:
    return _all_left_out(known) or _over_too_soon(known) + _no_p99(known)


def _all_left_out(known: Evidence) -> list[str]:
    """The point ended within its warm-up and cool-down: its prompts were used up (a time so short is refused)."""
    span, context = known.span, known.records.context
    if is_burst(context) or context.cut_short is not None or span.start_ns < span.end_ns:
        return []
    if context.warmup_s + context.cooldown_s == 0:
        return []
    length_s = span.end_ns / NS_PER_S + context.cooldown_s
    return [
        f"Nothing is measured: the point lasted {length_s:.1f} s, of which the first {context.warmup_s:g} s "
        f"(--warmup-seconds) and the last {context.cooldown_s:g} s (--cooldown-seconds) are left out."
    ]


def _over_too_soon(known: Evidence) -> list[str]:
    """A window that ends before its first answers do has no throughput, and cannot show that a backlog grows."""
    span = known.span
    if is_burst(known.records.context) or span.filled.length_s > 0 or not known.measured.any():
        return []
    return [
        f"The window ends at {span.end_ns / NS_PER_S:.1f} s, before the first requests have ended "
        f"(at {span.ramp_ends_ns / NS_PER_S:.1f} s): it has no throughput, and does not show if the server keeps up."
    ]


def _no_p99(known: Evidence) -> list[str]:
    records, rows = known.records, known.measured
    origin, word = ("sent_ns", "service") if records.context.concurrency is not None else ("due_ns", "response")
    describe, fewest = describer(records.context), fewest_for_p99(records.context.until_ci is not None)
    told: dict[str, Distribution] = {}
    if records.context.streaming:
        told["TTFT"] = describe(measures.time_to_first_token(records, rows, origin))
    told["E2E"] = describe(measures.end_to_end(records, rows, origin))
    open_ones = {name: known for name, known in told.items() if not known.p99.resolved}
    if not open_ones:
        return []
    worst = min(open_ones.values(), key=lambda known: known.p99.effective_n)
    if worst.unfinished and worst.p99.effective_n >= fewest:
        share = worst.unfinished / (worst.n + worst.unfinished)
        return [
            f"The p99 of {word} {' and '.join(open_ones)} has no {CONFIDENCE:.0%} interval: {share:.1%} of the "
            f"requests are unfinished, so that it has no upper end."
        ]
    lost = f" and {worst.unfinished} unfinished" if worst.unfinished else ""
    return [
        f"The p99 of {word} {' and '.join(open_ones)} has no {CONFIDENCE:.0%} interval: {worst.n} requests{lost} tell "
        f"as much as {worst.p99.effective_n:.0f} independent ones; it takes {fewest} and more."
    ]
