"""The earlier nights that a page shows: chosen by the names of their files, so that no more of them are read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from latency_profile.compare.nights import PROFILE, Night, date_of, in_order, read_or_named
from latency_profile.compare.structure import NightNamed
from latency_profile.fingerprint import differences
from latency_profile.local_path import readable
from latency_profile.storage import Readable

MOST = 30  # nights before tonight's, where no comparison names others
MOST_READ = 4 * MOST  # files, where profiles of other fingerprints have the same prefix and backend


@dataclass(slots=True)
class Remembered:
    """A store, each of whose files is read once."""

    store: Readable
    _names: dict[str, Sequence[str]] = field(default_factory=dict)
    _data: dict[str, bytes | None] = field(default_factory=dict)

    def list(self, prefix: str) -> Sequence[str]:
        if prefix not in self._names:
            self._names[prefix] = self.store.list(prefix)
        return self._names[prefix]

    def get(self, name: str) -> bytes | None:
        if name not in self._data:
            self._data[name] = self.store.get(name)
        return self._data[name]


def key(date: str, file: str) -> tuple[str, str]:
    """Equal for a night and its name in a comparison, whichever folder each was read from: a run with a name has one of
    its own."""
    return date, readable(PurePosixPath(file).name)


def named_nights(store: Readable, wanted: Iterable[NightNamed]) -> list[Night]:
    """Those of the wanted nights that are in the store, oldest first. Raises StorageError."""
    keys = {key(night.date, night.file) for night in wanted}
    names = (name for name in store.list("") if (date := date_of(name)) and key(date, name) in keys)
    return in_order(list(_read(store, names)))


def newest_nights(store: Readable, tonight: Night) -> list[Night]:
    """The newest before tonight's that may be compared with it, oldest first, MOST at most. Raises StorageError."""
    head = PurePosixPath(tonight.file).name.partition(PROFILE)[0]
    dated = [
        (date, name)
        for name in store.list("")
        if (date := date_of(name)) and date < tonight.date and PurePosixPath(name).name.startswith(f"{head}{PROFILE}")
    ]
    found: list[Night] = []
    for night in _read(store, (name for _, name in sorted(dated, reverse=True)[:MOST_READ])):
        if not night.problem and not differences(night.fingerprint, tonight.fingerprint):
            found.append(night)
        if len(found) == MOST:
            break
    return in_order(found)


def _read(store: Readable, names: Iterable[str]) -> Iterator[Night]:
    for name in names:
        data = store.get(name)
        if data is not None:
            yield read_or_named(data, name)
