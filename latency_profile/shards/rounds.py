"""What is left for a shard to do at a point: of one that comes back, or whose shard 0 does.

A point that shard 0 left unfinished, and has come back to too late to go on with, is sent again by all: its next round,
with prompts of its own. What was handed in before is not merged.
"""

import dataclasses
import enum
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from latency_profile.point_run import Bench, Prompts
from latency_profile.points import PlannedPoint
from latency_profile.records import load
from latency_profile.shards.meeting import FOLLOWERS_PATIENCE, Begin, Meeting
from latency_profile.shards.papers import pauses
from latency_profile.shards.slicing import first_of

_NONCE_BYTES = 8


class Left(enum.Enum):
    """What is left to do."""

    SEND = enum.auto()
    JOIN = enum.auto()  # shard 0: all is sent, and is to be judged
    NOTHING = enum.auto()


def left_of(meeting: Meeting, point: PlannedPoint, folder: Path) -> Left:
    """Looks at what this shard and shard 0 have done of the point. `folder`: where records lie that could not be
    handed in. Shard 0 begins a new round where it must.

    Raises ServerUnavailable where another pod has taken this one's place.
    """
    meeting.check_alone()
    number = point.number
    meeting.look_for_round(number)
    if not meeting.handed_in(number):
        _hand_in_kept(meeting, number, folder)
    if meeting.leads:
        return _left_to_leader(meeting, point)
    if meeting.judged(number) or meeting.passed(number):
        return Left.NOTHING
    if not meeting.handed_in(number):
        return Left.SEND
    if not meeting.cut_short(number):
        return Left.NOTHING
    return Left.SEND if is_begun_again(meeting, number) else Left.NOTHING  # as by a shard 0 that was stopped with it


def _left_to_leader(meeting: Meeting, point: PlannedPoint) -> Left:
    number = point.number
    cut_short = meeting.cut_short(number)
    if meeting.judged(number) or (meeting.handed_in(number) and not cut_short):
        return Left.JOIN
    late_s = meeting.late_s(number)
    if late_s is not None and (cut_short or first_of(point, Begin(0, late_s, None)) >= point.prompts):
        meeting.open_round(number, secrets.token_hex(_NONCE_BYTES))
    return Left.SEND


def is_begun_again(meeting: Meeting, point: int) -> bool:
    """Waits until shard 0 has judged the point or gone on, and says whether it is to be sent again instead. No wait is
    longer than that for a start: this shard's records are in the store."""
    deadline = time.monotonic() + meeting.timeout_s * FOLLOWERS_PATIENCE
    for pause_s in pauses():
        if meeting.reopened(point):
            return True
        if meeting.judged(point) or meeting.passed(point) or meeting.stopped():
            return False
        if time.monotonic() > deadline:
            meeting.say(f"shard 0 has not judged point {point + 1}: the records are there, for latency-profile merge")
            return False
        time.sleep(pause_s)
    raise AssertionError("pauses do not end")


def bench_of(bench: Bench, meeting: Meeting | None, point: PlannedPoint, prompts: Callable[[str], Prompts]) -> Bench:
    """As `bench` for the first round of a point; for others with the round's nonce, and parts in a folder of their
    own. `prompts`: the profile's under a nonce."""
    number = meeting.round(point.number) if meeting else 1
    if meeting is None or number == 1:
        return bench
    nonce, chunks = meeting.nonce(point.number), bench.chunks
    if chunks is not None:
        folder = chunks.folder
        chunks = dataclasses.replace(chunks, folder=lambda of: f"{folder(of)}round-{number}/")
    return dataclasses.replace(
        bench, nonce=nonce, workload=prompts(nonce), chunks=chunks, first_prompt=point.first_prompt
    )


def _hand_in_kept(meeting: Meeting, point: int, folder: Path) -> None:
    """Hands in what an earlier attempt has measured whole and could not store."""
    for path in sorted(folder.glob(f"shard-{meeting.index}-*.records.npz")):
        try:
            context = load(path).context
        except ValueError:
            continue  # of another version, whose run has another name
        if (context.point, context.nonce, context.cut_short) == (point, meeting.nonce(point), None):
            meeting.hand_in(point, path)
            path.unlink()
            meeting.say(f"point {point + 1}: records that an earlier attempt could not store are handed in")
            return
