"""The curve as a small plot of characters: latency over completed throughput, each point with its verdict's mark. Pure.

Two panels share the latency axis, p50 on the left and p99 on the right: in one, a saturated point's p50 lies above
another's p99 at the same throughput, and nothing tells them apart.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple

from latency_profile.report.line import UNUSABLE, VERDICTS, Line, style_of
from latency_profile.report.table_row import Figure, TableRow

FEWEST = 3  # points that make a curve
WIDEST = 80
NARROWEST = 60  # columns; in less there is no plot
HEIGHT = 9  # rows of the axis; one more above has room for an arrow
FAR_APART = 20.0  # the largest over the smallest value from which on an axis is logarithmic
MOST_STEPS = 5  # of a linear axis
BETWEEN = "   "  # the panels
NAMES = ("p50", "p99")


@dataclass(frozen=True, slots=True)
class Axis:
    """`cells` places for values from `low` to `high`, which are ticks themselves."""

    low: float
    high: float
    cells: int
    logarithmic: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> int:
        """0 for `low`, cells - 1 for `high`."""
        share = (value - self.low) / (self.high - self.low)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(share * (self.cells - 1))

    def titled(self, name: str) -> str:
        return f"{name} (log)" if self.logarithmic else name


def axis_of(values: Sequence[float], cells: int) -> Axis:
    """From 0 in equal steps; where values lie far apart, logarithmic between numbers like 1, 2, 5 and 10."""
    least, most = min(values), max(values)
    if least > 0 and most / least >= FAR_APART:
        decades = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 2)  # a log10 may be rounded
        fine = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
        low = max(tick for tick in fine if tick <= least)
        high = min(tick for tick in fine if tick >= most)
        inside = [tick for tick in fine if low <= tick <= high]
        if len(inside) >= cells:
            inside = [float(f"1e{decade}") for decade in decades if low <= float(f"1e{decade}") <= high]
        axis = Axis(low, high, cells, True, ())
        return replace(axis, ticks=tuple(next(same) for _, same in groupby(inside, axis.place)))  # one label a place
    most = most if most > 0 else 1.0
    decade = math.floor(math.log10(most / MOST_STEPS))
    step = next(size for size in (float(f"{digit}e{decade}") for digit in (1, 2, 5, 10)) if most / size <= MOST_STEPS)
    steps = math.ceil(most / step)
    return Axis(0.0, steps * step, cells, False, tuple(number * step for number in range(steps + 1)))


class Place(NamedTuple):
    """One point of the curve, in the units of the table."""

    done_per_s: float
    latencies: tuple[Figure, Figure]  # p50, p99
    verdict: str
    usable: bool


class Canvas:
    """A grid of characters and their styles; row 0 is at the bottom."""

    def __init__(self, columns: int, rows: int) -> None:
        self._cells = [[(" ", "")] * columns for _ in range(rows)]

    def put(self, column: int, row: int, character: str, style: str = "") -> None:
        self._cells[row][column] = (character, style)

    def write(self, column: int, row: int, text: str, style: str = "") -> None:
        for place, character in enumerate(text, start=column):
            self.put(place, row, character, style)

    def lines(self) -> Iterator[Line]:
        """From the top."""
        for cells in reversed(self._cells):
            text = "".join(character for character, _ in cells).rstrip()
            marked, start = [], 0
            for style, run in groupby(cells[: len(text)], key=lambda cell: cell[1]):
                end = start + len(list(run))
                if style:
                    marked.append((start, end, style))
                start = end
            yield Line(text, "", tuple(marked))


def curve(rows: Sequence[TableRow], width: int) -> list[Line]:
    """At most 16 lines of at most `width` and 80 columns; none in fewer than 60, or for fewer than three points that
    have a place.

    A place takes a finite load (a burst has no steady rate), a completed rate, and TTFT, or E2E where fewer than three
    points have that (nothing was streamed). Joined are points that may be used, in the order of their load.
    """
    name = "TTFT"
    places = _places([(row, (row.ttft_p50_ms, row.ttft_p99_ms)) for row in rows])
    if len(places) < FEWEST:
        name = "E2E"
        places = _places([(row, (row.e2e_p50_ms, row.e2e_p99_ms)) for row in rows])
    if len(places) < FEWEST or width < NARROWEST:
        return []
    latency = axis_of([value for place in places for figure in place.latencies for value in _ends(figure)], HEIGHT)
    labels = [f"{tick:.12g}" for tick in latency.ticks]
    margin = max(map(len, labels)) + 1
    panel = (min(width, WIDEST) - margin - len(BETWEEN)) // 2  # with its axis
    load = axis_of([place.done_per_s for place in places], panel - 2)
    canvas = Canvas(margin + panel + len(BETWEEN) + panel, HEIGHT + 5)
    base = 3  # the row of the latency axis' low end
    for tick, label in zip(latency.ticks, labels, strict=True):
        canvas.write(margin - 1 - len(label), base + latency.place(tick), label, "dim")
    for number, percentile in enumerate(NAMES):
        left = margin + number * (panel + len(BETWEEN))
        canvas.write(left, base + HEIGHT + 1, latency.titled(f"{name} {percentile}, ms").center(panel), "bold")
        _axes(canvas, left, base, load, latency)
        _points(canvas, left + 1, base, [(place, place.latencies[number]) for place in places], load, latency)
    legend = _legend(places, len(rows))
    return [Line(""), *canvas.lines(), *([Line(legend, "dim")] if legend else [])]


def _places(of: Sequence[tuple[TableRow, tuple[Figure, Figure]]]) -> list[Place]:
    """In the order of their load."""
    found = [
        (_load(row), Place(row.completed_per_s, latencies, row.verdict, not (row.cut_short or row.verdict in UNUSABLE)))
        for row, latencies in of
        if row.completed_per_s is not None and all(figure.value is not None for figure in latencies)
    ]
    return [place for load, place in sorted(found, key=lambda each: each[0]) if math.isfinite(load)]


def _load(row: TableRow) -> float:
    """Infinite for an unlimited rate, and for what is none: engines side by side have their names there."""
    try:
        return float(row.load)
    except ValueError:
        return math.inf


def _ends(figure: Figure) -> list[float]:
    """What of a figure has to be on the axis."""
    return [value for value in (figure.value, figure.low, figure.high) if value is not None]


def _axes(canvas: Canvas, left: int, base: int, load: Axis, latency: Axis) -> None:
    for row in range(HEIGHT + 1):
        canvas.put(left, base + row, "│", "dim")
    for tick in latency.ticks:
        canvas.put(left, base + latency.place(tick), "┤", "dim")
    canvas.write(left, base - 1, "└" + "─" * load.cells, "dim")
    free = 0  # the first column that no label has taken
    for tick in load.ticks:
        column, label = left + 1 + load.place(tick), f"{tick:.12g}"
        canvas.put(column, base - 1, "┬", "dim")
        start = min(column - len(label) // 2, left + load.cells + 2 - len(label))
        if start >= free:
            canvas.write(start, base - 2, label, "dim")
            free = start + len(label) + 1
    canvas.write(left, base - 3, load.titled("done, req/s").center(load.cells + 2), "dim")


def _points(
    canvas: Canvas, left: int, base: int, figures: Sequence[tuple[Place, Figure]], load: Axis, latency: Axis
) -> None:
    """The way between points, then intervals over it, then marks over both; those of usable points last."""
    placed = [
        (place, figure, left + load.place(place.done_per_s), base + latency.place(figure.value))
        for place, figure in figures
        if figure.value is not None
    ]
    for one, other in pairwise([at for place, _, *at in placed if place.usable]):
        for column, row in _between(one, other):
            canvas.put(column, row, "∙", "dim")
    for _, figure, column, row in placed:
        low = row if figure.low is None else base + latency.place(figure.low)
        high = row if figure.high is None else base + latency.place(figure.high)
        for cell in range(low, high + 1):
            canvas.put(column, cell, "│", "dim")
        if figure.at_least:
            canvas.put(column, row + 1, "↑", "dim")
    for place, _, column, row in sorted(placed, key=lambda each: each[0].usable):
        canvas.put(column, row, VERDICTS.get(place.verdict, ("·", ""))[0], style_of(place.verdict))


def _between(one: Sequence[int], other: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The cells on the straight way from one to the other, without its ends."""
    across, up = other[0] - one[0], other[1] - one[1]
    steps = max(abs(across), abs(up))
    for step in range(1, steps):
        yield one[0] + round(across * step / steps), one[1] + round(up * step / steps)


def _legend(places: Sequence[Place], points: int) -> str:
    figures = [figure for place in places for figure in place.latencies]
    notes = []
    if any(figure.low is not None or figure.high is not None for figure in figures):
        notes.append("│ 95 % interval")
    if any(figure.at_least for figure in figures):
        notes.append("↑ no upper bound")
    if len(places) < points:
        notes.append(f"{points - len(places)} of {points} not drawn")
    return " · ".join(notes)
