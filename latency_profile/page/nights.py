"""What the page shows of a comparison: each measure's shift, interval and word, and the nights themselves. Pure.

Every word and interval is the comparison's own; from the nights come their values only, as it takes them.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from latency_profile.compare.earlier import key
from latency_profile.compare.judge import log_margin
from latency_profile.compare.measures import AT_LOAD, WHOLE, Series
from latency_profile.compare.nights import Night
from latency_profile.compare.structure import Comparison, MeasureResult, NightNamed, Shift, Word
from latency_profile.compare.text import HEADER, compared_line, row
from latency_profile.page.figure import Cell, Columns, Figure, TextTable
from latency_profile.page.marks import GREY, HEIGHT, Spec, named, quantitative, tooltips
from latency_profile.page.numbers import rounded
from latency_profile.page.section import Named, Section

WORDS = {
    Word.REGRESSED: "triangle-down",
    Word.IMPROVED: "triangle-up",
    Word.EQUIVALENT: "circle",
    Word.INCONCLUSIVE: "diamond",
}
FROM_BASE = "from the base's mean, %"
ALL_LOADS = "whole profile"
ROW_HEIGHT = 18
HALF_A_DAY = timedelta(hours=12)  # so that the box of one night is seen
MOST_RECENT = 60  # nights that are drawn beside the base: no shift looks back farther than a quarter of that


def nights_section(found: Comparison, nights: Sequence[Night] = ()) -> Section:
    """A comparison, and its measures over the nights that it used, which are found among `nights`.

    Without them, as where only the comparison's file is there, no night is drawn, and a sentence says so.
    """
    results = [*([found.primary] if found.primary else []), *found.others]
    used = _used(found, nights)
    tables = []
    if results:
        caption = "Each measure; the first one decides the exit code"
        tables.append(Named(caption=caption, table=TextTable(header=HEADER, rows=tuple(map(row, results)))))
    if found.left_out:
        rows = tuple((night.date, night.file, night.reason) for night in found.left_out)
        tables.append(
            Named(caption="Nights that were left out", table=TextTable(header=("night", "file", "why"), rows=rows))
        )
    shifts = _shifts(found, results)
    return Section(
        heading="Nights",
        sentences=tuple(_sentences(found, results, used)),
        tables=tuple(tables),
        figures=(*([] if shifts is None else [shifts]), *_over_nights(found, results, used)),
    )


def _used(found: Comparison, nights: Sequence[Night]) -> dict[tuple[str, str], Night]:
    wanted = {key(each.date, each.file) for each in drawn_nights(found)}
    by_key = {key(night.date, night.file): night for night in nights}
    return {each: night for each, night in by_key.items() if each in wanted}


def drawn_nights(found: Comparison) -> list[NightNamed]:
    """Those that figures show, as far as they are there."""
    return [*found.base, *found.recent[-MOST_RECENT:]]


def _sentences(
    found: Comparison, results: Sequence[MeasureResult], used: dict[tuple[str, str], Night]
) -> Iterator[str]:
    yield compared_line(found)
    if not results:
        return
    yield (
        f"The base is {len(found.base)} nights, and {len(found.recent)} since are judged. A shift is the geometric "
        f"mean of the last nights over the base's; its interval comes from how nights differ, not requests. Shifts "
        f"within {found.margin:.1%} are equivalence."
    )
    untold = [_label(each) for each in results if not each.shifts]
    if untold:
        yield f"Without a shift, for want of nights or of tonight's figure: {', '.join(untold)}."
    if len(found.recent) > MOST_RECENT:
        yield f"Of the nights since, the last {MOST_RECENT} are drawn."
    missing = len(drawn_nights(found)) - len(used)
    if missing:
        yield f"The profiles of {missing} of these nights are not there: they are not drawn."


def _label(each: MeasureResult) -> str:
    return f"{each.name} at {each.load}" if each.load else each.name


def _deciding(each: MeasureResult) -> Shift | None:
    return next((shift for shift in each.shifts if shift.nights == each.decided_by), None)


def _percent(share: float) -> float:
    return 100 * share


def _margin(found: Comparison) -> tuple[float, float]:
    """The ends of equivalence in %: alike on logarithms."""
    limit = log_margin(found.margin)
    return _percent(math.expm1(-limit)), _percent(math.expm1(limit))


def _shifts(found: Comparison, results: Sequence[MeasureResult]) -> Figure | None:
    """All measures in one figure; None without any shift."""
    columns: dict[str, list[Cell]] = {
        name: [] for name in ("measure", "shift", "low", "high", "nights", "confidence", "better", "word")
    }
    for each in results:
        shift = _deciding(each)
        if shift is not None:
            ends = rounded(_percent(end) for end in (shift.shift, shift.low, shift.high))
            cells = (*ends, shift.nights, *rounded([_percent(shift.confidence)]), f"{each.better} is better")
            for name, cell in zip(columns, (_label(each), *cells, each.word.value), strict=True):
                columns[name].append(cell)
    if not columns["measure"]:
        return None
    words = [word.value for word in WORDS]
    told = [
        *(("measure", "measure"), ("word", "word"), ("shift", "shift, %"), ("low", "from, %"), ("high", "to, %")),
        *(("nights", "last nights"), ("confidence", "confidence, %"), ("better", "direction")),
    ]
    return Figure(
        name="nights-shifts",
        title="Shifts of all measures",
        reading="The shift that gave each measure its word, with its interval; the first one decides the exit code. "
        "Grey: the margin within which shifts are equivalence.",
        spec={
            "height": ROW_HEIGHT * len(columns["measure"]),
            "data": {"name": "shifts"},
            "encoding": {
                "y": {"field": "measure", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}},
                "x": {"type": "quantitative", "title": "shift against the base, %"},
            },
            "layer": [
                _band("x"),
                {"mark": {"type": "rule", "color": GREY}, "encoding": {"x": {"datum": 0}, "y": None}},
                {
                    "mark": {"type": "rule", "strokeWidth": 2},
                    "encoding": {"x": {"field": "low"}, "x2": {"field": "high"}, "color": named("word", words)},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                    "encoding": {
                        "x": {"field": "shift"},
                        "color": named("word", words),
                        "shape": named("word", words, range=list(WORDS.values())),
                        "tooltip": tooltips(told),
                    },
                },
            ],
        },
        data={"shifts": columns, "margin": _margin_columns(found)},
    )


def _band(channel: str) -> Spec:
    """The margin, across the figure."""
    other = "y" if channel == "x" else "x"
    return {
        "data": {"name": "margin"},
        "mark": {"type": "rect", "color": GREY, "opacity": 0.15},
        "encoding": {channel: {"field": "from"}, f"{channel}2": {"field": "to"}, other: None},
    }


def _margin_columns(found: Comparison) -> Columns:
    low, high = _margin(found)
    return {"from": rounded([low]), "to": rounded([high])}


def _over_nights(
    found: Comparison, results: Sequence[MeasureResult], used: dict[tuple[str, str], Night]
) -> Iterator[Figure]:
    """A figure a measure, a line a load: each night's value against the mean of the base."""
    for name in dict.fromkeys(each.name for each in results):
        of = [(each, _series(found, each, used)) for each in results if each.name == name and each.base_mean]
        columns = _values(found, of, used)
        if columns["night"]:
            yield _figure(found, name, [each for each, _ in of], columns)


