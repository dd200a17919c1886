"""What lies beside the points of a page: their profiles' own files, and comparisons with earlier nights."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from latency_profile.capacity.structure import Capacity
from latency_profile.compare.nightly import COMPARISON
from latency_profile.compare.nights import PROFILE, from_store
from latency_profile.compare.structure import Comparison
from latency_profile.page.nights import nights_section
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen
from latency_profile.storage import open_folder


class _Profile(msgspec.Struct):
    capacity: Capacity | None = None


def capacities_of(points: Sequence[Seen]) -> dict[str, Capacity]:
    """What searches for the capacity came to, by the name of the profile."""
    found = {}
    for folder, profile in dict.fromkeys((point.path.parent, point.profile) for point in points):
        try:
            capacity = msgspec.json.decode((folder / profile).read_bytes(), type=_Profile).capacity
        except (OSError, msgspec.DecodeError):  # points alone, or of another version
            continue
        if capacity is not None:
            found[profile] = capacity
    return found


def comparisons_of(points: Sequence[Seen]) -> list[Section]:
    """A section for each profile that was compared (--compare-with), with its nights that lie in the same folder.

    Raises StorageError where that cannot be read."""
    profiles = dict.fromkeys((point.path.parent, point.profile) for point in points)
    return [
        nights_section(found, from_store(open_folder(folder)))
        for folder, profile in profiles
        for found in _comparisons(folder, profile)
    ]


def _comparisons(folder: Path, profile: str) -> Iterator[Comparison]:
    """Of the profile's file; the newest where there are several."""
    head, middle, tail = profile.removesuffix(".json").rpartition(PROFILE)
    for path in sorted(folder.glob(f"{head}{COMPARISON}{tail}*.json"), reverse=True) if middle else ():
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Comparison)
        except msgspec.DecodeError:  # of another version, or somebody else's
            continue
        if Path(found.file).name == profile:
            yield found
            return
