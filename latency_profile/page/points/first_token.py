"""Where the time to the first token goes: parts that were measured, and which were not."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.measures import Rows
from latency_profile.page.figure import Cell, Columns, Figure, TextTable
from latency_profile.page.marks import named, quantitative, tooltips
from latency_profile.page.numbers import MS_PER_S, cell_text, ms_text, rounded
from latency_profile.page.points.point import Point
from latency_profile.page.section import Section
from latency_profile.statistics import NS_PER_S
from latency_profile.verdict.evidence import Evidence

HEADING = "Parts of the TTFT"
LATENESS, OUTSIDE, QUEUE, PREFILL = "lateness of sending", "network and HTTP", "server's queue", "prefill"
REST, UNTOLD = "what remains", "from sent on"
NAMES = (LATENESS, OUTSIDE, QUEUE, PREFILL, REST, UNTOLD)  # as they stand in a bar
COLOURED = (LATENESS, UNTOLD, QUEUE, PREFILL, OUTSIDE, REST)  # neighbours with unlike colours
REMAINS = " What remains: all that is not told apart, such as the network, HTTP and the first step of decoding."
# Bands of requests by their TTFT, so that what makes the slow ones slow is not lost in a mean.
BANDS = (("fastest half", 0.0, 0.5), ("p50 to p90", 0.5, 0.9), ("p90 to p99", 0.9, 0.99), ("slowest 1 %", 0.99, 1.0))
ALL = "all"
ROW_HEIGHT = 28
Parts = Mapping[str, NDArray[Any]]  # ns of each request, by the part's name


def first_token_part(point: Point) -> Section:
    if not point.streaming:
        return Section(heading=HEADING, sentences=("Answers came whole: there is no TTFT to be split.",))
    figures, sentences = [], []
    if point.known is None:
        sentences.append("The point's records are not there: single requests are not known.")
    else:
        rows, parts = _of_requests(point, point.known)
        if rows.any() and len(parts) > 1:
            figures.append(_bands(point, point.known, rows, parts))
        sentences += _told(point.known, rows, parts)
    split = point.at("server", "reconciliation", "ttft_split")
    if split is None:
        sentences.append("The server's metrics do not split the mean TTFT.")
    else:
        figures.append(_mean(point, split))
        sentences += _not_measured(split)
    return Section(heading=HEADING, sentences=tuple(sentences), figures=tuple(figures))


def _of_requests(point: Point, known: Evidence) -> tuple[Rows, Parts]:
    """The requests whose TTFT is split, and its parts in order of arrival; they add up to the TTFT from due (closed
    loop: sent). Where answers tell of the prefill, those that do; else all succeeded ones, in two parts."""
    records = known.records
    good = measures.succeeded(records, known.measured) & (records["first_token_ns"] >= 0)
    told = good & measures.sent_once(records) & (records["server_prefill_ns"] >= 0)
    rows = told if told.any() else good
    parts: dict[str, NDArray[Any]] = {}
    if not point.closed:
        from_due = measures.time_to_first_token(records, rows, "due_ns").values
        parts[LATENESS] = from_due - measures.time_to_first_token(records, rows, "sent_ns").values
    if not told.any():
        return rows, {**parts, UNTOLD: measures.time_to_first_token(records, rows, "sent_ns").values}
    chosen = measures.in_order(records, rows)
    queue = records["server_queue_ns"][chosen]
    if (queue >= 0).any():
        parts[QUEUE] = np.maximum(queue, 0)
    parts[PREFILL] = records["server_prefill_ns"][chosen]
    return rows, {**parts, REST: measures.unexplained_first_token(records, rows).values}


def _told(known: Evidence, rows: Rows, parts: Parts) -> Iterator[str]:
    """What answers say, and what they do not."""
    if not rows.any():
        yield "No request of the window succeeded: there is no TTFT to be split."
        return
    if LATENESS in parts:
        yield "Waiting for a connection is part of the lateness: it is not measured apart."
    if PREFILL not in parts:
        yield "Answers do not say how long the server's queue and prefill took: they are not told apart."
        return
    if QUEUE not in parts:
        yield "Answers tell of the prefill, and not of the server's queue."
    good = int((measures.succeeded(known.records, known.measured) & (known.records["first_token_ns"] >= 0)).sum())
    if int(rows.sum()) < good:
        yield (
            f"Of {int(rows.sum()):,} of {good:,} requests: the others' answers do not tell, or they were sent more "
            f"than once."
        )


def _bands(point: Point, known: Evidence, rows: Rows, parts: Parts) -> Figure:
    """Means of each part over the requests of each band, stacked."""
    total = np.sum(list(parts.values()), axis=0)
    order = np.argsort(total, kind="stable")
    columns: dict[str, list[Cell]] = {"band": [], "requests": [], "part": [], "place": [], "mean": [], "ttft": []}
    for name, low, high in ((ALL, 0.0, 1.0), *BANDS):
        chosen = order[round(low * len(order)) : round(high * len(order))]
        if len(chosen):
            for part, values in parts.items():
                columns["band"].append(name)
                columns["requests"].append(len(chosen))
                columns["part"].append(part)
                columns["place"].append(NAMES.index(part))
                columns["mean"] += _mean_ms(values[chosen])
                columns["ttft"] += _mean_ms(total[chosen])
    closed = known.records.context.concurrency is not None
    return Figure(
        name=f"{point.name}-ttft-parts",
        title="TTFT in its parts, by how long it took",
        reading=f"Means over succeeded requests of the window, by their TTFT from {'sent' if closed else 'due'}: all "
        f"of them, and from the fastest half to the slowest hundredth.{REMAINS if REST in parts else ''}",
        spec=_stacked(list(dict.fromkeys(str(band) for band in columns["band"])), parts),
        data={"parts": columns},
        table=_table(columns),
    )


def _mean_ms(values_ns: NDArray[Any]) -> list[Cell]:
    return rounded([float(values_ns.mean()) / NS_PER_S * MS_PER_S])


def _mean(point: Point, split: Mapping[str, float | None]) -> Figure:
    """The JSON's split of the mean TTFT by the server's metrics."""
    known = {
        LATENESS: None if point.closed else split.get("lateness_s"),
        OUTSIDE: split.get("outside_s"),
        QUEUE: split.get("queue_s"),
        PREFILL: split.get("prefill_s"),
        REST: split.get("rest_s"),
    }
    there = {name: value for name, value in known.items() if value is not None}
    whole = f"{ms_text(split.get('total_s'))} ms"
    columns: dict[str, list[Cell]] = {
        "band": [ALL] * len(there),
        "part": list(there),
        "place": [NAMES.index(name) for name in there],
        "mean": rounded(value * MS_PER_S for value in there.values()),
        "ttft": rounded([(split.get("total_s") or 0.0) * MS_PER_S] * len(there)),
    }
    return Figure(
        name=f"{point.name}-ttft-mean",
        title=f"The mean TTFT, {whole}, by the server's metrics",
        reading="Of all succeeded requests of the point, warm-up included; parts that are not shown were not measured."
        f"{REMAINS if REST in there else ''}",
        spec=_stacked([ALL], there),
        data={"parts": columns},
        table=_table(columns),
    )


def _table(columns: Columns) -> TextTable:
    """A row a band, a column a part; means in ms."""
    parts = list(dict.fromkeys(map(str, columns["part"])))
    rows: dict[str, list[str]] = {}
    for band, mean, ttft in zip(columns["band"], columns["mean"], columns["ttft"], strict=True):
        rows.setdefault(str(band), [cell_text(ttft)]).append(cell_text(mean))
    return TextTable(
        header=("TTFT, mean, ms", "whole", *parts), rows=tuple((band, *cells) for band, cells in rows.items())
    )


def _not_measured(split: Mapping[str, float | None]) -> Iterator[str]:
    keys = {OUTSIDE: "outside_s", QUEUE: "queue_s", PREFILL: "prefill_s"}
    absent = [name for name, key in keys.items() if split.get(key) is None]
    if absent:
        yield f"By the server's metrics, not measured: {', '.join(absent)}."


def _stacked(order: list[str], parts: Iterable[str]) -> dict[str, Any]:
    """A bar a band, its parts in the order of NAMES; each has a colour of its own in every figure."""
    told = [("band", "requests by TTFT"), ("part", "part"), ("mean", "mean, ms"), ("ttft", "whole TTFT, mean, ms")]
    return {
        "height": ROW_HEIGHT * len(order),
        "data": {"name": "parts"},
        "mark": "bar",
        "encoding": {
            "y": {"field": "band", "type": "nominal", "title": None, "sort": order},
            "x": quantitative("mean", "mean, ms", stack="zero"),
            "color": {
                **named("part", COLOURED),
                "legend": {"values": [name for name in NAMES if name in set(parts)], "columns": 2},
            },
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": tooltips(told),
        },
    }