def _series(found: Comparison, each: MeasureResult, used: dict[tuple[str, str], Night]) -> Series:
    """A measure as the comparison takes it from a night."""
    if each.load is not None:
        return Series(next(measure for measure in AT_LOAD if measure.name == each.name), each.load, (each.load,))
    tonight = used.get(key(found.date, found.file))
    others = [night for night in used.values() if night is not tonight]
    loads = [load for load in (tonight.points if tonight else ()) if any(load in night.points for night in others)]
    return Series(next(measure for measure in WHOLE if measure.name == each.name), None, tuple(loads))


def _values(
    found: Comparison,
    results: Sequence[tuple[MeasureResult, Series]],
    used: dict[tuple[str, str], Night],
) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {name: [] for name in ("night", "load", "part", "value", "change")}
    for each, series in results:
        for part, named_nights in (("base", found.base), ("judged", found.recent[-MOST_RECENT:])):
            for place in named_nights:
                night = used.get(key(place.date, place.file))
                value = None if night is None else series.value(night)[0]
                if value is not None and each.base_mean:
                    columns["night"].append(_spelled(_at(place)))
                    columns["load"].append(each.load or ALL_LOADS)
                    columns["part"].append(part)
                    columns["value"] += rounded([value])
                    columns["change"] += rounded([_percent(value / each.base_mean - 1)])
    return columns


