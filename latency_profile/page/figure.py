"""A figure: what the page, a PNG and an SVG draw alike, by Vega-Lite, and who cannot see it reads as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Cell = str | float | int | bool | None
Columns = Mapping[str, Sequence[Cell]]  # a table's columns by name, all of one length; None is no value


class TextTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of text: the same numbers as the figure's, as the console would write them, units in the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `spec` is a Vega-Lite specification (https://vega.github.io/vega-lite/) of its marks and encodings
    only: no `$schema`, no `config`, no inline values and no colour of text or background, which the page (light, dark,
    print) and the pictures add alike. Its data are named: `{"data": {"name": "points"}}` is `data["points"]`."""

    name: str  # lower case, digits and hyphens; unique in a page, and the pictures' file name
    title: str
    reading: str  # one or two sentences: what it shows, and how marks are read
    spec: dict[str, Any]
    data: Mapping[str, Columns]
    table: TextTable | None = None


def rows_of(columns: Columns) -> list[dict[str, Cell]]:
    """Columns as a list of rows, Vega-Lite's form of inline data."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
