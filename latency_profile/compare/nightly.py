"""The comparison at the end of a profile run, and where its nights come from and its files go."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from latency_profile.compare.compared import Options, compare
from latency_profile.compare.names import ALL, LATEST
from latency_profile.compare.nights import PROFILE, Night, from_file, from_store, of_date, read
from latency_profile.compare.structure import Comparison
from latency_profile.compare.text import markdown
from latency_profile.errors import UsageError
from latency_profile.local_path import files_below, local_path
from latency_profile.results.fetched import opened, reading, split
from latency_profile.settings import Settings
from latency_profile.storage import NotAllowed, Readable, open_folder, open_place

COMPARISON = "-comparison-"  # in the names of its files, where a profile's has PROFILE


def place_of_nights(settings: Settings, stores: Sequence[Readable]) -> Readable | None:
    """Where earlier profiles are to be read: the last store (the bucket, where there is one), or what --compare-with
    names; None where no comparison is asked for. Told before anything is measured: raises UsageError where this account
    may not read there, and StorageError where it cannot now."""
    where = settings.compare_with
    if where is None:
        return None
    place = stores[-1] if where in (LATEST, ALL) else open_place(where)
    try:
        place.list("")
    except NotAllowed as error:
        raise UsageError(f"{settings.spelled('compare_with')}: got {where!r}, takes a place to read: {error}") from None
    return place


def tonight(settings: Settings, nights: Readable, name: str, data: bytes) -> Comparison:
    """The profile in `data`, stored as `name`, against the earlier ones in `nights`. Raises StorageError where they
    cannot be read."""
    options = Options(
        measure=settings.compare_measure,
        margin=settings.compare_margin,
        since=of_date(settings.compare_since or ""),
        rolling=settings.compare_with == LATEST,
    )
    return compare([read(data, name)], from_store(nights, options.since), options)


def nights_at(place: str) -> list[Night]:
    """The profiles in a file or folder, here or under a URL, oldest first. Raises UsageError, and ServerUnavailable
    where a URL cannot be read."""
    if "://" in place:
        folder, name = split(place)
        store = opened(folder)
        with reading(place):
            if not name:
                return from_store(store)
            data = store.get(name)
        if data is None:
            raise UsageError(f"{place}: there is no such object")
        return [read(data, place)]
    path = local_path(place)
    if not path.is_dir():
        return [from_file(path)]
    files_below(path)  # or else it is refused
    with reading(place):
        return from_store(open_folder(path))


def comparison_files(found: Comparison) -> Mapping[str, bytes]:
    """Its files by name: the profile's name, with `-comparison-` for `-profile-`. Pure."""
    stem = Path(found.file).name.removesuffix(".json")
    head, middle, tail = stem.rpartition(PROFILE)
    name = f"{head}{COMPARISON}{tail}" if middle else f"{stem}{COMPARISON}{found.date}"
    return {
        f"{name}.json": msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n",
        f"{name}.md": markdown(found).encode(),
    }
