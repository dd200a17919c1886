"""Pictures of the studies, as the report draws its figures: by Vega-Lite, where vl-convert-python is installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from latency_profile.offline.finding import measured
from latency_profile.offline.structure import CellResult, Estimate, Study
from latency_profile.offline.studies import BATCH_SIZE, DATASET, REQUEST_COUNT, SEQUENCE_LENGTH, SHAPES
from latency_profile.page.figure import Columns, Figure
from latency_profile.page.pictures import svg

TITLES = {
    BATCH_SIZE: "Throughput by batch size",
    SEQUENCE_LENGTH: "Throughput by sequence length (input = output)",
    REQUEST_COUNT: "Throughput by request count",
    SHAPES: "Throughput by shape (input x output tokens)",
}
LABELS = {BATCH_SIZE: "requests in a batch", SEQUENCE_LENGTH: "tokens", REQUEST_COUNT: "requests", SHAPES: None}
LACKING = "no pictures: vl-convert-python is not installed (pip install vl-convert-python)"
RATES = ("output", "input and output")
LATENCIES = ("request p50", "request p95")
WIDTH, HEIGHT = 360, 300  # px of each half
GREY = "#808080"
_FORMS = ("circle", "square")

Spec = dict[str, Any]


def available() -> bool:
    """Whether pictures can be made."""
    return find_spec("vl_convert") is not None


def picture(study: Study, subtitle: str) -> bytes | None:
    """An SVG of throughput and of the requests' latency by size, with 95 % intervals; None where nothing is compared.
    A p95 that the runs do not bound has an arrow upwards."""
    found = figure(study, subtitle)
    return None if found is None else svg(found)


def figure(study: Study, subtitle: str) -> Figure | None:
    """What the picture is drawn from."""
    found = measured(study.cells)
    if study.name == DATASET or len(found) < 2:
        return None
    halves = (("rates", RATES, "tokens/s"), ("latencies", LATENCIES, "ms until the last token"))
    knees = [cell for cell, _ in found if cell.label == study.knee]
    return Figure(
        name=f"offline-{study.name}",
        title=TITLES[study.name],
        reading=f"{subtitle}. Bars are 95 % intervals; ↑: the runs do not bound it above.",
        spec={
            "hconcat": [_half(study, [cell for cell, _ in found], *half) for half in halves],
            "resolve": {"scale": {"color": "independent", "shape": "independent"}},
        },
        data={
            "rates": _columns([(cell, _rates(cell, rate)) for cell, rate in found], RATES),
            "latencies": _columns([(cell, _latencies(cell)) for cell, _ in found], LATENCIES),
            "knee": {"size": [cell.size for cell in knees], "label": [f"knee: {cell.label}" for cell in knees]},
        },
    )


Point = tuple[float, float | None, float | None]  # value, low and high; None: not known


def _rates(cell: CellResult, output: Estimate) -> list[Point | None]:
    return [None if rate is None else (rate.value, rate.low, rate.high) for rate in (output, cell.total_tokens_per_s)]


def _latencies(cell: CellResult) -> list[Point | None]:
    of = cell.request_latency
    if of is None:
        return [None, None]
    return [_in_ms(of.p50_s, of.p50_low_s, of.p50_high_s), _in_ms(of.p95_s, of.p95_low_s, of.p95_high_s)]


def _in_ms(value: float, low: float | None, high: float | None) -> Point:
    return value * 1e3, None if low is None else low * 1e3, None if high is None else high * 1e3


def _columns(cells: Sequence[tuple[CellResult, list[Point | None]]], names: Sequence[str]) -> Columns:
    """A row for each cell and series. `bottom`, `top`: as far as the interval reaches where it is known."""
    rows = [
        (cell.label, cell.size, name, value, value if low is None else low, value if high is None else high, open_above)
        for cell, points in cells
        for name, point in zip(names, points, strict=True)
        if point is not None
        for value, low, high, open_above in [(*point, point[1] is not None and point[2] is None)]
    ]
    heads = ("label", "size", "series", "value", "bottom", "top", "open_above")
    return {head: [row[place] for row in rows] for place, head in enumerate(heads)}


def _half(study: Study, cells: Sequence[CellResult], data: str, names: Sequence[str], title: str) -> Spec:
    x, y = _x(study, cells), {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": True}}
    series = {
        "field": "series",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top", "direction": "horizontal"},
    }
    colour = {**series, "scale": {"domain": list(names)}}
    forms = {**series, "scale": {"domain": list(names), "range": list(_FORMS)}}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"y": {**y, "field": "bottom"}, "y2": {"field": "top"}},
        },
        {"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1}, "encoding": {"y": y, "shape": forms}},
        {
            "transform": [{"filter": "datum.open_above"}],
            "mark": {"type": "text", "text": "↑", "dy": -11, "fontSize": 16, "fontWeight": "bold"},
            "encoding": {"y": y},
        },
    ]
    if study.name != SHAPES:  # which are in no order
        layers.insert(0, {"mark": "line", "encoding": {"y": y}})
    whole: list[Spec] = []
    if study.knee is not None:
        whole.append({"data": {"name": "knee"}, "mark": {"type": "rule", "strokeDash": [2, 3], "color": GREY}})
        words = {"type": "text", "align": "left", "dx": 4, "y": 8, "color": GREY}
        whole.append({"data": {"name": "knee"}, "mark": words, "encoding": {"text": {"field": "label"}}})
    whole.append({"encoding": {"color": colour}, "layer": layers})
    return {"width": WIDTH, "height": HEIGHT, "data": {"name": data}, "encoding": {"x": x}, "layer": whole}


def _x(study: Study, cells: Sequence[CellResult]) -> Spec:
    title = LABELS[study.name]
    if study.name == SHAPES:
        labels = [cell.label for cell in cells]
        return {"field": "label", "type": "nominal", "title": title, "sort": labels, "axis": {"labelAngle": -30}}
    sizes = [cell.size for cell in cells]
    axis = {"values": sizes, "format": "d", "labelOverlap": False}
    scale = {"type": "log", "base": 2, "nice": False, "padding": 12}
    return {"field": "size", "type": "quantitative", "title": title, "scale": scale, "axis": axis}
