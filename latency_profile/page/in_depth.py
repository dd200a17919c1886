"""What the page has of each point from its records, where those lie beside its JSON."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from latency_profile.page.points import point_sections
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen
from latency_profile.results.found import load_records, records_in


def in_depth(points: Sequence[Seen]) -> list[tuple[Section, ...]]:
    """The sections of each point, of its JSON alone where it has no records. These are in memory one point at a time.
    Raises UsageError for records that cannot be read."""
    known: dict[Path, dict[int, Path]] = {}
    sections = []
    for number, point in enumerate(points):
        path = _records_of(point, known)
        tree = msgspec.json.decode(msgspec.json.encode(point.result))
        sections.append(point_sections(f"point-{number}", tree, None if path is None else load_records(path)))
    return sections


def _records_of(point: Seen, known: dict[Path, dict[int, Path]]) -> Path | None:
    """known: folders' records, so far."""
    if point.path.suffix == ".npz":
        return point.path
    folder = point.path.parent
    if folder not in known:
        known[folder] = records_in(folder)
    return known[folder].get(point.started_ns)
