"""What one shard sends of a point: all of its slice, or what is still due when it comes. Pure."""

import numpy as np

from latency_profile.plan import NS
from latency_profile.points import PlannedPoint
from latency_profile.shards.meeting import Begin, Meeting
from latency_profile.shards.structure import Part, share

# A shard that comes later than this leaves out what has been due, and what falls due while it opens its connections:
# sent all at once, it would be a burst that nobody planned. One that is less late sends all, and measures how late.
LATE_START_S = 0.5
OPENING_S = 1.0


def first_of(point: PlannedPoint, begin: Begin) -> int:
    """The first request of the plan that is sent by a shard that begins so.

    A burst was due as a whole, and a closed loop has no present offset, as nobody knows which prompts it has used: a
    shard that comes late sits such a point out.
    """
    if begin.late_s <= LATE_START_S:
        return 0
    if point.due_ns is None:
        return point.prompts
    return int(np.searchsorted(point.due_ns, round((begin.late_s + OPENING_S) * NS)))


def part_of(point: PlannedPoint, meeting: Meeting, begin: Begin, workers: int, cut_short: str | None) -> Part:
    """What this shard's records say of it."""
    whole = point.prompts if point.concurrency is None else point.concurrency
    first = first_of(point, begin)
    return Part(
        index=meeting.index,
        shards=meeting.shards,
        whole=whole,
        workers=workers,
        host=meeting.card.host,
        attempt=meeting.card.attempt,
        late_s=begin.late_s,
        clock_s=begin.clock_s,
        left_out=share(first if point.concurrency is None else whole if first else 0, meeting.index, meeting.shards),
        cut_short=cut_short,
    )
