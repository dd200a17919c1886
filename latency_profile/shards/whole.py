"""From one shard's records to the point's: handed in by all, joined by shard 0."""

from pathlib import Path

from latency_profile import results
from latency_profile.errors import ProfileError, StorageError
from latency_profile.records import Records, load
from latency_profile.shards.meeting import Meeting
from latency_profile.shards.merging import NotOnePoint, merge_shards


def whole_of(meeting: Meeting, records: Records, folder: Path) -> Records | None:
    """Stores this shard's records, and gives shard 0 the whole point; None for the others, whose part ends here.

    Where they cannot be stored they stay in `folder`, and StorageError tells of it; also where another shard's cannot
    be read.
    """
    if not records.context.parts:  # a signal came before the point began
        return records if meeting.leads else None
    point = records.context.point
    own = results.free_path(folder, f"shard-{meeting.index}-{results.records_name(records.context)}")
    records.save(own)
    meeting.hand_in(point, own, records.context.cut_short)
    own.unlink()
    return joined(meeting, point, folder) if meeting.leads else None


def joined(meeting: Meeting, point: int, folder: Path) -> Records | None:
    """The point, of all shards whose records come in time. None where a signal has left it to shard 0's next attempt:
    records are on their way, or the others went on when shard 0 was stopped. Raises StorageError where there are no
    records that can be read."""
    parts = []
    try:
        paths, missing = meeting.gather(point, folder)
        for path in paths:
            parts.append(load(path))
            path.unlink()
    except (OSError, ValueError) as error:
        raise StorageError(f"--shards: cannot read the shards' records: {error}") from None
    if not parts:
        raise StorageError(f"--shards: there are no records of point {point + 1} in the store")
    try:
        whole = merge_shards(parts)
    except NotOnePoint as error:
        raise ProfileError(f"--shards: {error}") from None
    if meeting.stopped() and (missing or (meeting.cut_short(point) and whole.context.cut_short is None)):
        meeting.say(
            f"point {point + 1} is not judged: shard 0 was stopped before the others, and goes on with a restart"
        )
        return None
    return whole
