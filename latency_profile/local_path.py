"""Paths of this machine as users give them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from latency_profile.errors import UsageError

OF_THE_DISK = "lost+found"  # at the top of a volume; nobody may read it, and it has nobody's results


def local_path(place: str, said_first: str = "") -> Path:
    """`~` is the home folder. Raises UsageError, which begins with said_first, where nobody can tell what is there: in
    a folder that may not be entered, under a name that is too long, at home with somebody who is not known."""
    try:
        path = Path(place).expanduser()
        path.exists()
    except OSError as error:
        raise UsageError(f"{said_first}{place}: {error.strerror or error}") from None
    except RuntimeError:
        raise UsageError(f"{said_first}{place}: nobody of this name has a home folder") from None
    return path


def files_below(folder: Path, named: Callable[[Path], str] = str) -> list[Path]:
    """The files in it and in the folders in it, in order, but for hidden ones. Raises UsageError where one of the
    folders cannot be read, which is no empty one: what is in it would be missing without a word. named: what a place is
    called."""

    def refuse(error: OSError) -> NoReturn:
        raise UsageError(f"{named(Path(str(error.filename)))}: {error.strerror or error}")

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name != OF_THE_DISK]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(found)


def readable(name: str) -> str:
    """A file's name as text, with a ? for what is no UTF-8: no file could hold it."""
    return name.encode(errors="replace").decode()
