"""A point's time in equal steps, and figures over it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile.page.detail import WHOLE
from latency_profile.page.figure import Columns, Figure, TextTable
from latency_profile.page.marks import GREY, HEIGHT, Spec, lines, tooltips
from latency_profile.page.numbers import rounded, text
from latency_profile.page.points.point import Point
from latency_profile.statistics import NS_PER_S


@dataclass(frozen=True, slots=True)
class Bins:
    """Steps from the point's start; what happened later is in the last one."""

    width_ns: int
    count: int

    @property
    def width_s(self) -> float:
        return self.width_ns / NS_PER_S

    @property
    def middles_ns(self) -> NDArray[np.int64]:
        return (2 * np.arange(self.count, dtype=np.int64) + 1) * self.width_ns // 2

    @property
    def columns(self) -> Columns:
        """None: row k of a figure's data is step k, whose time `transform` gives it."""
        return {}

    @property
    def transform(self) -> list[Spec]:
        width = f"{self.width_s:.12g}"
        edges = {"from": "datum.step - 1", "to": "datum.step", "s": "datum.step - 0.5"}
        number = {"window": [{"op": "row_number", "as": "step"}]}
        return [number, *({"calculate": f"({at}) * {width}", "as": name} for name, at in edges.items())]

    def arrived(self, times_ns: NDArray[Any]) -> NDArray[np.int64]:
        """The step of each time; steps are [start, end), as the window is for what was due or sent in it."""
        return np.asarray(np.clip(times_ns // self.width_ns, 0, self.count - 1), dtype=np.int64)

    def ended(self, times_ns: NDArray[Any]) -> NDArray[np.int64]:
        """The same; steps are (start, end], as spans are over which throughput is counted."""
        return self.arrived(times_ns - 1)

    def per_second(self, places: NDArray[np.int64]) -> list[float | None]:
        """How many fell into each step, a second."""
        return list((np.bincount(places, minlength=self.count) / self.width_s).tolist())


@dataclass(frozen=True, slots=True)
class Readings:
    """Times at which something was read, s since the point's start, about `apart_s` from one another."""

    at_s: Sequence[float]
    apart_s: float

    @property
    def columns(self) -> Columns:
        return {"s": rounded(self.at_s)}

    @property
    def transform(self) -> list[Spec]:
        edges = {"from": "-", "to": "+"}
        return [{"calculate": f"datum.s {sign} {self.apart_s / 2:.4g}", "as": name} for name, sign in edges.items()]


def bins_over(length_ns: int, most: int = WHOLE.steps) -> Bins | None:
    """Steps of 1, 2 or 5 times a power of ten, at most so many; None of a point without length."""
    if length_ns <= 0:
        return None
    least = -(-length_ns // most)
    power = 10 ** max(0, math.ceil(math.log10(least)) - 1)
    width = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)
    return Bins(width, -(-length_ns // width))


def length_text(length_s: float) -> str:
    return f"{length_s * 1000:.4g} ms" if length_s < 1 else f"{length_s:.4g} s"


def window_of(point: Point) -> tuple[float, float] | None:
    """The measured window, s, as far as the point went; None where that has no length."""
    start, end = (point.at("window", name) for name in ("start_s", "end_s"))
    if start is None or end is None:
        return None
    end = min(end, point.at("metrics", "benchmark_time") or end)
    return (start, end) if start < end else None


def window_text(point: Point) -> str:
    """How the marks of a figure over time are read."""
    window = window_of(point)
    told = [] if window is None else [f"Shaded: the measured window, {_s(window[0])} to {_s(window[1])} s."]
    if point.last_sent_s is not None:
        told.append(f"Dashed: the last request was sent at {_s(point.last_sent_s)} s.")
    return " ".join(told)


def _s(moment_s: float) -> str:
    return f"{moment_s:.3f}".rstrip("0").rstrip(".")


def over_time(
    point: Point,
    name: str,
    title: str,
    reading: str,
    y_title: str,
    steps: Bins | Readings,
    series: Mapping[str, Sequence[float | None]],
    limit: float | None = None,
) -> Figure:
    """A line a series, of a value in each step or reading, whose transparent box has all of its numbers. limit: a
    height at which a line goes across."""
    line = lines(list(series), y_title)
    told = tooltips([("from", "from, s"), ("to", "to, s"), *((key, f"{key}, {y_title}") for key in series)])
    layers: list[Spec] = [
        {
            "data": {"name": "window"},
            "mark": {"type": "rect", "color": GREY, "opacity": 0.15},
            "encoding": {"x": {"field": "from"}, "x2": {"field": "to"}},
        },
        {
            "data": {"name": "sent"},
            "mark": {"type": "rule", "color": GREY, "strokeDash": [4, 4]},
            "encoding": {"x": {"field": "at"}},
        },
        {**line, "encoding": {"x": {"field": "s"}, **line["encoding"]}},
        {
            "mark": {"type": "rect", "opacity": 0},
            "encoding": {"x": {"field": "from"}, "x2": {"field": "to"}, "tooltip": told},
        },
    ]
    if limit is not None:
        layers.insert(2, {"mark": {"type": "rule", "color": GREY}, "encoding": {"x": None, "y": {"datum": limit}}})
    x = {"type": "quantitative", "title": "s since the point's start", "scale": {"zero": True, "nice": False}}
    start, end = window_of(point) or (None, None)
    sent = point.last_sent_s
    return Figure(
        name=f"{point.name}-{name}",
        title=title,
        reading=reading,
        spec={
            "height": HEIGHT,
            "data": {"name": "steps"},
            "transform": steps.transform,
            "encoding": {"x": x},
            "layer": layers,
        },
        data={
            "steps": {**steps.columns, **{key: rounded(values) for key, values in series.items()}},
            "window": {"from": rounded([start]), "to": rounded([end])} if start is not None else {"from": [], "to": []},
            "sent": {"at": [] if sent is None else rounded([sent])},
        },
        table=_table(y_title, series),
    )


def _table(y_title: str, series: Mapping[str, Sequence[float | None]]) -> TextTable:
    """What of a line can be told in a row."""
    rows = []
    for name, values in series.items():
        there = [value for value in values if value is not None]
        told = (math.fsum(there) / len(there), min(there), max(there)) if there else (None, None, None)
        rows.append((name, f"{len(there)}", *map(text, told)))
    return TextTable(header=(y_title, "drawn", "their mean", "least", "most"), rows=tuple(rows))
