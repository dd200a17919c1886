"""Results on disk, named by the hashes of what they were made from.

Files are written to a temporary name and renamed, so concurrent runs read whole files or none. A file that cannot be
read is as good as absent and is made again. A folder that cannot be written costs one notice and nothing else.
"""

import hashlib
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class _Memo(msgspec.Struct, forbid_unknown_fields=True):
    """The hash of a file that looked like this. A change of content changes at least one of the times."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


def default_folder() -> Path:
    """latency-profile in $XDG_CACHE_HOME or ~/.cache; in the system's temporary folder for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "latency-profile"
    try:
        return Path.home() / ".cache" / "latency-profile"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"latency-profile-{os.getuid()}"


class Cache:
    """A folder of small files. `notices` gets at most one sentence, when the folder turns out not to be writable."""

    def __init__(self, folder: Path | None, notices: list[str]) -> None:
        self.folder = folder or default_folder()
        self._notices = notices
        self._writable = True

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """The arrays stored under `name`, or None where there are none or they cannot be read whole."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except _BROKEN:
            return None

    def store(self, name: str, **arrays: NDArray[Any]) -> None:
        """Writes the arrays under `name`, in place of what was there."""

        def write(file: Any) -> None:
            np.savez(file, allow_pickle=False, **arrays)

        self._replace(f"{name}.npz", write)

    def sha256(self, path: Path) -> str:
        """The hex SHA-256 of a file, remembered by its path, inode, size and times. Raises OSError."""
        path = path.resolve()
        memo_name = "file-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:32] + ".json"
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            seen = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            try:
                memo = msgspec.json.decode((self.folder / memo_name).read_bytes(), type=_Memo)
                if (memo.path, memo.inode, memo.size, memo.mtime_ns, memo.ctime_ns) == seen:
                    return memo.sha256
            except (OSError, msgspec.DecodeError):
                pass  # nothing remembered
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content = msgspec.json.encode(_Memo(*seen, digest))
        self._replace(memo_name, lambda out: out.write(content))
        return digest

    def _replace(self, name: str, write: Any) -> None:
        if not self._writable:
            return
        temporary: str | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=name, suffix=".part", dir=self.folder)
            with os.fdopen(descriptor, "wb") as file:
                write(file)
            os.replace(temporary, self.folder / name)  # noqa: PTH105
        except OSError as error:
            self._writable = False
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            self._notices.append(
                f"The workload's cache {self.folder} cannot be written ({error.strerror}); every run prepares anew."
            )
