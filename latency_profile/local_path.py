"""Paths of this machine as users give them."""

from pathlib import Path

from latency_profile.errors import UsageError


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


def readable(name: str) -> str:
    """A file's name as text, with a ? for what is no UTF-8: no file could hold it."""
    return name.encode(errors="replace").decode()
