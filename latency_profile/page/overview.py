"""The figures of the overview, from top to bottom: what each shows, and of which points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from latency_profile.page import values
from latency_profile.page.curve import Axis, Mark, curve, load_axis, upwards
from latency_profile.page.figure import Figure
from latency_profile.page.seen import Seen
from latency_profile.page.values import Values
from latency_profile.results.structure import Service
from latency_profile.statistics import Distribution

Across = tuple[str, Callable[[Seen], float | None]]  # an axis: its title with its unit, and a point's place on it

_STREAMED = "known of streamed answers only"
_NOT_READ = "the server does not tell, or its metrics were not read (--scrape-server-metrics)"
_NO_GPU = "no GPU of the server was seen"
_LOADS = {False: "offered rate, requests/s", True: "concurrency, requests in flight"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A figure. why: there may be none. across: what stands on its horizontal axis; None: the offered load."""

    name: str
    title: str
    reading: str
    unit: str
    of: Callable[[Seen], Values]
    why: str
    across: Across | None = None
    named: bool = False  # its lines have names of their own: of a single one, the axis has it


@dataclass(frozen=True, slots=True)
class Overview:
    """figures: those that have data. absent: of those that have none, each with the reason in a line."""

    figures: tuple[Figure, ...]
    absent: tuple[str, ...]


def _latency(name: str, meaning: str, of: Callable[[Service], Distribution | None], why: str = _STREAMED) -> _Kind:
    def percentiles(point: Seen) -> Values:
        return values.percentiles(of(point.result.latency.service))

    return _Kind(name.lower(), name, meaning, f"{name}, ms", percentiles, why)


def _against(kind: _Kind) -> _Kind:
    """A latency against throughput, instead of the load."""
    reading = f"The further right and the lower, the better. {kind.reading}"
    across = ("output tokens/s", values.output_rate)
    return _Kind(
        f"throughput-{kind.name}", f"Throughput against {kind.title}", reading, kind.unit, kind.of, kind.why, across
    )


_TTFT = _latency("TTFT", "Time from sending a request to its first token.", lambda of: of.ttft)
_NTPOT = _latency(
    "NTPOT", "E2E over output tokens: normalized time per output token.", lambda of: of.ntpot, "no answers"
)
_KINDS = (
    _against(_NTPOT),
    _against(_TTFT),
    _TTFT,
    _latency("TPOT", "Time per output token of a request after its first one.", lambda of: of.tpot),
    _latency("ITL", "Gaps between successive token-carrying events, pooled over requests.", lambda of: of.itl),
    _latency("E2E", "Time from sending a request to its answer's last byte.", lambda of: of.e2e, "no answers"),
    _NTPOT,
    _Kind(
        "rate",
        "Throughput",
        "Where it no longer grows with the load, the server is full.",
        "output tokens/s",
        values.throughput,
        "no window has any length",
    ),
    _Kind(
        "goodput",
        "Goodput",
        "Requests a second that keep all limits of --goodput.",
        "requests/s",
        values.goodput,
        "no limits were given (--goodput)",
    ),
    _Kind(
        "attainment",
        "Objectives",
        "Share of requests (of ITL: gaps) that keep each limit of --slo.",
        "share kept, %",
        values.attainment,
        "none of a share was judged (--slo)",
        named=True,
    ),
    _Kind(
        "cost",
        "Cost against NTPOT",
        "Price of all machines over output tokens alone, without idle time.",
        "$ per million output tokens",
        values.cost,
        "no price was given (--machine-cost)",
        ("NTPOT p50, ms", values.ntpot_p50),
    ),
    _Kind(
        "queue",
        "The server's queue",
        "Requests that the server ran and kept waiting, means over the window.",
        "requests",
        values.queue,
        _NOT_READ,
        named=True,
    ),
    _Kind(
        "caches",
        "KV cache and prefix cache",
        "Most of the KV cache that was in use, and prompt tokens that came out of the prefix cache.",
        "%",
        values.caches,
        _NOT_READ,
        named=True,
    ),
    _Kind(
        "gpu",
        "GPUs",
        "Time in which they worked, and memory in use: means over all GPUs.",
        "%",
        values.gpus,
        _NO_GPU,
        named=True,
    ),
    _Kind("power", "GPUs' power", "All GPUs together, mean over the window.", "W", values.power, _NO_GPU),
)


def overview(points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]) -> Overview:
    """The figures of all points. names: of each profile and model, as the page calls it."""
    figures: list[Figure] = []
    absent: list[str] = []
    for kind in _KINDS:
        found = _drawn(kind, points, names)
        figures += found
        if not found:
            absent.append(f"{kind.title}: {kind.why}.")
    return Overview(tuple(figures), tuple(absent))


def _drawn(kind: _Kind, points: Sequence[Seen], names: Mapping[tuple[str, str | None], str]) -> list[Figure]:
    """One figure; against the load one for rates and one for concurrencies, as far as there are any."""
    profiles = list(names.values())
    if kind.across is not None:
        title, place_of = kind.across
        marks = [mark for mark in _marks(kind, points, place_of, names) if mark.x is not None]
        found = curve(
            kind.name, kind.title, kind.reading, Axis(title), _upwards(kind, marks), marks, profiles, labelled=True
        )
        return [found] if found else []
    figures = []
    for closed, across in _LOADS.items():
        of_kind = [point for point in points if point.closed is closed]
        marks = _marks(kind, of_kind, lambda point: point.level, names)
        levels = [mark.x for mark in marks if mark.x is not None]
        burst = (
            " An unlimited rate has no place on this axis, and stands in the table." if len(levels) < len(marks) else ""
        )
        name = f"{kind.name}-in-flight" if closed else kind.name
        axis = load_axis(across, levels)
        found = curve(name, kind.title, kind.reading + burst, axis, _upwards(kind, marks), marks, profiles)
        figures += [found] if found and levels else []
    return figures


def _upwards(kind: _Kind, marks: Sequence[Mark]) -> Axis:
    """A latency's axis is logarithmic where points are far apart."""
    lines = {mark.line for mark in marks}
    unit = f"{lines.pop()}, {kind.unit}" if kind.named and len(lines) == 1 else kind.unit
    return upwards(unit, marks) if unit.endswith(", ms") else Axis(unit)


def _marks(
    kind: _Kind,
    points: Sequence[Seen],
    place_of: Callable[[Seen], float | None],
    names: Mapping[tuple[str, str | None], str],
) -> list[Mark]:
    """Line after line of each profile, in order of load."""
    marks = []
    for key, name in names.items():
        of_series = [point for point in points if (point.profile, point.model) == key]
        ordered = sorted(of_series, key=lambda point: float("inf") if point.level is None else point.level)
        told = [kind.of(point) for point in ordered]
        for line in dict.fromkeys(line for each in told for line in each):
            for place, (point, each) in enumerate(zip(ordered, told, strict=True)):
                value = each.get(line)
                if value is not None:
                    marks.append(
                        Mark(
                            profile=name,
                            line=line,
                            load=point.load,
                            place=place,
                            x=place_of(point),
                            y=value.y,
                            low=value.low,
                            high=value.high,
                            shown=value.shown,
                            interval=value.interval,
                            verdict=point.verdict,
                            usable=point.barred is None,
                        )
                    )
    return marks
