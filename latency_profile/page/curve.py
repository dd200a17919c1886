"""One curve over loads: lines, intervals and marks that tell their verdict, as a figure and as its table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from latency_profile.page.figure import Cell, Figure, TextTable
from latency_profile.report.line import UNUSABLE

# Those that must not be used are drawn hollow.
SHAPES = {
    "VALID": "circle",
    "SATURATED": "triangle-up",
    "TOO_FEW_SAMPLES": "diamond",
    "CLIENT_LIMITED": "square",
    "CONTAMINATED": "triangle-down",
    "FAILED": "cross",
}
# As outlines that are filled, since a legend fills every shape: in a box from -1 to 1, the inner edge runs backwards.
_OUTLINES = {
    "square": "M-1,-1H1V1H-1Z M-.68,-.68V.68H.68V-.68Z",
    "triangle-down": "M-1,-.87H1L0,.87Z M-.5,-.58L0,.29L.5,-.58Z",
    "cross": (
        "M-.4,-1H.4V-.4H1V.4H.4V1H-.4V.4H-1V-.4H-.4Z M-.12,-.72V-.12H-.72V.12H-.12V.72H.12V.12H.72V-.12H.12V-.72Z"
    ),
}
_BARRED = f"indexof({sorted(UNUSABLE)}, datum.verdict) >= 0"
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])  # the first line of a figure is solid
WIDE = 16.0  # loads whose highest is so many times the lowest stand on a logarithmic axis
STEEP = 30.0  # and so do latencies
CROWDED = 20  # loads from which marks are smaller
ROOM = (0.07, 0.08)  # that a label takes of the axes' lengths
NOTHING = "–"

MOST_TICKS = 7
MARGIN = 0.04  # of a logarithmic axis' length, above the highest mark
BELOW = 2.5  # times as much below the lowest one, where labels stand
_LINEAR = {"scale": {"type": "linear", "zero": True}, "axis": {"tickCount": 6}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One figure of one point. `shown` and `interval` are as the table writes them; None: the sample gives no end."""

    profile: str
    line: str  # p50, p99, …: what else is drawn in the same axes
    load: str
    place: int  # of the point among its profile's
    x: float | None  # None: it has no place on this axis, and stands in the table only
    y: float
    low: float | None = None
    high: float | None = None
    shown: str
    interval: str = ""
    verdict: str
    usable: bool


@dataclass(frozen=True, slots=True)
class Axis:
    title: str  # with its unit
    logarithmic: bool = False
    ticks: tuple[float, ...] = ()  # where the points stand, where those are loads
    ends: tuple[float, float] | None = None  # of all that is drawn, where it may be logarithmic: the page has a switch


def load_axis(title: str, loads: Sequence[float]) -> Axis:
    """The axis of offered loads: ticks where the loads are, as far as they are few."""
    ticks = tuple(sorted(set(loads)))
    wide = bool(ticks) and ticks[0] > 0 and ticks[-1] >= WIDE * ticks[0]
    if len(ticks) > CROWDED:
        ticks = tuple(log_ticks(ticks[0], ticks[-1])) if wide else ()
    return Axis(title, wide, ticks=ticks)


def upwards(title: str, marks: Sequence[Mark]) -> Axis:
    """The axis of latencies, and of all that may be far apart: logarithmic where marks are, and nothing is at 0."""
    drawn = [mark for mark in marks if mark.x is not None]
    values = [mark.y for mark in drawn]
    ends = [end for mark in drawn for end in (mark.y, mark.low, mark.high) if end is not None]
    if not ends or min(ends) <= 0:
        return Axis(title)
    return Axis(title, max(values) > STEEP * min(values), ends=(min(ends), max(ends)))


