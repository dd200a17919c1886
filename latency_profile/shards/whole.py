"""From one shard's records to the point's: handed in by all, joined by shard 0."""

from pathlib import Path

from latency_profile import results
from latency_profile.errors import ProfileError
from latency_profile.records import Records, load
from latency_profile.shards.meeting import Meeting
from latency_profile.shards.merging import NotOnePoint, merge_shards


def whole_of(meeting: Meeting, records: Records, folder: Path) -> Records | None:
    """Stores this shard's records, and gives shard 0 the whole point; None for the others, whose part ends here.

    Where they cannot be stored they stay in `folder`, and StorageError tells of it.
    """
    if not records.context.parts:  # a signal came before the point began
        return records if meeting.leads else None
    point = records.context.point
    own = results.free_path(folder, f"shard-{meeting.index}-{results.records_name(records.context)}")
    records.save(own)
    meeting.hand_in(point, own)
    own.unlink()
    if not meeting.leads:
        return None
    parts = []
    for path in meeting.gather(point, folder):
        parts.append(load(path))
        path.unlink()
    try:
        return merge_shards(parts)
    except NotOnePoint as error:
        raise ProfileError(f"--shards: {error}") from None
