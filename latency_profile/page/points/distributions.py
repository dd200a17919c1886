"""How a point's latencies are distributed, by the requests that its percentiles are of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.page.detail import Detail
from latency_profile.page.figure import Cell, Columns, Figure, TextTable
from latency_profile.page.marks import HEIGHT, Spec, folded, named, quantitative, tooltips
from latency_profile.page.numbers import MS_PER_S, count, ms_text, percentile_ms, rounded
from latency_profile.page.points.point import Point
from latency_profile.page.section import Section
from latency_profile.statistics import NS_PER_MS, Sample, ordered, quantile
from latency_profile.verdict.evidence import Evidence

HEADING = "Latencies"
# Finer towards 1, where waits are rare and long: steps of 2 % to p90, 0.5 % to p99, 0.1 % to p99.9.
LEVELS = np.unique(
    np.round(
        np.concatenate(
            [np.arange(0, 90, 2) / 100, 0.9 + 0.005 * np.arange(18)]
            + [1 - 10.0**-k * (1 - 0.1 * np.arange(9)) for k in (2, 3)]
            + [np.array([0.9999, 1.0])]
        ),
        6,
    )
)
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# Beyond that, the fast half would be a wall at the left of an axis that is not logarithmic.
SPREAD_FOR_LOG = 20.0
WAITS = {
    "TTFT": ("service", "ttft"),
    "TTFT from due": ("response", "ttft"),
    "visible TTFT": ("service", "ttft_visible"),
    "E2E": ("service", "e2e"),
    "E2E from due": ("response", "e2e"),
}
PACES = {"ITL": ("service", "itl"), "TPOT": ("service", "tpot"), "NTPOT": ("service", "ntpot")}


def distributions_part(point: Point) -> Section:
    there = {name: place for name, place in (WAITS | PACES).items() if point.at("latency", *place) is not None}
    samples = {} if point.known is None else dict(_samples(point.known, there))
    levels = _levels(point.detail)
    curves = {name: _curve(sample, levels) for name, sample in samples.items()}
    waits = {name: place for name, place in there.items() if name in WAITS}
    paces = {name: place for name, place in there.items() if name in PACES}
    found = (
        _figure(point, "waits", "TTFT and E2E" if point.streaming else "E2E", waits, curves),
        _figure(point, "paces", "Time per output token", paces, curves),
    )
    return Section(
        heading=HEADING,
        sentences=tuple(_sentences(point, there)),
        figures=tuple(figure for figure in found if figure is not None),
    )


def _sentences(point: Point, there: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    if point.burst:
        yield "Of all requests of the burst that succeeded; failed ones have no latency."
    else:
        yield (
            f"Of the requests that were {'sent' if point.closed else 'due'} in the measured window and succeeded, "
            f"whenever they ended; failed ones have no latency, and what came in the warm-up is left out."
        )
    if not point.streaming:
        yield "Answers came whole: there are no TTFT, TPOT and ITL."
    if point.closed:
        yield "A closed loop has no due times: latencies count from sent."
    unfinished = max((point.at("latency", *place, "unfinished") or 0 for place in there.values()), default=0)
    if unfinished:
        yield (
            f"{unfinished:,} requests had not ended at the stop: percentiles count them as at least as slow as they "
            f"were, and curves end with the slowest finished one."
        )
    empty = [name for name, place in there.items() if not point.at("latency", *place, "n")]
    if empty:
        yield f"No request has a figure of: {', '.join(empty)}."
    if point.known is None:
        yield "The point's records are not there: only its percentiles are drawn."


def _samples(known: Evidence, there: Mapping[str, object]) -> Iterator[tuple[str, Sample]]:
    records, rows = known.records, known.measured
    make = {
        "TTFT": lambda: measures.time_to_first_token(records, rows, "sent_ns"),
        "TTFT from due": lambda: measures.time_to_first_token(records, rows, "due_ns"),
        "visible TTFT": lambda: measures.time_to_first_visible(records, rows, "sent_ns"),
        "E2E": lambda: measures.end_to_end(records, rows, "sent_ns"),
        "E2E from due": lambda: measures.end_to_end(records, rows, "due_ns"),
        "ITL": lambda: measures.gaps(records, rows),
        "TPOT": lambda: measures.time_per_output_token(records, rows),
        "NTPOT": lambda: measures.normalized_time_per_output_token(records, rows),
    }
    for name in there:
        yield name, make[name]()


def _levels(detail: Detail) -> NDArray[np.float64]:
    """Of LEVELS; the ends and the percentiles that have a name stay."""
    kept = np.arange(len(LEVELS)) % detail.levels == 0
    return np.asarray(LEVELS[kept | np.isin(LEVELS, [0.0, *PERCENTILES.values(), 1.0])])


def _curve(sample: Sample, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values in ms at each level, as percentiles are found; NaN beyond the slowest finished one, and of none."""
    _, known = ordered(sample)
    if not len(known.finished):
        return np.full(len(levels), np.nan)
    found = np.array([quantile(known.estimated, level) for level in levels.tolist()], dtype=np.float64)
    found[found > known.finished[-1]] = np.nan
    return found / NS_PER_MS


