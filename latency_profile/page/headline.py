"""The profile in a sentence: the best that its points can say. Picks, no statistics."""

from collections.abc import Sequence

from latency_profile import results
from latency_profile.capacity.structure import Capacity
from latency_profile.capacity.text import capacity_text
from latency_profile.cost import digits
from latency_profile.page.seen import Seen, whole
from latency_profile.report.closing import verdicts_text
from latency_profile.report.table_row import milliseconds, number
from latency_profile.slo.structure import JudgedLoad
from latency_profile.verdict import Kind

NEAR = 1.001  # times: the last probe of a search is at that end, which is rounded for those who read it


def headline(points: Sequence[Seen], capacity: Capacity | None = None) -> str:
    """Of one profile: its capacity where it was searched for, up to which load objectives are kept, or else the highest
    throughput, with the cost there; and the verdicts."""
    of_all = whole(points) or list(points)
    slo = results.slo_of(point.result for point in of_all)
    if capacity is not None:
        best = _carried(of_all, capacity) if capacity.answered else None
        told = capacity_text(capacity) + (f" At {best.load_name}: {_figures(best)}." if best else "")
    elif slo is None:
        best = _highest(of_all)
        told = _throughput(best) if best else "No point may be used: the numbers below are no measure of the server."
    else:
        kept = None if slo.highest_kept is None else _level(slo.highest_kept)
        best = next((point for point in of_all if kept is not None and point.level == kept), None)
        told = slo.text + (f" At {best.load_name}: {_figures(best)}." if best else "")
    return f"{told} {verdicts_text([point.row for point in of_all])}."


def _level(load: JudgedLoad) -> float | None:
    return load.request_rate if load.concurrency is None else float(load.concurrency)


def _carried(points: Sequence[Seen], capacity: Capacity) -> Seen | None:
    """The highest load that was measured and is known to be carried: up to the lower end of the interval."""
    known = capacity.low if capacity.low is not None else capacity.highest_kept
    usable = [point for point in points if point.barred is None and point.verdict != Kind.SATURATED.value]
    below = [
        (point.level, point) for point in usable if point.level is not None and point.level <= (known or 0.0) * NEAR
    ]
    return max(below, key=lambda pair: pair[0], default=(None, None))[1]


def _highest(points: Sequence[Seen]) -> Seen | None:
    """The highest throughput of valid points, or where none is of those that may be used."""
    usable = [point for point in points if point.barred is None and point.row.output_tokens_per_s is not None]
    valid = [point for point in usable if point.verdict == Kind.VALID.value]
    return max(valid or usable, key=lambda point: point.row.output_tokens_per_s or 0.0, default=None)


def _throughput(point: Seen) -> str:
    if point.verdict == Kind.VALID.value:
        return f"Highest valid throughput: {_figures(point)}, at {point.load_name}."
    return f"No point is VALID; highest throughput that may be used: {_figures(point)}, at {point.load_name}."


def _figures(point: Seen) -> str:
    row = point.row
    said = [f"{number(row.output_tokens_per_s)} output tokens/s"] if row.output_tokens_per_s is not None else []
    for name, figure in (("TTFT p99", row.ttft_p99_ms), ("E2E p99", row.e2e_p99_ms)):
        if figure.value is not None:
            said.append(f"{name} {milliseconds(figure)} ms")
    if row.cost.alone.output is not None:
        said.append(f"${digits(row.cost.alone.output)} per million output tokens")
    return ", ".join(said)
