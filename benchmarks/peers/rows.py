"""One run as a row, and rows as Markdown tables. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from benchmarks.peers.process import Ran
from benchmarks.peers.tool import Load, Plan, Report
from benchmarks.peers.truth import Truth

OURS = "ours"
TIE_MS = 0.1  # two TTFT errors that differ by less are equal: the server's write itself takes up to this long
_LONGEST_WORDS = 160  # characters of what a tool said that a table shows; the JSON has all
_NOTHING = "–"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool reported at one rate, beside what happened. Null: not known, since there was no result."""

    tool: str  # its short name
    title: str
    offered: float  # requests/s asked for
    requests: int  # asked for
    arrived: int = 0  # at the server
    answered: int = 0  # by the server, to the end
    counted: int | None = None  # by the tool, as succeeded
    ttft_p50_ms: float | None = None  # as reported
    ttft_p99_ms: float | None = None
    ttft_p50_error_ms: float | None = None  # reported - the log's
    ttft_p99_error_ms: float | None = None
    reported_requests_per_s: float | None = None
    delivered_requests_per_s: float | None = None  # by the kernel's stamps of arrival
    variation: float | None = None  # coefficient of variation of the gaps between arrivals; Poisson: 1
    plan_requests_per_s: float | None = None
    plan_variation: float | None = None
    lateness_p99_ms: float | None = None  # as the tool reports it
    server_late_p99_ms: float | None = None
    cpu_us_per_event: float | None = None  # from the first arrival to the command's end
    cpu_s: float | None = None  # of the whole command
    peak_mb: float | None = None
    startup_s: float | None = None  # from the command to the first arrival
    installed_mb: float | None = None
    exit_code: int | None = None
    said: list[str] = []  # its own words
    happened: str = ""  # where there is no result: why


def row(
    tool: str,
    title: str,
    load: Load,
    installed_mb: float,
    ran: Ran | None = None,
    truth: Truth | None = None,
    report: Report | None = None,
    happened: str = "",
) -> Row:
    """All that is known of one run. An exit code other than 0 is something that the tool said."""
    known: dict[str, Any] = {}
    said = list(report.said) if report else []
    if ran:
        known |= {"exit_code": ran.exit_code, "cpu_s": ran.total_cpu_s, "peak_mb": ran.peak_mb}
        if ran.exit_code:
            said.append(f"exit code {ran.exit_code}")
    if truth:
        known |= {
            "arrived": truth.arrived,
            "answered": truth.answered,
            "delivered_requests_per_s": truth.requests_per_s,
            "variation": truth.variation,
            "server_late_p99_ms": truth.write_late_p99_ms,
        }
    if ran and truth:
        known |= {
            "startup_s": (truth.first_arrival_ns - ran.began_ns) / 1e9,
            "cpu_us_per_event": ran.cpu_since(truth.first_arrival_ns) / truth.events * 1e6,
        }
    if report:
        known |= {
            "counted": report.succeeded,
            "ttft_p50_ms": report.ttft_p50_ms,
            "ttft_p99_ms": report.ttft_p99_ms,
            "reported_requests_per_s": report.requests_per_s,
            **_planned(report.plan),
        }
    if report and truth:
        known |= {
            "ttft_p50_error_ms": report.ttft_p50_ms - truth.ttft_p50_ms,
            "ttft_p99_error_ms": report.ttft_p99_ms - truth.ttft_p99_ms,
        }
    return Row(
        tool=tool,
        title=title,
        offered=load.rate,
        requests=load.requests,
        installed_mb=installed_mb,
        said=said,
        happened=happened,
        **known,
    )


def _planned(plan: Plan | None) -> dict[str, float]:
    if plan is None:
        return {}
    return {
        "plan_requests_per_s": plan.rate,
        "plan_variation": plan.variation,
        "lateness_p99_ms": plan.lateness_p99_ms,
    }


def accuracy_table(rows: Sequence[Row]) -> str:
    """Reported against what happened, in order of the rate."""
    head = ["requests/s offered", "tool", "TTFT p50 / p99 error (ms)", "rate delivered (plan)"]
    head += ["arrivals: coefficient of variation (plan; Poisson: 1)", "counted / answered / asked", "what it said"]
    return _table(head, [_accuracy(one) for one in sorted(rows, key=lambda one: one.offered)])


def cost_table(rows: Sequence[Row]) -> str:
    """What each run took of its machine, in order of the rate."""
    head = ["requests/s offered", "tool", "CPU µs per token event", "CPU s in all", "peak memory MB", "start-up s"]
    return _table([*head, "installed MB"], [_cost(one) for one in sorted(rows, key=lambda one: one.offered)])


def behind(rows: Sequence[Row]) -> list[str]:
    """Where a peer did better than this tool at the same rate: a sentence each. A peer that delivered less than 99% of
    what was asked for is still compared."""
    found = []
    for ours in (one for one in rows if one.tool == OURS):
        for peer in (one for one in rows if one.tool != OURS and one.offered == ours.offered):
            found += [
                f"{peer.title} at {peer.offered:g} requests/s: {name} {theirs:.2f}, ours {_figure(mine, 2)}"
                for name, tie, value in _COMPARED
                if (theirs := value(peer)) is not None and ((mine := value(ours)) is None or mine > theirs + tie)
            ]
    return found


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


_COMPARED: list[tuple[str, float, Callable[[Row], float | None]]] = [
    ("TTFT p50 error (ms)", TIE_MS, lambda one: _size(one.ttft_p50_error_ms)),
    ("TTFT p99 error (ms)", TIE_MS, lambda one: _size(one.ttft_p99_error_ms)),
    ("CPU µs per token event", 0.0, lambda one: one.cpu_us_per_event),
    ("peak memory MB", 0.0, lambda one: one.peak_mb),
    ("start-up s", 0.0, lambda one: one.startup_s),
    ("installed MB", 0.0, lambda one: one.installed_mb),
]


def _accuracy(one: Row) -> list[str]:
    counted = _NOTHING if one.counted is None else f"{one.counted:,}"
    words = [*([one.happened] if one.happened else []), *one.said]
    if one.ttft_p50_error_ms is None or one.ttft_p99_error_ms is None:
        error = _NOTHING
    else:
        error = f"{_error(one.ttft_p50_error_ms)} / {_error(one.ttft_p99_error_ms)}"
    return [
        f"{one.offered:g}",
        one.title,
        error,
        _beside(one.delivered_requests_per_s, one.plan_requests_per_s, 1),
        _beside(one.variation, one.plan_variation, 3),
        f"{counted} / {one.answered:,} / {one.requests:,}",
        _cell("; ".join(words) or "nothing"),
    ]


def _cost(one: Row) -> list[str]:
    figures = [_figure(one.cpu_us_per_event, 1), _figure(one.cpu_s, 1), _figure(one.peak_mb, 0)]
    return [f"{one.offered:g}", one.title, *figures, _figure(one.startup_s, 2), _figure(one.installed_mb, 0)]


def _error(value: float) -> str:
    return f"{value:+,.2f}"


def _figure(value: float | None, digits: int) -> str:
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def _beside(value: float | None, plan: float | None, digits: int) -> str:
    return _figure(value, digits) + ("" if plan is None else f" ({_figure(plan, digits)})")


def _cell(text: str) -> str:
    """In one line, without what would end a cell."""
    flat = " ".join(text.split()).replace("|", "/")
    return flat if len(flat) <= _LONGEST_WORDS else flat[: _LONGEST_WORDS - 1] + "…"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
