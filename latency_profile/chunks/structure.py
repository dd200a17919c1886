"""What the parts of a point are called, and what goes with them."""

import re
from typing import NamedTuple

import msgspec

from latency_profile.records import PointContext
from latency_profile.storage.places import Place

NOTE = "point.json"
ASKED = "asked.npz"
BODIES = "bodies"  # may be as large as the spools, and the workload makes them again if it must
# What lies in a point's folder beside these and the spools; some of it only where it is needed.
FILES = (NOTE, ASKED, "bounds", "plan")
_PART = re.compile(r"spool-(\d+)\.part-(\d{4,})")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What records need beside the files: written when the point has started."""

    context: PointContext  # as far as it is known then
    start_ns: int  # monotonic
    pod: tuple[int, int] = (0, 1)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the following process is to do."""

    folder: str  # with the spools and FILES
    places: list[Place]
    prefix: str  # of the names in each place
    secrets: list[str]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    parts: int
    stored_bytes: int
    failure: str | None = None  # the last one, where something is still not stored


class Part(NamedTuple):
    spool: int
    number: int


def part_name(spool: int, number: int) -> str:
    return f"spool-{spool}.part-{number:04d}"


def part_of_name(name: str) -> Part | None:
    """Which part has that name; None for what is none."""
    found = _PART.fullmatch(name)
    return Part(int(found[1]), int(found[2])) if found else None
