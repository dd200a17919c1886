"""Results in a local folder, or on a volume that is mounted as one."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from latency_profile.errors import StorageError, UsageError
from latency_profile.storage.names import MOST_NAMES, hidden, names
from latency_profile.storage.store import Names

_LIKE = 0o644  # as files of results have always been: others may read them
# What link(2) says on a file system that has no links (some FUSE mounts), or no more of them for this file.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Folder:
    """A local folder, which `flag` named. Files appear whole, with their bytes on the disk before their names are."""

    def __init__(self, path: Path, flag: str = "--output-dir") -> None:
        self._path, self._flag = path, flag

    def check(self) -> None:
        probe = self._path / f".latency-profile-{uuid.uuid4().hex}"  # pods of one volume have the same process ids
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{self._flag}: cannot write to {self._path}: {error.strerror}") from error

    def place(self, name: str) -> str:
        return str(self._path / name)

    def put(self, name: str, data: bytes, *, own: bool = False) -> str:
        return self._put(name, lambda file: _all(file, data), lambda path: path.read_bytes() == data)

    def put_file(self, name: str, path: Path) -> str:
        def copy(file: BinaryIO) -> None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)

        return self._put(name, copy, lambda taken: same_bytes(taken, path))

    def get(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self.place(name)}: {error.strerror}") from error

    def list(self, prefix: str = "") -> Names:
        top = self._path / prefix.rpartition("/")[0]
        try:
            found = [path.relative_to(self._path).as_posix() for path in top.rglob("*") if path.is_file()]
        except OSError as error:
            raise StorageError(f"cannot list {self.place(prefix)}: {error.strerror or error}") from error
        return sorted(name for name in found if name.startswith(prefix) and not hidden(name))

    def create(self, name: str, data: bytes) -> bool:
        with self._written(name, lambda file: _all(file, data)) as temporary:
            return move_new(temporary, self._path / name)

    def replace(self, name: str, data: bytes) -> None:
        with self._written(name, lambda file: _all(file, data)) as temporary:
            temporary.replace(self._path / name)
            _settle(self._path / name)

    def delete(self, name: str) -> bool:
        try:
            (self._path / name).unlink()
        except OSError:
            return False
        return True

    def _put(self, name: str, write: Callable[[BinaryIO], None], same: Callable[[Path], bool]) -> str:
        with self._written(name, write) as temporary:
            for candidate in names(name):
                path = self._path / candidate
                if move_new(temporary, path) or _is(path, same):
                    return str(path)
        raise StorageError(f"cannot write {self.place(name)}: {MOST_NAMES} files of this name are there already")

    @contextlib.contextmanager
    def _written(self, name: str, write: Callable[[BinaryIO], None]) -> Iterator[Path]:
        """A hidden file beside where the name will be, whole and on the disk; gone afterwards. Raises StorageError for
        what the block raises as well."""
        target = self._path / name
        temporary: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
            temporary = Path(made)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), _LIKE)
                write(file)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):  # the reason above is the one that counts
                    temporary.unlink(missing_ok=True)


def _all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _is(path: Path, same: Callable[[Path], bool]) -> bool:
    """Whether a name is taken by the same bytes. One that is only claimed has none, and never will."""
    try:
        return same(path)
    except FileNotFoundError:
        return False


def move_new(source: Path, target: Path) -> bool:
    """Gives `source` the name `target` unless that is taken; False then. Of several callers one wins. Raises OSError
    where the name can be given to nothing."""
    try:
        os.link(source, target)
    except FileExistsError:
        if not _linked(source, target):
            return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _claim_and_move(source, target)
    _settle(target)
    return True


def _linked(source: Path, target: Path) -> bool:
    """Whether the name is taken by this very file: NFS sends a request again whose answer got lost, and is then told
    that the link is there."""
    try:
        return source.samefile(target)
    except FileNotFoundError:  # removed since
        return False


def _claim_and_move(source: Path, target: Path) -> bool:
    """As move_new, of whoever makes a file beside the target first. One that dies just then leaves that file, and the
    name counts as taken from then on."""
    claim = target.with_name(f".{target.name}.claim")
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        if target.exists():
            return False
        source.replace(target)
        _settle(target)
    finally:
        claim.unlink(missing_ok=True)
    return True


def _settle(path: Path) -> None:
    """Has the folder's new entry written down, where the file system offers that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files have the same contents."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as this, other.open("rb") as that:
        while block := this.read(1 << 20):
            if block != that.read(1 << 20):
                return False
    return True
