"""Points and requests as CSV or Parquet: the same columns and the same numbers."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from latency_profile.errors import UsageError
from latency_profile.export.columns import columns, load_text
from latency_profile.export.points import ExportPoint
from latency_profile.local_path import readable
from latency_profile.results.found import load_records
from latency_profile.results.requests import Kind, request_columns

CHUNK = 1 << 16  # rows at a time

Values = Sequence[Any]  # of one column; None where there is none


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a table, by column. Every part of one table has the same columns."""

    kinds: dict[str, Kind]
    values: list[Values]


def point_parts(points: Sequence[ExportPoint]) -> Iterator[Part]:
    """A row a point."""
    found = columns(points)
    values: list[Values] = [[_typed(column.kind, column.of(point)) for point in points] for column in found]
    yield Part({column.name: column.kind for column in found}, values)


def request_parts(by_file: dict[Path, list[ExportPoint]]) -> Iterator[Part]:
    """A row a request, after the name, load and verdict of its point, from the records. Of several models those that
    the points are of."""
    for path, points in by_file.items():
        point = next((each for each in points if each.model is None), points[0])
        models = {each.model for each in points}
        records = load_records(path)
        found = request_columns(records)
        of_models = np.array([None in models or model in models for model in records.context.models])
        wanted = np.flatnonzero(of_models[records["model"]])
        kinds: dict[str, Kind] = {"point": "text", "load": "text", "verdict": "text"}
        kinds |= {column.name: column.kind for column in found}
        of_point = [readable(path.name), load_text(point), point.head.verdict.verdict]
        for start in range(0, max(len(wanted), 1), CHUNK):
            some = wanted[start : start + CHUNK]
            values: list[Values] = [[text] * len(some) for text in of_point]
            for column in found:
                pairs = zip(column.values[some].tolist(), column.there[some].tolist(), strict=True)
                values.append([value if there else None for value, there in pairs])
            yield Part(kinds, values)


def _typed(kind: Kind, value: Any) -> Any:
    """JSON has whole numbers where a figure happens to be one; the name of a file may be no UTF-8."""
    if kind == "text" and value is not None:
        return readable(value)
    return float(value) if kind == "number" and value is not None else value


def csv_chunks(parts: Iterable[Part]) -> Iterator[str]:
    """CSV with a heading: numbers in all their digits, true and false, an empty cell where there is nothing."""
    heading = True
    for part in parts:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if heading:
            writer.writerow(part.kinds)
        cells = ([_cell(value) for value in values] for values in part.values)
        writer.writerows(zip(*cells, strict=True))
        heading = False
        yield text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parquet_writer() -> Callable[[IO[bytes], Iterable[Part]], None]:
    """What writes Parquet. Raises UsageError where the package that does is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "--format: parquet takes the package pyarrow, which is not installed: pip install pyarrow"
        ) from error
    types = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
    }

    def write(file: IO[bytes], parts: Iterable[Part]) -> None:
        writer = None
        for part in parts:
            if writer is None:
                schema = pyarrow.schema([(name, types[kind]) for name, kind in part.kinds.items()])
                writer = pyarrow.parquet.ParquetWriter(file, schema)
            arrays = [pyarrow.array(values, each.type) for values, each in zip(part.values, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        if writer is not None:
            writer.close()

    return write
