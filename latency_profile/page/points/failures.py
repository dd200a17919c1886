"""What became of requests that did not succeed, over a point's time."""

from collections.abc import Mapping

import numpy as np

from latency_profile.page.figure import Cell, Figure, TextTable
from latency_profile.page.marks import COLOURS, HEIGHT, named, quantitative, tooltips
from latency_profile.page.numbers import count, rounded
from latency_profile.page.points.bins import bins_over, length_text
from latency_profile.page.points.point import Point
from latency_profile.page.section import Named, Section
from latency_profile.records import Status
from latency_profile.results.errors import errors_by_kind
from latency_profile.verdict.evidence import Evidence

HEADING = "Requests that did not succeed"


def failures_part(point: Point) -> Section:
    by_kind = {kind: n for kind, n in (point.at("errors_by_kind") or {}).items() if n}
    planned = point.at("load", "counts", "planned")
    if not by_kind:
        return Section(heading=HEADING, sentences=(f"All {count(planned)} requests of the point succeeded.",))
    samples = point.at("client", "error_samples") or {}
    told = TextTable(
        header=("how it ended", "requests", "what was said"),
        rows=tuple(
            (kind, count(n), " ".join(samples.get(kind, [])))
            for kind, n in sorted(by_kind.items(), key=lambda pair: (-pair[1], pair[0]))
        ),
    )
    sentence = f"{sum(by_kind.values()):,} of {count(planned)} requests of the whole point; none is in a latency."
    tables = (Named(caption="How they ended, and what was said", table=told),)
    if point.known is None:
        absent = "The point's records are not there: when they ended is not known."
        return Section(heading=HEADING, sentences=(sentence, absent), tables=tables)
    figure = _figure(point, point.known)
    figures = () if figure is None else (figure,)
    return Section(heading=HEADING, sentences=(sentence,), tables=tables, figures=figures)


def _figure(point: Point, known: Evidence) -> Figure | None:
    records, rows = known.records, known.rows
    bins = bins_over(records.context.measured_ns, point.detail.steps)
    if bins is None:
        return None
    stopped = np.where(records["end_ns"] >= 0, records["end_ns"], records.context.measured_ns)
    steps = bins.ended(stopped)
    kinds = _kinds(errors_by_kind(records["status"][rows]))
    columns: dict[str, list[Cell]] = {"from": [], "kind": [], "requests": []}
    for name, statuses in kinds.items():
        numbers = np.bincount(steps[rows & np.isin(records["status"], statuses)], minlength=bins.count)
        for place in np.flatnonzero(numbers).tolist():
            columns["from"] += rounded([place * bins.width_s])
            columns["kind"].append(name)
            columns["requests"].append(int(numbers[place]))
    end_s = bins.count * bins.width_s
    step = {"calculate": f"datum.from + {bins.width_s:.12g}", "as": "to"}
    scale = {"domain": [0, end_s], "nice": False}
    told = [("kind", "how it ended"), ("requests", "requests"), ("from", "from, s"), ("to", "to, s")]
    last = point.last_sent_s
    ended = "" if last is None else f" The last request was sent at {last:.4g} s."
    return Figure(
        name=f"{point.name}-failures",
        title="Failures by kind",
        reading=f"Requests that ended otherwise than with a whole answer, in steps of {length_text(bins.width_s)}, one "
        f"kind on top of another; those that were unfinished or not sent stand at the stop.{ended}",
        spec={
            "height": HEIGHT,
            "data": {"name": "failures"},
            "transform": [step],
            "mark": "bar",
            "encoding": {
                "x": quantitative("from", "s since the point's start", bin="binned", scale=scale),
                "x2": {"field": "to"},
                "y": quantitative("requests", "requests", stack="zero"),
                "color": {**named("kind", list(kinds)), "legend": {"columns": 2}},
                "tooltip": tooltips(told),
            },
        },
        data={"failures": columns},
    )


def _kinds(by_kind: Mapping[str, int]) -> dict[str, list[Status]]:
    """The kinds that occurred, the commonest first; of more than there are colours, the last ones are one."""
    found = sorted((name for name, n in by_kind.items() if n), key=lambda name: -by_kind[name])
    shown = found if len(found) <= COLOURS else found[: COLOURS - 1]
    kinds = {name: [Status[name]] for name in shown}
    others = [Status[name] for name in found if name not in kinds]
    return {**kinds, "others": others} if others else kinds
