"""CLIENT_LIMITED by calibration: against a server of known timing, under the point's own load, the client was wrong."""

from latency_profile.calibration.structure import Calibration
from latency_profile.verdict.client import LATENESS_P99_LIMIT_MS, MERGED_SHARE_LIMIT, TTFT_ERROR_LIMIT_MS
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.failure import FAILED_SHARE_LIMIT

MS_PER_S = 1000.0

# The server of known timing writes each event within these of its schedule, or the calibration tells of the CPU that
# both share, and not of the client.
SERVER_LATE_P99_LIMIT_MS = 5.0


def calibration_reasons(known: Evidence) -> list[str]:
    """Why the point's own calibration speaks against its numbers; nothing where there was none."""
    calibration = known.records.context.calibration
    return [] if calibration is None or server_was_late(calibration) else beyond_limits(calibration)


def server_was_late(calibration: Calibration) -> bool:
    """Whether the server of known timing fell short itself. It needed the CPU that the client lacked, which beside
    another server the client has for itself: then a calibration says nothing against the client."""
    return calibration.truth.server_late_p99_s * MS_PER_S > SERVER_LATE_P99_LIMIT_MS


def beyond_limits(calibration: Calibration) -> list[str]:
    """Where a calibration's errors are beyond the limits: one sentence for all of them, or none."""
    found = []
    late = calibration.lateness_p99_s
    if late is not None and not calibration.burst and late * MS_PER_S > LATENESS_P99_LIMIT_MS:
        found.append(f"the p99 of its lateness is {late * MS_PER_S:.1f} ms (limit {LATENESS_P99_LIMIT_MS:.0f} ms)")
    ttft = calibration.errors.ttft
    if ttft is not None:
        for name, bias_s in (("p50", ttft.p50_s), ("p99", ttft.p99_s)):
            if abs(bias_s) * MS_PER_S > TTFT_ERROR_LIMIT_MS:
                found.append(
                    f"its TTFT is off by {bias_s * MS_PER_S:+.1f} ms at {name} (limit {TTFT_ERROR_LIMIT_MS:.0f} ms)"
                )
    events = calibration.events
    if events.lost:
        found.append(f"it lost {events.lost} of {events.written} events")
    if events.merged > MERGED_SHARE_LIMIT * events.written:
        found.append(
            f"it gave {events.merged / events.written:.1%} of the events the time of a later one "
            f"(limit {MERGED_SHARE_LIMIT:.0%})"
        )
    sent = calibration.requests + calibration.failed
    if calibration.failed > FAILED_SHARE_LIMIT * sent:
        found.append(f"{calibration.failed} of {sent} requests failed (limit {FAILED_SHARE_LIMIT:.0%})")
    beside = ""
    if server_was_late(calibration):
        late_ms = calibration.truth.server_late_p99_s * MS_PER_S
        beside = f". That server, on the same CPU, was late itself: p99 {late_ms:.1f} ms"
    return [f"Against a server of known timing the client fell short: {'; '.join(found)}{beside}."] if found else []
