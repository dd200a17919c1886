"""What the page has of each point from its records, where those lie beside its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from latency_profile.page.detail import detail_of, thinned
from latency_profile.page.points import point_sections
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen
from latency_profile.results.found import load_records, records_in, unreadable_records


@dataclass(frozen=True, slots=True)
class InDepth:
    """sections: of each point. said: how much less finely than else points are drawn. unread: why points are without
    records that lie beside them."""

    sections: Sequence[tuple[Section, ...]] = ()
    said: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def of(self, number: int) -> tuple[Section, ...]:
        """Of the point of that number; none where points have none."""
        return self.sections[number] if self.sections else ()


def in_depth(points: Sequence[Seen]) -> InDepth:
    """The sections of each point, of its JSON alone where it has no records. These are in memory one point at a time.
    Raises UsageError for records that cannot be read."""
    known: dict[Path, dict[int, Path]] = {}
    paths = [_records_of(point, known) for point in points]
    drawn = len(points) - paths.count(None)
    detail = detail_of(drawn)
    sections = []
    for number, (point, path) in enumerate(zip(points, paths, strict=True)):
        tree = msgspec.json.decode(msgspec.json.encode(point.result))
        records = None if path is None else load_records(path)
        sections.append(point_sections(f"point-{number}", tree, records, detail))
    without = dict.fromkeys(point.path.parent for point, path in zip(points, paths, strict=True) if path is None)
    unread = [
        f"{why.replace(f'{folder}/', '')}. What is drawn of records is not there for its point."
        for folder in without
        for why in unreadable_records(folder)
    ]
    return InDepth(sections, tuple(filter(None, [thinned(detail, drawn)])), tuple(unread))


def _records_of(point: Seen, known: dict[Path, dict[int, Path]]) -> Path | None:
    """known: folders' records, so far."""
    if point.path.suffix == ".npz":
        return point.path
    folder = point.path.parent
    if folder not in known:
        known[folder] = records_in(folder)
    return known[folder].get(point.started_ns)
