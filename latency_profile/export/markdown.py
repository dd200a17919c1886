"""Points as a Markdown table, for a pull request: profile after profile. Units and picks, no statistics."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from latency_profile.cost import digits
from latency_profile.export.points import ExportPoint
from latency_profile.report.line import verdict_text
from latency_profile.report.rows import MS_PER_S
from latency_profile.report.table_row import Figure, milliseconds, number
from latency_profile.verdict import Kind

_NOTHING = "–"
_LEGEND = (
    "Latencies in ms, from sending a request; output tokens/s and req/s are the server's. In brackets: 95 % intervals; "
    "≥ and ∞: the sample has no upper bound."
)
_MARKS = re.compile(r"[|\\`*\[~]|<(?=[A-Za-z/!?])")
_BARRED = "~~Struck through~~: must not be used."


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cell: Callable[[ExportPoint], str]  # empty: there is nothing
    figure: bool = True  # a number, which a verdict can bar
    always: bool = False  # also where no point has anything in it


def markdown(points: Sequence[ExportPoint]) -> str:
    """A heading, a table and what is to be said of single points, for each profile."""
    profiles = groupby(points, key=lambda point: point.profile)
    return "\n".join(line for _, profile in profiles for line in _profile(list(profile)))


def _profile(points: Sequence[ExportPoint]) -> Iterator[str]:
    first = points[0]
    started = datetime.fromtimestamp(first.head.started_ns // 1_000_000_000, UTC)
    models = dict.fromkeys(_text(point.head.config.model) for point in points)
    version = first.at("provenance", "server_version")
    server = _text(" ".join(filter(None, (first.at("config", "model_server"), version))))
    yield f"### {', '.join(models)} by {server}, {started:%Y-%m-%d %H:%M} UTC"
    yield ""
    shown = [*_COLUMNS[:1], *([_MODEL] if len(models) > 1 else []), *_COLUMNS[1:]]
    shown = [column for column in shown if column.always or any(column.cell(point) for point in points)]
    yield _row([column.heading for column in shown])
    yield _row(["--:" if column.figure else "---" for column in shown])
    for point in points:
        yield _row([_marked(column, point) for column in shown])
    yield ""
    yield _LEGEND + (f" {_BARRED}" if any(point.head.barred for point in points) else "")
    said = [line for point in points for line in _notes(point, several=len(models) > 1)]
    if said:
        yield ""
        yield from said
    yield ""


def _notes(point: ExportPoint, several: bool) -> Iterator[str]:
    """Why the verdict is not VALID, and what else one should know. several: of several models, each of which has its
    own."""
    name = point.head.load_name + (f", {_text(point.head.config.model)}" if several else "")
    if point.head.cut_short:
        yield f"- {name}: cut short by {point.head.cut_short}"
    for reason in point.reasons:
        yield f"- {name}: {_text(reason)}"
    for remark, text in point.remarks:
        yield f"- {name}: {remark}: {_text(text)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(column: _Column, point: ExportPoint) -> str:
    cell = column.cell(point)
    if not cell:
        return _NOTHING
    return f"~~{cell}~~" if column.figure and point.head.barred else cell


def _text(text: str) -> str:
    """Text that begins no cell of its own, no line, no HTML and no mark of Markdown's."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def _verdict(point: ExportPoint) -> str:
    verdict = point.head.verdict.verdict
    barred = point.head.barred
    said = verdict if verdict == Kind.VALID.value and barred is None else verdict_text(verdict)
    return f"**{said}**" if barred else said


def _interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f" ({_NOTHING if low is None else number(low)} to {'∞' if high is None else number(high)})"


def _rate(name: str) -> Callable[[ExportPoint], str]:
    def cell(point: ExportPoint) -> str:
        of = point.at("throughput") or {}
        value = number(of.get(name))
        return value and value + _interval(of.get(f"{name}_low"), of.get(f"{name}_high"))

    return cell


def _percentile(latency: str, level: str) -> Callable[[ExportPoint], str]:
    def cell(point: ExportPoint) -> str:
        of: dict[str, Any] = point.at("latency", "service", latency, level) or {}
        value, low, high = (_ms(of.get(name)) for name in ("value_s", "low_s", "high_s"))
        if value is None:
            return ""
        return milliseconds(Figure(value, at_least=high is None)) + _interval(low, high)

    return cell


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * MS_PER_S


def _cost(point: ExportPoint) -> str:
    of = point.at("cost") or {}
    found = [of.get(f"usd_per_million_{kind}_tokens") for kind in ("input", "output", "total")]
    return (
        ""
        if all(value is None for value in found)
        else " / ".join(digits(v) if v is not None else _NOTHING for v in found)
    )


_MODEL = _Column("model", lambda point: _text(point.head.config.model), figure=False)
_COLUMNS = (
    _Column("load", lambda point: point.head.load_name, figure=False),
    _Column("verdict", _verdict, figure=False),
    _Column("req/s", _rate("requests_per_s"), always=True),
    _Column("output tokens/s", _rate("output_tokens_per_s"), always=True),
    *(
        _Column(f"{latency.upper()} {level}", _percentile(latency, level))
        for latency in ("ttft", "tpot", "e2e")
        for level in ("p50", "p99")
    ),
    _Column("$ per million tokens: input / output / total", _cost),
)
