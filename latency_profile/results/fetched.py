"""Results that lie in a bucket, or under another URL, as files at hand.

Commands read files. What was named as gs://bucket/folder or gs://bucket/folder/object.json is copied into a temporary
folder that mirrors it (…/gs/bucket/folder/object.json): what lies side by side there does so here, and a copy tells
where it is from. Records are large, and copied only where they are asked for.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from latency_profile.command_flags import read
from latency_profile.errors import ServerUnavailable, StorageError, UsageError
from latency_profile.results.found import RECORDS, profile_of
from latency_profile.results.index import INDEX_NAME
from latency_profile.settings import kinds
from latency_profile.shards.documents import SHARD_RECORDS
from latency_profile.storage import Readable, Store, open_folder, open_url

PATIENCE_S = 30.0  # for a request that fails: somebody waits
AT_ONCE = 8  # small files, each of which takes a round trip
_LOCATION = kinds.location("files, folders, and URLs such as gs://bucket/folder, without user, password and query")
_JSON = ".json"
_BESIDE = ("-profile-", "-comparison-")  # in names of what lies beside points


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file that is not here, or not yet."""

    store: Store
    name: str
    path: Path  # of its copy

    def fetched(self) -> bool:
        """Whether it is here now: False where there is none of this name."""
        if self.path.exists():
            return True
        place = self.store.place(self.name)
        with reading(place):
            data = self.store.get(self.name)
        if data is None:
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(data)
        except OSError as error:
            raise StorageError(f"no copy of {place} can be kept: {error.strerror or error}") from None
        return True


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Where something is only read: UsageError where the bucket is not there, ServerUnavailable where it cannot be read
    now or this account may not; in place of a StorageError, which is about results that cannot be kept."""
    try:
        yield
    except StorageError as error:
        if _no_bucket(error):
            raise UsageError(f"{place}: there is no such bucket") from None
        raise ServerUnavailable(str(error)) from None


def _no_bucket(error: StorageError) -> bool:
    """An object that is missing is no error to a store; so this is about what it should lie in."""
    from latency_profile.storage.failures import status_of

    return status_of(error) == 404


def opened(place: str) -> Store:
    """What a URL names, to be read. Raises UsageError."""
    try:
        return open_url(place, patience_s=PATIENCE_S)
    except UsageError as error:  # it names the flag of a run that would store its results there
        raise UsageError(f"{place}: {str(error).partition(': ')[2]}") from None


def split(place: str) -> tuple[str, str]:
    """A URL's folder and, where it names a file (….json, ….npz), that file's name; else the URL and nothing."""
    folder, _, name = place.rpartition("/")
    is_file = name.endswith((_JSON, ".npz")) and not folder.endswith("/")  # gs://a.json is a bucket
    return (folder, name) if is_file else (place, "")


@contextmanager
def at_hand(places: Iterable[str]) -> Iterator["AtHand"]:
    """The places as local ones, until the block ends. Raises UsageError for what is not there, ServerUnavailable for
    what cannot be read. A UsageError of the block names files as their owner knows them."""
    places = list(places)
    remote = any("://" in place for place in places)  # else nothing is written, and nothing need be writable
    with tempfile.TemporaryDirectory(prefix="latency-profile-") if remote else nullcontext() as made:
        here = AtHand(None if made is None else Path(made))
        try:
            here.take(places)
            yield here
        except UsageError as error:
            raise type(error)(here.in_words(str(error))) from None


@dataclass(frozen=True, slots=True)
class _Near:
    """The profiles' files of a folder of this machine and of the folders in it. What is further below may be somebody's
    whole disk."""

    folder: Path

    def list(self, prefix: str) -> Sequence[str]:
        found = (path for pattern in ("*", "*/*") for path in self.folder.glob(f"{pattern}-profile-*{_JSON}"))
        names = (path.relative_to(self.folder).as_posix() for path in found)
        return sorted(name for name in names if name.startswith(prefix) and not name.startswith("."))

    def get(self, name: str) -> bytes | None:
        return open_folder(self.folder).get(name)


def around(place: str) -> Readable:
    """What lies in a folder or under a URL, to be looked for by name. Raises UsageError."""
    return opened(place) if "://" in place else _Near(Path(place))


class AtHand:
    """Places of results on this machine: those that lie here already, and copies of the others."""

    def __init__(self, folder: Path | None) -> None:
        """folder: for the copies; None: there will be none."""
        self._folder = folder
        self._schemes: set[str] = set()
        self._later: list[_Remote] = []  # records
        self._files_of: dict[Path, Store] = {}  # folders of which only files were named
        self.places: list[str] = []

    def take(self, places: Iterable[str]) -> None:
        """Adds places: files, folders, URLs."""
        for place in places:
            self.places.append(self._from_url(place) if "://" in place else place)

    def named(self, path: Path) -> str:
        """Where a file is, as its owner knows it."""
        if self._folder is None or not path.is_relative_to(self._folder):
            return str(path)
        scheme, *rest = path.relative_to(self._folder).parts
        return f"{scheme}://{'/'.join(rest)}"

    def in_words(self, text: str) -> str:
        """The text with every copy named as by `named`."""
        for scheme in self._schemes:
            text = text.replace(f"{self._folder}/{scheme}/", f"{scheme}://")
        return text

    def around(self, folder: Path) -> Readable:
        """What lies in a folder, copied or not. Raises UsageError."""
        return around(self.named(folder))

    def with_profiles(self) -> None:
        """Copies the profiles' files, comparisons and indexes that lie beside files which were named alone."""
        for folder, store in self._files_of.items():
            names = [name for name in self._names(folder, store) if "/" not in name and name.endswith(_JSON)]
            wanted = [name for name in names if name == INDEX_NAME or any(part in name for part in _BESIDE)]
            _fetch([_Remote(store, name, folder / name) for name in wanted])

    def with_records(self) -> None:
        """Copies the records of all points that are here, as far as there are any."""
        for folder, store in self._files_of.items():
            stems = _stems(path.name for path in folder.glob(f"*{_JSON}"))
            names = [name for name in self._names(folder, store) if "/" not in name and _is_records(name)]
            self._later += [_Remote(store, name, folder / name) for name in names if _stem(name) in stems]
        for remote in self._later:  # one at a time: they are held in memory
            remote.fetched()
        self._later = []

    def _from_url(self, place: str) -> str:
        place = read("RESULTS", _LOCATION, place)
        scheme, _, rest = place.partition("://")
        parts = [part for part in rest.split("/") if part]
        if not parts or {".", ".."} & set(parts):
            raise UsageError(f"RESULTS: got {place}, takes {_LOCATION.takes}")
        if scheme == "file":
            return f"/{'/'.join(parts)}"
        assert self._folder is not None
        self._schemes.add(scheme)
        path = self._folder.joinpath(scheme, *parts)
        folder, name = split(place)
        store = opened(folder)
        if name:
            self._take_file(store, path, place)
        else:
            self._take_folder(store, path, place)
        return str(path)

    def _take_file(self, store: Store, path: Path, place: str) -> None:
        """The file, and the points that a profile's file names."""
        if not _Remote(store, path.name, path).fetched():
            raise UsageError(f"{place}: there is no such object")
        self._files_of[path.parent] = store
        if path.suffix == _JSON:
            _fetch([_Remote(store, name, path.parent / name) for name in profile_of(path)])

    def _take_folder(self, store: Store, path: Path, place: str) -> None:
        """All JSON in it, and records that have none."""
        names = self._names(path, store)
        if not names:
            raise UsageError(f"{place}: there is nothing under it")
        path.mkdir(parents=True, exist_ok=True)
        known = [name for name in names if name.endswith(_JSON)]
        records, stems = [name for name in names if _is_records(name)], _stems(known)
        later = [name for name in records if _stem(name) in stems]
        _fetch([_Remote(store, name, path / name) for name in {*known, *records}.difference(later)])
        self._later += [_Remote(store, name, path / name) for name in later]

    def _names(self, folder: Path, store: Store) -> Sequence[str]:
        with reading(self.named(folder)):
            found = store.list()
        return [name for name in found if all(name.split("/"))]  # a//b, or /b: what is no path below the copy's folder


def _is_records(name: str) -> bool:
    """Of a whole point, not of a shard's part of one."""
    return name.endswith(RECORDS) and not SHARD_RECORDS.fullmatch(name.rpartition("/")[2])


def _stem(records: str) -> str:
    return records.removesuffix(RECORDS)


def _stems(names: Iterable[str]) -> set[str]:
    """All that records of these points' JSON may be called: STEM-MODEL.json, and models have dashes too."""
    return {name[:place] for name in names for place, letter in enumerate(name) if letter == "-"}


def _fetch(files: Sequence[_Remote]) -> None:
    """All that are there."""
    fetch: Callable[[_Remote], bool] = _Remote.fetched
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, files))
