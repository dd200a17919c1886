"""What a calibration found, for people. It lays out what it is given and computes nothing but units."""

from collections.abc import Iterator
from textwrap import wrap

from latency_profile.calibration.structure import Calibration, HighestRate, MetricError
from latency_profile.report.table_row import number
from latency_profile.verdict.calibrated import MS_PER_S, SERVER_LATE_P99_LIMIT_MS, beyond_limits, server_was_late

SHARED = "server and client shared this machine's CPU: the errors are rather too large than too small"
_NAMES = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "ntpot": "NTPOT",
    "e2e": "E2E",
    "response_ttft": "TTFT from due",
    "response_e2e": "E2E from due",
    "lateness": "lateness",
}
_TITLE = "client - truth, ms"
_HEADS = ("p50", "p90", "p99", "mean", "sd", "p99 of |Δ|")
_WIDEST = 100
_WIDTHS = (9, 9, 9, 9, 9, 11)


def short_text(calibration: Calibration) -> str:
    """The most important error in a few words, as a note beside a point: its median and its spread."""
    errors = calibration.errors
    name, error = ("TTFT", errors.ttft) if errors.ttft else ("E2E", errors.e2e)
    if error is None:
        return "calibrated"
    return f"calibrated: {name} {error.p50_s * MS_PER_S:+.2f} ms ± {error.sd_s * MS_PER_S:.2f}"


def lines(label: str, calibration: Calibration) -> list[str]:
    """A table of errors, and below it what else there is to know. Without the highest event rate."""
    notes = (wrap(note, _WIDEST, initial_indent="  ", subsequent_indent="    ") for note in _notes(calibration))
    return [*_table(label, calibration), *(line for note in notes for line in note)]


def _table(label: str, calibration: Calibration) -> Iterator[str]:
    processes = f"{calibration.processes} sender process{'es' if calibration.processes > 1 else ''}"
    yield (
        f"{label}: {calibration.requests} requests in {calibration.planned_s:.1f} s, "
        f"{calibration.truth.events_per_s:,.0f} events in the busiest second, {calibration.cadence} cadence, "
        f"{processes}"
    )
    yield ""
    names = max(len(_TITLE), *map(len, _NAMES.values()))
    yield f"  {_TITLE:<{names}}" + "".join(head.rjust(width) for head, width in zip(_HEADS, _WIDTHS, strict=True))
    for field, name in _NAMES.items():
        error: MetricError | None = getattr(calibration.errors, field)
        if error is not None:
            yield f"  {name:<{names}}" + _cells(error)
    yield ""


def _cells(error: MetricError) -> str:
    biases = [f"{value * MS_PER_S:+.3f}" for value in (error.p50_s, error.p90_s, error.p99_s, error.mean_s)]
    spreads = [f"{value * MS_PER_S:.3f}" for value in (error.sd_s, error.p99_of_differences_s)]
    return "".join(cell.rjust(width) for cell, width in zip(biases + spreads, _WIDTHS, strict=True))


def _notes(calibration: Calibration) -> Iterator[str]:
    rates, events, truth = calibration.throughput, calibration.events, calibration.truth
    if calibration.lateness_p99_s is not None:
        yield f"lateness p99 {number(calibration.lateness_p99_s * MS_PER_S)} ms"
    known = [("planned", rates.planned_requests_per_s), ("sent", rates.sent_requests_per_s)]
    known.append(("arrived", rates.arrived_requests_per_s))
    yield "requests/s: " + ", ".join(f"{name} {value:.2f}" for name, value in known if value is not None)
    variations = (("planned", rates.planned_gaps_cv), ("arrived", rates.arrived_gaps_cv))
    if rates.planned_gaps_cv is not None:
        yield "coefficient of variation of the times between: " + ", ".join(
            f"{name} {value:.3f}" for name, value in variations if value is not None
        )
    if rates.received_tokens_per_s is not None and rates.written_tokens_per_s is not None:
        yield (
            f"output tokens/s: received {rates.received_tokens_per_s:,.1f}, written {rates.written_tokens_per_s:,.1f}"
        )
    yield f"events: {events.received:,} of {events.written:,} received, {events.lost} lost, {events.merged} merged"
    if calibration.failed:
        yield f"{calibration.failed} requests failed"
    if truth.uncertainty_p99_s is not None:
        yield f"the truth itself is known to {truth.uncertainty_p99_s * MS_PER_S:.3f} ms (p99 of a write)"
    late = truth.server_late_p99_s * MS_PER_S
    if late > SERVER_LATE_P99_LIMIT_MS:
        yield (
            f"the server of known timing was late itself, p99 {number(late)} ms: this machine cannot hold server and "
            "client at this load, and the load was not quite the one that was wanted"
        )
    else:
        yield f"the server kept its schedule to {late:.2f} ms (p99)"
    for reason in beyond_limits(calibration):
        yield f"{'?' if server_was_late(calibration) else '✗'} {reason}"


def highest_lines(highest: HighestRate) -> Iterator[str]:
    """The highest event rate, and the steps that led to it."""
    if highest.events_per_s is None:
        found = "not one of the rates that were tried went well"
    elif highest.limited_by == "client":
        found = f"{highest.events_per_s:,.0f} events/s; above it the client falls short"
    elif highest.limited_by == "server":
        found = (
            f"at least {highest.events_per_s:,.0f} events/s; above it the server of known timing falls short on this "
            "CPU, and the client's own limit is not known"
        )
    else:
        found = f"at least {highest.events_per_s:,.0f} events/s; more was not tried"
    yield from wrap(f"highest event rate: {found}", _WIDEST, subsequent_indent="  ")
    yield ""
    yield "  wanted/s  written/s  lateness p99  TTFT p99 error  server late p99"
    for step in sorted(highest.steps, key=lambda step: step.wanted_events_per_s):
        cells = (
            f"{step.wanted_events_per_s:10,.0f}{step.events_per_s:11,.0f}{step.lateness_p99_s * MS_PER_S:11.2f} ms"
            f"{step.ttft_p99_s * MS_PER_S:+13.2f} ms{step.server_late_p99_s * MS_PER_S:14.2f} ms"
        )
        yield cells + ("" if step.limit is None else f"  {step.limit} falls short")
