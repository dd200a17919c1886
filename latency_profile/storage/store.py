"""What a place for results can do, whatever it is made of."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from latency_profile.errors import StorageError

Names = list[str]


class NotAllowed(StorageError):
    """The place is there, and this run may not do that to it: an account that may only create files cannot read,
    list, replace or delete any."""


HURRIED_S = 10.0  # for how long an upload is tried again once time is short


@runtime_checkable
class Patient(Protocol):
    """A store that tries again for minutes what fails."""

    hurried: Callable[[], bool]  # whether time is short, as after a SIGTERM: `HURRIED_S` have to do then


class Readable(Protocol):
    """A place that is only read. Both raise StorageError where it cannot be."""

    def list(self, prefix: str) -> Sequence[str]:
        """Names that begin with `prefix`."""

    def get(self, name: str) -> bytes | None:
        """The file's bytes; None where there is no such file."""


class Store(Protocol):
    """A place for results. Names are relative to it, with "/" between folders.

    Nothing is ever overwritten but by `replace`. All but `check` raise StorageError where it cannot be done.
    """

    def check(self) -> None:
        """Told before anything is measured: raises UsageError for a place that is not there or takes no files, and
        ServerUnavailable for one that cannot be reached now."""

    def place(self, name: str) -> str:
        """Where a file of that name is or would be: a path, gs://bucket/object, or another URL."""

    def put(self, name: str, data: bytes, *, own: bool = False) -> str:
        """Stores `data` whole under `name` and returns its place.

        The same bytes under the same name are stored already; other bytes are left alone and a free name is taken
        (a-2.json). `own`: nobody else can have chosen that name, as its folder is this process's alone, and the caller
        has only ever given these bytes for it. Where it is taken an earlier try was stored although its answer got
        lost, which an account that may not look could not tell.
        """

    def put_file(self, name: str, path: Path) -> str:
        """As `put`, of a file's contents, which are never in memory as a whole."""

    def get(self, name: str) -> bytes | None:
        """The file's bytes; None where there is no such file."""

    def list(self, prefix: str = "") -> Names:
        """Names that begin with `prefix`, sorted; none of hidden files (a part of the name begins with a dot)."""

    def create(self, name: str, data: bytes) -> bool:
        """Stores a new file. Of all who call this for one name, in any process, exactly one gets True."""

    def replace(self, name: str, data: bytes) -> None:
        """Stores the file, in place of one that is there: a reader sees all of the one or all of the other. For what is
        this run's own and grows with it: its index, its sign of life."""

    def delete(self, name: str) -> bool:
        """Removes a file of this run's own. False where there is none, or where this run may not remove it."""
