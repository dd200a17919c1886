"""Results at any other URL, through fsspec: s3://bucket/folder, az://, hdfs://, sftp://, memory:// and others.

fsspec and the part of it for a scheme are extras: whoever wants s3:// installs s3fs.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from latency_profile.errors import ServerUnavailable, StorageError, UsageError
from latency_profile.storage.names import MOST_NAMES, hidden, names
from latency_profile.storage.store import HURRIED_S, Names, NotAllowed

T = TypeVar("T")

CHUNK_BYTES = 8 << 20  # of a file that is put, in memory at a time
CHECK_PATIENCE_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
FOLDERS = frozenset({"sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs", "arrow_hdfs", "dbfs"})
MARK = ".latency-profile-was-here"


class Remote:
    """A folder that fsspec opens. That of several writers of one name one wins is the file system's promise: S3 has it
    by conditional writes, and others where fsspec opens files with the mode "xb"."""

    def __init__(self, url: str, patience_s: float) -> None:
        try:
            import fsspec

            self._system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise UsageError(f"--output-url: {url} takes a package that is not installed: {_package(error)}") from error
        except ValueError as error:
            raise UsageError(f"--output-url: {url} is no URL that fsspec knows") from error
        self._url, self._path, self._patience_s = url.rstrip("/"), str(path).rstrip("/"), patience_s
        self.hurried: Callable[[], bool] = lambda: False
        self._scheme = url.partition(":")[0]

    def check(self) -> None:
        """As Store.check: writes a file of a fixed name, as who may write here need not be allowed to look."""
        try:
            self._again(lambda: self._write(MARK, b""), min(self._patience_s, CHECK_PATIENCE_S))
        except FileExistsError:
            return
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"--output-url: cannot write to {self._url}: {_reason(error)}") from error
        except Exception as error:
            raise ServerUnavailable(f"cannot write to {self._url}: {_reason(error)}") from error

    def place(self, name: str) -> str:
        return f"{self._url}/{name}"

    def put(self, name: str, data: bytes, *, own: bool = False) -> str:
        for candidate in names(name):
            try:
                self._again(partial(self._write, candidate, data))
            except FileExistsError:
                if not own and self.get(candidate) != data:
                    continue
            except Exception as error:
                raise self._failed("store", candidate, error) from error
            return self.place(candidate)
        raise StorageError(f"cannot store {self.place(name)}: {MOST_NAMES} files of this name are there already")

    def put_file(self, name: str, path: Path) -> str:
        for candidate in names(name):
            try:
                self._again(partial(self._write_file, candidate, path))
            except FileExistsError:
                if not self._same(candidate, path):
                    continue
            except Exception as error:
                raise self._failed("store", candidate, error) from error
            return self.place(candidate)
        raise StorageError(f"cannot store {self.place(name)}: {MOST_NAMES} files of this name are there already")

    def get(self, name: str) -> bytes | None:
        try:
            data: bytes = self._again(lambda: self._system.cat_file(self._at(name)))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed("read", name, error) from error
        return data

    def list(self, prefix: str = "") -> Names:
        folder = self._at(prefix.rpartition("/")[0])
        try:
            self._system.invalidate_cache()
            paths = self._again(lambda: self._system.find(folder))
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._failed("list", prefix, error) from error
        found = (str(path).removeprefix(self._path).lstrip("/") for path in paths)
        return sorted(name for name in found if name.startswith(prefix) and not hidden(name))

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._again(lambda: self._write(name, data))
        except FileExistsError:  # perhaps by a try of ours whose answer got lost
            return False
        except Exception as error:
            raise self._failed("store", name, error) from error
        return True

    def replace(self, name: str, data: bytes) -> None:
        try:
            self._again(lambda: self._system.pipe_file(self._at(name), data))
        except Exception as error:
            raise self._failed("store", name, error) from error

    def delete(self, name: str) -> bool:
        try:
            self._system.rm_file(self._at(name))
        except Exception:
            return False
        return True

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")

    def _write(self, name: str, data: bytes) -> None:
        """Writes a new file. Raises FileExistsError where there is one."""
        self._make_folder(name)
        self._system.pipe_file(self._at(name), data, mode="create")

    def _write_file(self, name: str, path: Path) -> None:
        self._make_folder(name)
        self._system.put_file(str(path), self._at(name), mode="create")

    def _make_folder(self, name: str) -> None:
        """Where folders are real. Object stores have none: there it would look for the bucket, or even make one."""
        if self._scheme in FOLDERS:
            self._system.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    def _same(self, name: str, path: Path) -> bool:
        try:
            with self._system.open(self._at(name), "rb") as there, path.open("rb") as here:
                while block := here.read(CHUNK_BYTES):
                    if there.read(len(block)) != block:
                        return False
                return not there.read(1)
        except Exception as error:
            raise self._failed("read", name, error) from error

    def _again(self, request: Callable[[], T], patience_s: float | None = None) -> T:
        """What the request gives; tried again for as long as it fails without saying that it always will."""
        began = time.monotonic()
        most_s = self._patience_s if patience_s is None else patience_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return request()
            except (FileExistsError, FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError):
                raise
            except (ValueError, TypeError, NotImplementedError):  # what the file system never can
                raise
            except Exception:  # each file system has its own; most are of a connection
                if time.monotonic() + pause > began + (min(most_s, HURRIED_S) if self.hurried() else most_s):
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _failed(self, doing: str, name: str, error: BaseException) -> StorageError:
        kind = NotAllowed if isinstance(error, PermissionError) else StorageError
        return kind(f"cannot {doing} {self.place(name)}: {_reason(error)}")


def _package(error: ImportError) -> str:
    """The package that fsspec asks for: its text is "Install s3fs to access S3"."""
    words = str(error).split()
    return words[1] if words[:1] == ["Install"] and len(words) > 1 else (error.name or "fsspec")


def _reason(error: BaseException) -> str:
    """In words of ours: the text of such an error may hold a signed URL."""
    named: dict[type[BaseException], str] = {
        PermissionError: "no permission",
        FileNotFoundError: "there is no such place",
        NotADirectoryError: "a part of the path is a file",
        NotImplementedError: "this file system cannot write new files",
    }
    return next((text for kind, text in named.items() if isinstance(error, kind)), type(error).__name__)