def logarithmic(least: float, most: float) -> dict[str, Any]:
    """Scale and axis that begin and end where the marks do, not at the next powers of ten: most of it may be empty."""
    margin = (most / least) ** MARGIN if most > least else 1.5
    low, high = least / margin**BELOW, most * margin
    return {
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {"values": log_ticks(low, high), "labelExpr": "format(datum.value, ',.4~r')"},
    }


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers like 1, 2, 5 and 10; of less than a decade, equal steps; of many, powers of ten."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if high < 10 * low:
        sizes = [float(f"{digit}e{decade}") for decade in range(decades[0] - 2, decades[-1]) for digit in (1, 2, 5)]
        step = next(size for size in sizes if (high - low) / size <= MOST_TICKS)
        return [float(f"{place * step:.12g}") for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
    digits = (1, 2, 5) if high < 1e3 * low else (1,)
    return [tick for decade in decades for digit in digits if low <= (tick := float(f"{digit}e{decade}")) <= high]


def curve(
    name: str,
    title: str,
    reading: str,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark],
    profiles: Sequence[str],
    labelled: bool = False,
) -> Figure | None:
    """The marks as a figure; None where there are none. profiles: all of the page, which fixes each one's colour.
    labelled: the axis has no loads: they stand beside the marks, as far as one profile alone is there; nor are there
    bands, which follow an axis."""
    if not marks:
        return None
    lines = list(dict.fromkeys(mark.line for mark in marks))
    return Figure(
        name=name,
        title=title,
        reading=reading,
        spec=_spec(x, y, marks, lines, profiles, labelled),
        data={"points": {**_columns(marks), **({"label": _labels(marks, lines[0], y)} if labelled else {})}},
        table=_table(y.title, marks, lines),
    )


def _columns(marks: Sequence[Mark]) -> Mapping[str, list[Cell]]:
    """Lines and bands are cut where they would go through a point that must not be used, or an open interval."""
    drawn = [mark for mark in marks if mark.x is not None]
    bands: list[Cell] = []
    for _, of_line in groupby(drawn, key=lambda mark: (mark.profile, mark.line)):
        number = 0
        for mark in of_line:
            closed = mark.usable and mark.low is not None and mark.high is not None
            number += not closed
            bands.append(number if closed else None)
    names = ("profile", "line", "load", "place", "x", "y", "low", "high", "shown", "interval", "verdict", "usable")
    return {
        **{name: [getattr(mark, name) for mark in drawn] for name in names},
        "band": bands,
        "open": [mark.low is not None and mark.high is None for mark in drawn],
    }


def _shape(verdict: str) -> str:
    return _OUTLINES[SHAPES[verdict]] if verdict in UNUSABLE else SHAPES[verdict]


def _labels(marks: Sequence[Mark], line: str, y: Axis) -> list[Cell]:
    """The loads that are written beside their marks: those that have the room, from the lowest on."""
    drawn = [mark for mark in marks if mark.x is not None]
    across = _share([mark.x or 0.0 for mark in drawn])
    up = _share([math.log(mark.y) if y.logarithmic else mark.y for mark in drawn])
    kept: list[tuple[float, float]] = []
    labels: list[Cell] = []
    for mark, *at in zip(drawn, across, up, strict=True):
        free = all(abs(at[0] - of[0]) > ROOM[0] or abs(at[1] - of[1]) > ROOM[1] for of in kept)
        labels.append(mark.load if mark.line == line and free else None)
        if labels[-1] is not None:
            kept.append((at[0], at[1]))
    return labels


def _share(values: Sequence[float]) -> list[float]:
    """Of the way from the least to the most."""
    least, length = min(values, default=0.0), max(values, default=0.0) - min(values, default=0.0)
    return [(value - least) / (length or 1.0) for value in values]


