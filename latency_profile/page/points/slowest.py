"""The slowest requests of a point, each as a line of its time: due, sent, first token, every event, end."""

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures
from latency_profile.page.figure import Cell, Columns, Figure, TextTable
from latency_profile.page.marks import Spec, tooltips
from latency_profile.page.numbers import NOTHING, ms_text, rounded, seconds
from latency_profile.page.points.point import Point
from latency_profile.page.section import Section
from latency_profile.records import Records, Status
from latency_profile.statistics import NS_PER_S
from latency_profile.verdict.evidence import Evidence

HEADING = "Slowest requests"
ROW_HEIGHT = 16
LATE, WAIT, WHOLE, ANSWER = "not sent yet", "no token yet", "no answer yet", "answering"


def slowest_part(point: Point) -> Section:
    if point.known is None:
        return Section(
            heading=HEADING, sentences=("The point's records are not there: no request is known by itself.",)
        )
    records, rows = point.known.records, point.known.measured
    most = point.detail.slowest
    by_e2e = measures.slowest_end_to_end(records, rows, point.origin, most)
    if not len(by_e2e):
        return Section(
            heading=HEADING, sentences=("No request of the measured window succeeded: none is the slowest.",)
        )
    slowest = {"E2E": by_e2e}
    if point.streaming:
        slowest["TTFT"] = measures.slowest_first_token(records, rows, point.origin, most)
    figures = [_figure(point, point.known, chosen, by) for by, chosen in slowest.items() if len(chosen)]
    shown = np.concatenate(list(slowest.values()))
    sentences = [
        f"Of the requests that the latencies are of, from {'sent' if point.closed else 'due'}; failed ones are not "
        f"among them."
    ]
    if (np.diff(records.event_start)[shown] > point.detail.events).any():
        sentences.append(
            f"Of an answer of more than {point.detail.events} events those are drawn that begin and end its longest "
            f"gaps, and as many at equal steps."
        )
    return Section(heading=HEADING, sentences=tuple(sentences), figures=tuple(figures))


def _figure(point: Point, known: Evidence, chosen: NDArray[np.intp], by: str) -> Figure:
    records = known.records
    origin = records[point.origin][chosen]
    requests = _requests(records, chosen, origin)
    events = {"events": _drawn_events(records, chosen, origin, point.detail.events)} if point.streaming else {}
    spec: Spec = {
        "height": ROW_HEIGHT * len(chosen),
        "data": {"name": "requests"},
        "encoding": {
            "x": {"type": "quantitative", "title": f"s since the request was {'sent' if point.closed else 'due'}"},
            "y": {
                "field": "request",
                "type": "nominal",
                "title": "request",
                "sort": None,  # as they come
                "axis": {"labelOverlap": False},
            },
        },
        "layer": [_stretches(point), *([_ticks()] if point.streaming else [])],
    }
    return Figure(
        name=f"{point.name}-slowest-{by.lower()}",
        title=f"The {len(chosen)} slowest by {by}" if len(chosen) > 1 else f"The slowest by {by}",
        reading=_reading(point),
        spec=spec,
        data={"requests": requests, **events},
        table=_table(requests),
    )


def _reading(point: Point) -> str:
    rows = "A row a request by its place in the plan, the slowest on top. "
    late = "" if point.closed else "Thin: late, not sent yet. "
    if not point.streaming:
        return f"{rows}{late}Half high: from sent to the answer's last byte."
    ticks = "Ticks are events that carried a token."
    return f"{rows}{late}Half high: no token yet; high: from the first token to the last byte. {ticks}"


