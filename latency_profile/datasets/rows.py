"""A data set's file as rows: columns by name. JSON arrays, JSON Lines, CSV and Parquet, told by content, not by name.

Rows come one by one; a file may be larger than the memory.
"""

import csv
import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from latency_profile.errors import UsageError
from latency_profile.workload.json_items import Malformed, items_of, line_of, mapped

TAKES = "it takes a JSON array, JSON Lines, CSV with a heading, or Parquet"

Row = dict[str, Any]
_PARQUET = b"PAR1"
_BATCH = 1024  # rows of a Parquet file in memory at once
_OTHERS = {  # what a file begins with that is of no use as it is
    b"\x1f\x8b": "packed by gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it first",
    b"PK\x03\x04": "a ZIP archive; unpack it first",
    b"\xff\xfe": "UTF-16; write it as UTF-8",
    b"\xfe\xff": "UTF-16; write it as UTF-8",
}


def rows_of(path: Path) -> Iterator[Row | None]:
    """The file's rows in order, None for one that is not valid Unicode: no server could be sent it. Raises
    UsageError, also while it is gone through."""
    try:
        if path.is_dir():
            raise UsageError(f"{path}: a folder; {TAKES}")
        with path.open("rb") as file:
            head = file.read(1 << 12)
        if not head:
            raise UsageError(f"{path}: the file is empty; {TAKES}")
        for beginning, what in _OTHERS.items():
            if head.startswith(beginning):
                raise UsageError(f"{path}: {what}; {TAKES}")
        yield from _reader(head)(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; {TAKES}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or 'it is damaged'}; {TAKES}") from error
    except Malformed as error:
        raise UsageError(f"{path}: {error}; {TAKES}") from error


def _reader(head: bytes) -> Callable[[Path], Iterator[Row | None]]:
    if head.startswith(_PARQUET):
        return _parquet
    # White space alone is for the JSON reader to refuse.
    return _json if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{", b"") else _csv


def _json(path: Path) -> Iterator[Row | None]:
    with mapped(path) as content:
        spans, mended = items_of(content)
        broken = iter(mended)
        next_broken = next(broken, None)
        for number, (start, end) in enumerate(spans):
            if next_broken is not None and next_broken < end:
                while next_broken is not None and next_broken < end:
                    next_broken = next(broken, None)
                yield None
                continue
            yield _object(content, number, start, end)


def _object(content: mmap.mmap, number: int, start: int, end: int) -> Row | None:
    try:
        return msgspec.json.decode(content[start:end], type=Row)
    except UnicodeDecodeError:
        return None
    except msgspec.DecodeError as error:
        raise Malformed(f"item {number + 1} ({line_of(content, start)}) is no object with columns: {error}") from error


def _csv(path: Path) -> Iterator[Row | None]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # an answer may be longer than the 128 KiB that it allows
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file, strict=True)
        try:
            heading = [name for name in lines.fieldnames or () if name]
            if not heading:
                raise Malformed("line 1 names no columns")
            if len(set(heading)) < len(heading):
                twice = next(name for name in heading if heading.count(name) > 1)
                raise Malformed(f"two columns are called {twice!r}")
            for row in lines:
                if None in row:
                    raise Malformed(f"line {lines.line_num} has more values than the heading has columns")
                yield dict(row)
        except UnicodeDecodeError as error:
            raise Malformed(f"no UTF-8 after line {lines.line_num}") from error
        except csv.Error as error:
            raise Malformed(f"malformed CSV, line {lines.line_num}: {error}") from error


def _parquet(path: Path) -> Iterator[Row | None]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"{path}: a Parquet file takes the package pyarrow, which is not installed: pip install pyarrow"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            # Python has no dates as exact as some of them are, and no text is a date.
            told = [field.name for field in file.schema_arrow if not pyarrow.types.is_temporal(field.type)]
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from _rows(batch.select(told))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise Malformed(f"malformed Parquet: {' '.join(str(error).split())[:120]}") from error


def _rows(batch: Any) -> Iterator[Row | None]:
    """Of a pyarrow.RecordBatch. Its text is bytes that nobody has looked at yet."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError:
                yield None
