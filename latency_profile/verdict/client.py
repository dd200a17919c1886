"""CLIENT_LIMITED: the client itself bent the numbers."""

import numpy as np

from latency_profile import measures
from latency_profile.statistics import NS_PER_MS, quantile
from latency_profile.verdict.evidence import Evidence

# People notice a delay from about 100 ms on (Miller, Response time in man-computer conversational transactions, 1968).
# A tenth of that cannot be felt, and shifts no arrival process that a server of language models would notice.
LATENESS_P99_LIMIT_MS = 10.0

# A read that comes late may hold events that came apart; all but the last of them lose their times. While that is fewer
# than one event in a hundred, fewer than two gaps in a hundred are touched, each by less than the read was late.
MERGED_SHARE_LIMIT = 0.01


def client_limited(known: Evidence) -> list[str]:
    records, rows = known.records, known.measured
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
