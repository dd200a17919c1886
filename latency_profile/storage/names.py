"""Names of stored files: relative to their store, with "/" between folders."""

from collections.abc import Iterator
from pathlib import PurePosixPath

MOST_NAMES = 1000
RECORDS = ".records.npz"


def names(name: str) -> Iterator[str]:
    """`name` and what is tried after it: a.json, a-2.json, a-3.json, ..., as the results' own files are numbered."""
    yield name
    suffix = RECORDS if name.endswith(RECORDS) else PurePosixPath(name).suffix
    stem = name.removesuffix(suffix)
    for number in range(2, MOST_NAMES + 1):
        yield f"{stem}-{number}{suffix}"


def hidden(name: str) -> bool:
    """Whether a part of the name begins with a dot: what is only being written, and no result."""
    return any(part.startswith(".") for part in name.split("/"))
