"""Others on the server: by its own counters it did more than this client asked for."""

from collections.abc import Iterator

from latency_profile.server_view.reconcile import excess_share
from latency_profile.server_view.structure import Cause, Reconciliation
from latency_profile.verdict.evidence import Evidence
from latency_profile.verdict.kinds import Name, Remark

# A hundredth more load moves a latency near saturation by more than repeated runs differ (M/M/1 at 0.8: 5 %).
EXCESS_SHARE_LIMIT = 0.01


def other_traffic(known: Evidence) -> list[str]:
    """CONTAMINATED where the load was not only this client's."""
    found = _judged(known)
    if found is None or excess_share(found) <= EXCESS_SHARE_LIMIT:
        return []
    told = " ".join(each.text for each in found.disagreements if each.cause is Cause.OTHER_TRAFFIC)
    return [
        f"{told} That is {excess_share(found):.1%} beyond this client's load, by the server's metrics "
        f"({found.source}); the limit is {EXCESS_SHARE_LIMIT:.0%}."
    ]


def server_disagrees(known: Evidence) -> Iterator[Remark]:
    """Whatever the two views differ in, and is no reason."""
    found = _judged(known)
    if found is None:
        return
    judged = excess_share(found) > EXCESS_SHARE_LIMIT
    for each in found.disagreements:
        if not (judged and each.cause is Cause.OTHER_TRAFFIC):
            yield Remark(name=Name.SERVER_DISAGREES, text=each.text)


def _judged(known: Evidence) -> Reconciliation | None:
    """Where a Prometheus lacks samples at an edge, an excess tells of nothing."""
    both = known.both
    if both is None or both.source == "direct":
        return both
    readings = known.records.context.server_readings
    return None if any(each.at_least for each in readings if each.source == both.source) else both
