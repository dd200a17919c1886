"""Where the items of a JSON file lie: those of an array, or of JSON Lines. The form is told by content.

Nothing is decoded here but to find where an item ends; a file far larger than the memory can be gone through so.
"""

import mmap
import re
from pathlib import Path
from typing import NamedTuple

import msgspec

_BOM = b"\xef\xbb\xbf"
_BETWEEN = re.compile(rb"[\s,]*")
_BLANK = re.compile(rb"\s*")
# Each escape of a JSON string; the group is half a surrogate pair that stands alone.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


class Malformed(Exception):
    """The file is no list of JSON items; `str(error)` says where and why."""


class Items(NamedTuple):
    """Bytes `start` to `end` of each item, in order; `mended`: where half a surrogate pair was replaced, ascending."""

    spans: list[tuple[int, int]]
    mended: list[int]


def mapped(path: Path) -> mmap.mmap:
    """The file's bytes, to be closed by the caller. What `items_of` writes to them stays in this process. Raises
    OSError, and ValueError for an empty file."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def items_of(content: mmap.mmap) -> Items:
    """Where the items lie. Raises Malformed."""
    begin = _BLANK.match(content, len(_BOM) if content[: len(_BOM)] == _BOM else 0)
    assert begin is not None  # the pattern matches nothing, too
    if begin.end() == len(content):
        raise Malformed("the file has only white space")
    opening = content[begin.end() : begin.end() + 1]
    if opening not in (b"[", b"{"):
        raise Malformed(f"begins with {opening!r}, neither [ nor {{")
    split = _array if opening == b"[" else _lines
    mended: list[int] = []
    try:
        spans = split(content, begin.end())
    except Malformed:
        mended = _mend(content)
        if not mended:
            raise
        spans = split(content, begin.end())
    if not spans:
        raise Malformed("the list is empty")
    return Items(spans, mended)


def line_of(content: mmap.mmap, offset: int) -> str:
    """The line of an offset, counted in pieces so that a large file is not copied."""
    step = 1 << 20
    lines = 1 + sum(content[at : min(at + step, offset)].count(b"\n") for at in range(0, offset, step))
    return f"line {lines}"


def _mend(content: mmap.mmap) -> list[int]:
    """Puts U+FFFD for each half of a surrogate pair that stands alone, and returns where.

    JSON allows such halves and Python writes them, but they are no text that a server could be sent, and the decoder
    takes none. U+FFFD's escape has their length, so every other place in the file stays where it is.
    """
    alone = [found.start(1) for found in _ESCAPE.finditer(content) if found[1] is not None]
    for start in alone:
        content[start : start + 6] = b"\\ufffd"
    return alone


def _array(content: mmap.mmap, start: int) -> list[tuple[int, int]]:
    """(start, end) of each element of a JSON array, in bytes."""
    with memoryview(content) as whole, whole[start:] as view:
        try:
            sizes = [memoryview(raw).nbytes for raw in msgspec.json.decode(view, type=list[msgspec.Raw])]
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"malformed JSON, {_where(content, start, error)}") from error
    spans = []
    end = start + 1
    for size in sizes:
        between = _BETWEEN.match(content, end)
        assert between is not None  # the pattern matches nothing, too
        spans.append((between.end(), between.end() + size))
        end = between.end() + size
    return spans


def _lines(content: mmap.mmap, start: int) -> list[tuple[int, int]]:
    """(start, end) of each line that is not blank, in bytes."""
    spans = []
    number = content[:start].count(b"\n")
    while start < len(content):
        number += 1
        newline = content.find(b"\n", start)
        end = newline if newline >= 0 else len(content)
        line = content[start:end]
        if line.strip():
            try:
                msgspec.json.decode(line, type=msgspec.Raw)
            except (msgspec.DecodeError, RecursionError) as error:
                raise Malformed(f"malformed JSON, line {number}: {error}") from error
            spans.append((start, end))
        start = end + 1
    return spans


def _where(content: mmap.mmap, start: int, error: Exception) -> str:
    """The place in the file that a decoder's message speaks of, as a line and in its own words."""
    found = re.search(r"\(byte (\d+)\)", str(error))
    if found is None:
        return f"{line_of(content, len(content))}: {error}"
    offset = start + int(found[1])
    return f"{line_of(content, offset)}: {str(error)[: found.start()].strip()} (byte {offset})"
