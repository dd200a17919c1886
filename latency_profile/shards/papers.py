"""The documents of a run in the results' store: each is written once, and looked for until it is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from latency_profile.shards import documents
from latency_profile.storage import Store

# Between two looks, at first and at most: each is a request to a bucket, and a late look makes the clocks' bounds wide.
POLL_S = 0.1
LONGEST_POLL_S = 0.5

_SHARD = re.compile(r"(?:ready-|shard-)(\d+)\.(?:json|records\.npz)")
_T = TypeVar("_T")


class Papers:
    """Those under `folder` of the store: "" or "run-id/". All raise StorageError."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder

    def create(self, name: str, document: msgspec.Struct) -> bool:
        """Whether it was this call that wrote it: no document is written twice."""
        return self._store.create(self._folder + name, msgspec.json.encode(document) + b"\n")

    def get(self, name: str, kind: type[_T]) -> _T | None:
        """The document; None where it is not there, or not yet whole.

        Its folder is listed first: on NFS a name that was looked for in vain stays absent for up to a minute unless the
        folder has been opened in between.
        """
        data = self.content(name) if self.there(name) else None
        try:
            return None if data is None else msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError:
            return None

    def there(self, name: str) -> bool:
        return self._folder + name in self._store.list(self._folder + name)

    def content(self, name: str) -> bytes | None:
        return self._store.get(self._folder + name)

    def put_file(self, name: str, path: Path) -> str | None:
        """Stores the file under that name; where it went instead, if another has the name."""
        place = self._store.put_file(self._folder + name, path)
        return None if place == self.place(name) else place

    def place(self, name: str) -> str:
        """As people are told of it."""
        return self._store.place(self._folder + name)

    def last_round(self, point: int) -> int:
        prefix = self._folder + documents.rounds_prefix(point)
        names = (name.removeprefix(prefix).partition("/") for name in self._store.list(prefix))
        return max((int(number) for number, _, name in names if name == "round.json"), default=1)

    def shards_of(self, point: int, number: int, kind: str) -> set[int]:
        """Which shards have left such a document ("ready-", "shard-") in that round of the point."""
        folder = self._folder + documents.point_folder(point, number)
        names = (name.removeprefix(folder) for name in self._store.list(folder + kind))
        return {int(found[1]) for name in names if (found := _SHARD.fullmatch(name))}


def pauses() -> Iterator[float]:
    """Seconds between one look and the next, without end."""
    pause_s = POLL_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.1, LONGEST_POLL_S)