def _requests(records: Records, chosen: NDArray[np.intp], origin: NDArray[np.int64]) -> Columns:
    """A row a request; times in s since `origin`, but `at`, which is since the point's start."""
    stop = np.where(records["end_ns"] >= 0, records["end_ns"], records.context.measured_ns)

    def since(times_ns: NDArray[np.int64]) -> list[Cell]:
        times = times_ns[chosen]
        return [None if at < 0 else cell for at, cell in zip(times.tolist(), seconds(times - origin), strict=True)]

    status = [Status(one).name for one in records["status"][chosen].tolist()]
    first, end = since(records["first_token_ns"]), since(stop)
    return {
        "request": records["index"][chosen].tolist(),
        "at": rounded((origin / NS_PER_S).tolist(), 6),
        "zero": [0] * len(chosen),
        "sent": since(records["sent_ns"]),
        "first": first,
        "end": end,
        "begun": [last if one is None else one for one, last in zip(first, end, strict=True)],
        "input": records["input_tokens"][chosen].tolist(),
        "output": [None if n < 0 else n for n in records["output_tokens"][chosen].tolist()],
        "status": status,
    }


def _table(requests: Columns) -> TextTable:
    times = {"sent": "sent after, ms", "first": "first token after, ms", "end": "ended after, ms"}
    others = {"input": "input tokens", "output": "output tokens", "status": "status"}
    columns = [
        *([str(cell) for cell in requests[name]] for name in ("request", "at")),
        *([ms_text(None if isinstance(cell, str) else cell) for cell in requests[name]] for name in times),
        *([NOTHING if cell is None else str(cell) for cell in requests[name]] for name in others),
    ]
    header = ("request", "came at, s", *times.values(), *others.values())
    return TextTable(header=header, rows=tuple(zip(*columns, strict=True)))


def _stretches(point: Point) -> Spec:
    """Late, waiting, answering: each higher than the one before, so that they are told apart without colours."""
    told = [
        *(("request", "request"), ("at", "came at, s"), ("sent", "sent after, s"), ("first", "first token after, s")),
        *(("end", "ended after, s"), ("input", "input tokens"), ("output", "output tokens"), ("status", "status")),
    ]

    def stretch(name: str, start: str, end: str, height: float) -> Spec:
        return {
            "mark": {"type": "bar", "height": {"band": height}, "opacity": 0.6},
            "encoding": {"x": {"field": start}, "x2": {"field": end}, "color": {"datum": name}},
        }

    stretches = [stretch(WAIT, "sent", "begun", 0.5), stretch(ANSWER, "begun", "end", 0.8)]
    if not point.streaming:
        stretches = [stretch(WHOLE, "sent", "end", 0.5)]
    if not point.closed:
        stretches.append(stretch(LATE, "zero", "sent", 0.2))
    scale = {"domain": [ANSWER, WAIT, LATE] if point.streaming else [WHOLE, LATE]}
    if point.closed:
        scale["domain"].remove(LATE)
    return {
        "encoding": {"color": {"type": "nominal", "title": None, "scale": scale}, "tooltip": tooltips(told)},
        "layer": stretches,
    }


def _ticks() -> Spec:
    return {
        "data": {"name": "events"},
        "mark": {"type": "tick", "thickness": 1, "height": {"band": 0.8}, "opacity": 1},
        "encoding": {
            "x": {"field": "s"},
            "color": {"datum": ANSWER, "type": "nominal"},
            "tooltip": tooltips([("request", "request"), ("s", "event after, s")]),
        },
    }


def _drawn_events(records: Records, chosen: NDArray[np.intp], origin: NDArray[np.int64], most: int) -> Columns:
    names: list[Cell] = []
    times: list[Cell] = []
    for row, came in zip(chosen.tolist(), origin.tolist(), strict=True):
        events = records.event_ns[records.event_start[row] : records.event_start[row + 1]]
        drawn = seconds(events[_telling(events, most)] - came)
        names += [int(records["index"][row])] * len(drawn)
        times += drawn
    return {"request": names, "s": times}


def _telling(events_ns: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """Places of at most so many: both ends of the longest gaps, and others at equal steps."""
    n = len(events_ns)
    if n <= most:
        return np.arange(n)
    longest = np.argsort(-np.diff(events_ns), kind="stable")[: most // 4]
    even = np.linspace(0, n - 1, most // 2).astype(np.intp)
    return np.unique(np.concatenate((longest, longest + 1, even)))