def _spec(
    x: Axis, y: Axis, marks: Sequence[Mark], lines: Sequence[str], profiles: Sequence[str], labelled: bool
) -> dict[str, Any]:
    several = len(profiles) > 1
    by, domain = ("profile", profiles) if several else ("line", lines)
    colour: dict[str, Any] = {
        "field": by,
        "type": "nominal",
        "scale": {"domain": list(domain)},
        "title": None,
        "legend": {"symbolType": "stroke", "symbolOpacity": 1} if len(domain) > 1 else None,
    }
    dash: dict[str, Any] = {
        "field": "line",
        "type": "nominal",
        "scale": {"domain": list(lines), "range": [_DASHES[place % len(_DASHES)] for place in range(len(lines))]},
        "title": None,
        "legend": {} if len(lines) > 1 else None,
    }
    verdicts = [verdict for verdict in SHAPES if any(mark.verdict == verdict for mark in marks)]
    across = {
        "field": "x",
        "type": "quantitative",
        "title": x.title,
        "scale": {"type": "log", "padding": 12, "nice": False}
        if x.logarithmic
        else {"type": "linear", "padding": 12, "nice": False, "zero": False},
        "axis": {"values": list(x.ticks)} if x.ticks else {"tickCount": 6},
    }
    log = logarithmic(*y.ends) if y.ends else {}
    up = {"field": "y", "type": "quantitative", "title": y.title, **(log if y.logarithmic else _LINEAR)}
    shape = {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": verdicts, "range": [_shape(verdict) for verdict in verdicts]},
        "title": None,
        "legend": {} if len(verdicts) > 1 else None,
    }
    tooltip = [
        {"field": "profile", "title": "profile"},
        {"field": "load", "title": "load"},
        {"field": "line", "title": "figure"},
        {"field": "shown", "title": y.title},
        {"field": "interval", "title": "95 % interval"},
        {"field": "verdict", "title": "verdict"},
    ]
    apart = [{"field": "profile"}, {"field": "line"}]
    size = 70 if len({mark.x for mark in marks}) <= CROWDED else 36

    def point(which: str, **look: Any) -> dict[str, Any]:
        return {
            "transform": [{"filter": which}],
            "mark": {"type": "point", "opacity": 1, **look},
            "encoding": {"color": colour, "shape": shape, "tooltip": tooltip},
        }

    layers = [
        {
            "transform": [{"filter": "isValid(datum.band)"}],
            "mark": {"type": "area", "opacity": 0.13},
            "encoding": {
                "y": {**up, "field": "low"},
                "y2": {"field": "high"},
                "color": colour,
                "detail": [*apart, {"field": "band"}],
            },
        },
        {
            "transform": [
                {"filter": "isValid(datum.low)"},
                {"calculate": "datum.open ? datum.y : datum.high", "as": "end"},
            ],
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55},
            "encoding": {"y": {**up, "field": "low"}, "y2": {"field": "end"}, "color": colour},
        },
        {
            "transform": [{"filter": "datum.usable"}],
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"color": colour, "strokeDash": dash, "detail": apart, "order": {"field": "place"}},
        },
        {
            "transform": [{"filter": "datum.open"}],
            "mark": {"type": "text", "text": "↑", "dy": -14, "fontSize": 14},
            "encoding": {"color": colour},
        },
        point("datum.usable", filled=True, size=size),
        # These are not made smaller: a small ring looks filled.
        point(f"!datum.usable && !({_BARRED})", filled=False, size=80, strokeWidth=1.8),
        point(_BARRED, filled=True, size=120),
    ]
    if labelled and not several:
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.label)"}],
                "mark": {"type": "text", "dy": 16 if len(lines) > 1 else -14},
                "encoding": {"text": {"field": "label"}},
            }
        )
    spec = {"data": {"name": "points"}, "encoding": {"x": across, "y": up}, "layer": layers[labelled:]}
    return {**spec, "usermeta": {"linear": _LINEAR, "logarithmic": log}} if log else spec


def _table(unit: str, marks: Sequence[Mark], lines: Sequence[str]) -> TextTable:
    """A row a point; each figure with its interval."""
    several = len({mark.profile for mark in marks}) > 1
    known = sorted(
        {line for line in lines if any(mark.interval for mark in marks if mark.line == line)}, key=lines.index
    )
    header = [*(["profile"] if several else []), "load"]
    for line in lines:
        header += [f"{line}: {unit}", *([f"{line}: 95 % interval"] if line in known else [])]
    rows: dict[tuple[str, int], dict[str, Mark]] = {}
    for mark in marks:
        rows.setdefault((mark.profile, mark.place), {})[mark.line] = mark
    cells = []
    for of_point in rows.values():
        first = next(iter(of_point.values()))
        row = [*([first.profile] if several else []), first.load]
        for line in lines:
            found = of_point.get(line)
            row.append(found.shown if found else NOTHING)
            if line in known:
                row.append((found.interval if found else "") or NOTHING)
        cells.append((*row, first.verdict))
    return TextTable(header=(*header, "verdict"), rows=tuple(cells))
