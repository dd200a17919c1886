"""UNSTEADY: there was no steady state to be measured."""

from collections.abc import Iterator

from latency_profile.statistics import NS_PER_MS, NS_PER_S
from latency_profile.steady_state import DRIFT_P_LIMIT
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

LATENCIES = {"ttft": "TTFT", "e2e": "E2E"}
CONSEQUENCE = "percentiles describe the run's length"


def unsteady(known: Evidence) -> Iterator[Remark]:
    """Of all models together, as the window is."""
    found = known.span.steadiness
    if found is None or found.steady is not False:
        return
    kind = "service" if known.records.context.concurrency is not None else "response"
    window = f"the {known.span.length_s:.0f} s of the window"
    for name in found.beyond_half:
        text = (
            f"The {kind} {LATENCIES[name]} came to its level in the second half of {window}, if at all: {CONSEQUENCE}."
        )
        yield Remark(name=Name.UNSTEADY, text=text)
    for name, drift in found.drifts.items():
        if drift.drifted:
            moved = "rose" if drift.shift_s > 0 else "fell"
            text = (
                f"The {kind} {LATENCIES[name]} {moved} by {abs(drift.shift_s) * NS_PER_S / NS_PER_MS:.1f} ms "
                f"({abs(drift.share):.0%}) over {window} (p < {DRIFT_P_LIMIT:g}): {CONSEQUENCE}."
            )
            yield Remark(name=Name.UNSTEADY, text=text)