def _at(night: NightNamed) -> datetime:
    return datetime.strptime(night.date, "%Y%m%d-%H%M%S")


def _spelled(moment: datetime) -> str:
    """UTC, as Vega-Lite reads it."""
    return f"{moment.isoformat()}Z"


def _figure(found: Comparison, name: str, results: Sequence[MeasureResult], columns: Columns) -> Figure:
    unit, better = results[0].unit, results[0].better
    loads = [each.load or ALL_LOADS for each in results]
    told = [("night", "night, UTC"), ("load", "load"), ("value", unit), ("change", FROM_BASE), ("part", "part")]
    boxes = [("load", "load"), ("low", "from, %"), ("high", "to, %"), ("word", "word")]
    said = "; ".join(f"{load}: {each.word.value}" for load, each in zip(loads, results, strict=True))
    return Figure(
        name=f"nights-{name.replace('_', '-')}",
        title=f"{name} over nights",
        reading=f"Each night against the geometric mean of the base; {better} is better. Hollow: the base; filled: "
        f"judged. Boxes: the interval of the shift that gave the word, over the nights that it is of. Grey: the "
        f"margin. {said}.",
        spec={
            "height": HEIGHT,
            "data": {"name": "nights"},
            "encoding": {
                "x": {
                    "type": "temporal",
                    "title": "night, UTC",
                    "scale": {"type": "utc", "padding": 12},
                    "axis": {"format": "%b %d"},
                },
                "y": quantitative("change", FROM_BASE, scale={"zero": True}),
            },
            "layer": [
                _band("y"),
                {
                    "data": {"name": "shifts"},
                    "mark": {"type": "rect", "opacity": 0.3},
                    "encoding": {
                        "x": {"field": "from"},
                        "x2": {"field": "to"},
                        "y": {"field": "low", "type": "quantitative"},
                        "y2": {"field": "high"},
                        "color": named("load", loads),
                        "tooltip": tooltips(boxes),
                    },
                },
                {
                    "mark": {"type": "line", "strokeWidth": 1},
                    "encoding": {"x": {"field": "night"}, "color": named("load", loads)},
                },
                *(
                    {
                        "transform": [{"filter": {"field": "part", "equal": part}}],
                        "mark": {"type": "point", "filled": part == "judged", "size": 50, "opacity": 1},
                        "encoding": {"x": {"field": "night"}, "color": named("load", loads), "tooltip": tooltips(told)},
                    }
                    for part in ("base", "judged")
                ),
            ],
        },
        data={"nights": columns, "shifts": _bars(found, results), "margin": _margin_columns(found)},
    )


def _bars(found: Comparison, results: Sequence[MeasureResult]) -> Columns:
    """Around the nights that a shift is of."""
    columns: dict[str, list[Cell]] = {key: [] for key in ("load", "from", "to", "low", "high", "word")}
    for each in results:
        shift = _deciding(each)
        if shift is not None:
            last = found.recent[-shift.nights :]
            ends = rounded(_percent(end) for end in (shift.low, shift.high))
            span = _spelled(_at(last[0]) - HALF_A_DAY), _spelled(_at(last[-1]) + HALF_A_DAY)
            for key, cell in zip(columns, (each.load or ALL_LOADS, *span, *ends, each.word.value), strict=True):
                columns[key].append(cell)
    return columns
