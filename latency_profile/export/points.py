"""The points that are to be exported, each with its whole JSON and, where they are asked for, its records."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from latency_profile.errors import UsageError
from latency_profile.results.found import (
    RECORDS,
    Found,
    PointHead,
    found_at,
    profiles_beside,
    records_in,
    unreadable_records,
)
from latency_profile.results.tree import at


class _Fingerprint(msgspec.Struct, frozen=True):
    sha256: str


class _Result(PointHead, frozen=True):
    schema_version: str
    fingerprint: _Fingerprint | None = None  # schema 1.2 had none

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.schema_version.split("."))


@dataclass(frozen=True)
class ExportPoint:
    """A point, or what one of several models has of it. profile: what those of one profile have in common."""

    found: Found[_Result]
    profile: str

    @property
    def head(self) -> PointHead:
        return self.found.result

    @property
    def stem(self) -> str:
        """The name of its JSON, without the extension."""
        return self.found.name.removesuffix(".json")

    @cached_property
    def tree(self) -> dict[str, Any]:
        """Its JSON."""
        tree: dict[str, Any] = msgspec.json.decode(self.found.data)
        return tree

    def at(self, *path: str) -> Any:
        """What stands at a place in its JSON; None where there is none."""
        return at(self.tree, *path)

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is not VALID."""
        return self.at("verdict", "reasons") or []

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """Name and text of what else one should know."""
        return [(each["name"], each["text"]) for each in self.at("verdict", "remarks") or []]

    @property
    def model(self) -> str | None:
        """Which of several models; None: all that there are."""
        return None if self.head.of_all_models else self.head.config.model


def points_at(places: Iterable[str], named: Callable[[Path], str] = str) -> list[ExportPoint]:
    """The points of files, and of folders and all below them, in the order in which they ran, profile after profile.

    Each is there once, as the newest version of this program analysed it. named: as of `found_at`. Raises UsageError
    where a place has none.
    """
    points: dict[tuple[object, ...], Found[_Result]] = {}
    for found in (found for place in places for found in found_at(place, _Result, named)):
        key = found.result.key
        if key not in points or points[key].result.version < found.result.version:
            points[key] = found
    profiles = profiles_beside(points.values())
    grouped: dict[str, list[ExportPoint]] = {}
    for found in sorted(points.values(), key=lambda found: (found.result.started_ns, found.name)):
        fingerprint = found.result.fingerprint
        alone = f"{found.path.parent} {fingerprint.sha256 if fingerprint else ''}".rstrip()
        profile = str(profiles.get(found.path.parent / found.name, alone))
        grouped.setdefault(profile, []).append(ExportPoint(found, profile))
    return [point for profile in grouped.values() for point in profile]


def records_of(points: Sequence[ExportPoint]) -> dict[Path, list[ExportPoint]]:
    """The points by their records' files, which are looked for beside them. Raises UsageError where one has none."""
    beside: dict[Path, dict[int, Path]] = {}
    by_file: dict[Path, list[ExportPoint]] = {}
    for point in points:
        path: Path | None = point.found.path
        if path is not None and path.suffix != ".npz":
            folder = path.parent
            if folder not in beside:
                beside[folder] = records_in(folder)
            path = beside[folder].get(point.head.started_ns)
        if path is None:
            takes = f"the point's records (…{RECORDS} of this version)"
            unread = [f"; {why}" for why in unreadable_records(point.found.path.parent)]
            raise UsageError(f"{point.found.place}: this takes {takes}, which are not beside it{''.join(unread)}")
        by_file.setdefault(path, []).append(point)
    return by_file
