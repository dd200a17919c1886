"""Numbers as figures hold them, and as tables write them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.page.figure import Cell
from latency_profile.report.table_row import Figure, milliseconds, number
from latency_profile.statistics import NS_PER_MS, NS_PER_S

MS_PER_S = 1000.0
DIGITS = 4  # more than a screen has pixels for; the tables write three
NOTHING = "–"


def rounded(values: Iterable[Any], digits: int = DIGITS) -> list[Cell]:
    """Each to so many significant digits, whole ones without a decimal point; None stays, and what is not finite is
    None."""
    return [None if value is None else _rounded(float(value), digits) for value in values]


def _rounded(value: float, digits: int) -> Cell:
    if not np.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) else short


def ms(values_ns: NDArray[Any]) -> list[Cell]:
    return rounded((values_ns / NS_PER_MS).tolist())


def seconds(values_ns: NDArray[Any]) -> list[Cell]:
    return rounded((values_ns / NS_PER_S).tolist())


def text(value: float | None) -> str:
    """As the console writes a number; a dash for none."""
    return number(value) or NOTHING


def cell_text(cell: Cell) -> str:
    """A number among a figure's data, likewise; words as they are."""
    return cell if isinstance(cell, str) else text(cell)


def count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"


def ms_text(value_s: float | None) -> str:
    """A time in s, written in ms."""
    return NOTHING if value_s is None else number(value_s * MS_PER_S)


def percentile_ms(tree: dict[str, Any] | None) -> str:
    """A percentile of the JSON with its interval, in ms: `412 (398 to 431)`, `≥ 412 (398 to ∞)`; a dash for none."""
    value, low, high = ((tree or {}).get(name) for name in ("value_s", "low_s", "high_s"))
    if value is None:
        return NOTHING
    told = milliseconds(Figure(value * MS_PER_S, at_least=high is None))
    return f"{told} ({ms_text(low)} to {'∞' if high is None else ms_text(high)})"
