"""FAILED: too many requests went wrong."""

from latency_profile import measures
from latency_profile.verdict.evidence import Evidence

# With more than one request in twenty lost, the 95th percentile of what users met is a failure, and every percentile of
# those who were answered describes other, luckier users.
FAILED_SHARE_LIMIT = 0.05


def failed(known: Evidence) -> list[str]:
    counts = measures.counts(known.records, known.measured)
    ended = counts.succeeded + counts.failed
    if not ended or counts.failed / ended <= FAILED_SHARE_LIMIT:
        return []
    share = counts.failed / ended
    return [f"{counts.failed} of {ended} requests failed ({share:.1%}); the limit is {FAILED_SHARE_LIMIT:.0%}."]