def _figure(
    point: Point,
    name: str,
    title: str,
    there: Mapping[str, tuple[str, str]],
    curves: Mapping[str, NDArray[np.float64]],
) -> Figure | None:
    told = _percentiles(point, there)
    if not told["value"]:
        return None
    drawn = [each for each in there if each in curves]
    values = np.concatenate([np.array(told["value"], dtype=np.float64), *(curves[each] for each in drawn)])
    some = values[values > 0]
    log = len(some) > 0 and float(some.max()) > SPREAD_FOR_LOG * float(some.min())
    data: dict[str, Columns] = {"percentiles": told}
    layers = _percentile_layers(list(there))
    reading = "Points: p50, p90, p95 and p99 with their 95 % intervals; hollow: the sample gives no upper end."
    if drawn:
        shown = {each: np.where(curves[each] > 0, curves[each], np.nan) if log else curves[each] for each in drawn}
        data["quantiles"] = {
            "share": rounded((100 * _levels(point.detail)).tolist(), 6),
            **{each: rounded(curve.tolist()) for each, curve in shown.items()},
        }
        layers = [*_curve_layers(drawn), *layers]
        of = "requests (ITL: of gaps)" if "ITL" in drawn else "requests"
        reading = f"Each curve: the share of {of} that took at most so long. {reading}"
        if log and (values <= 0).any():
            reading += " Times of 0 lie left of the logarithmic axis."
    spec: Spec = {
        "height": HEIGHT,
        "encoding": {
            "x": quantitative("value", "ms", scale={"type": "log", "nice": False} if log else {"zero": False}),
            "y": quantitative("share", "at or below, %", scale={"domain": [0, 100]}),
        },
        "layer": layers,
    }
    table = _table(point, there)
    return Figure(name=f"{point.name}-{name}", title=title, reading=reading, spec=spec, data=data, table=table)


def _curve_layers(names: Sequence[str]) -> list[Spec]:
    """The curves, and on them points that nobody sees and that have their numbers."""
    transform, encoding = folded(names)
    told = tooltips([("series", "latency"), ("share", "at or below, %"), ("value", "ms")])
    return [
        {
            "data": {"name": "quantiles"},
            "transform": transform,
            "encoding": {**encoding, "order": {"field": "share", "type": "quantitative"}},
            "layer": [
                {"mark": "line"},
                {"mark": {"type": "point", "opacity": 0, "size": 80}, "encoding": {"tooltip": told}},
            ],
        }
    ]


def _percentile_layers(names: Sequence[str]) -> list[Spec]:
    told = [("series", "latency"), ("level", "percentile"), ("value", "ms"), ("low", "from, ms"), ("high", "to, ms")]
    bounded, point = "isValid(datum.high)", {"type": "point", "size": 40, "opacity": 1}
    return [
        {
            "data": {"name": "percentiles"},
            "encoding": {"color": named("series", names), "tooltip": tooltips(told)},
            "layer": [
                {
                    "transform": [{"filter": f"{bounded} && isValid(datum.low)"}],
                    "mark": {"type": "rule", "strokeWidth": 2},
                    "encoding": {"x": {"field": "low"}, "x2": {"field": "high"}},
                },
                {"transform": [{"filter": bounded}], "mark": {**point, "filled": True}},
                {"transform": [{"filter": f"!{bounded}"}], "mark": point},
            ],
        }
    ]


def _percentiles(point: Point, there: Mapping[str, tuple[str, str]]) -> dict[str, list[Cell]]:
    """The JSON's, in ms: a row a latency and level."""
    rows: list[tuple[Cell, ...]] = []
    for name, place in there.items():
        for level, of in PERCENTILES.items():
            tree = point.at("latency", *place, level) or {}
            if tree.get("value_s") is not None:
                ends = (None if (end := tree.get(key)) is None else end * MS_PER_S for key in ("low_s", "high_s"))
                rows.append((name, level, 100 * of, *rounded((tree["value_s"] * MS_PER_S, *ends))))
    header = ("series", "level", "share", "value", "low", "high")
    return {key: [row[place] for row in rows] for place, key in enumerate(header)}


def _table(point: Point, there: Mapping[str, tuple[str, str]]) -> TextTable:
    def row(name: str, tree: Mapping[str, Any]) -> tuple[str, ...]:
        levels = (percentile_ms(tree.get(level)) for level in PERCENTILES)
        ends = (ms_text(tree.get("min_s")), *levels, ms_text(tree.get("max_s")))
        return name, count(tree.get("n")), count(tree.get("unfinished")), *ends

    return TextTable(
        header=("ms", "n", "unfinished", "min", *PERCENTILES, "max"),
        rows=tuple(row(name, point.at("latency", *place)) for name, place in there.items()),
    )
