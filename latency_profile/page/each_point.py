"""What the page tells of one point beside its figures: what was judged, and what became of its requests."""

from collections.abc import Iterator

from latency_profile.page.figure import TextTable
from latency_profile.page.section import Named, Section
from latency_profile.page.seen import Seen
from latency_profile.report.table_row import number
from latency_profile.statistics import Distribution

MS_PER_S = 1000.0
_LEVELS = ("p50", "p90", "p95", "p99")


def told(point: Seen) -> Section:
    """Remarks as sentences; latencies, objectives and requests as tables."""
    row = point.row
    return Section(
        heading="Numbers",
        sentences=tuple(f"{note.rstrip('.')}." for note in row.notes),
        tables=tuple(_tables(point)),
    )


def _tables(point: Seen) -> Iterator[Named]:
    result = point.result
    service, response = result.latency.service, result.latency.response
    known: dict[str, Distribution | None] = {
        "TTFT": service.ttft,
        "visible TTFT": service.ttft_visible,
        "TPOT": service.tpot,
        "ITL": service.itl,
        "NTPOT": service.ntpot,
        "E2E": service.e2e,
        "TTFT from due": response.ttft if response else None,
        "E2E from due": response.e2e if response else None,
    }
    yield Named(
        caption="Latencies, ms, with 95 % intervals",
        table=TextTable(
            header=("latency", "n", "mean", *_LEVELS),
            rows=tuple(_latency(name, of) for name, of in known.items() if of is not None),
        ),
    )
    if result.slo is not None:
        yield Named(
            caption="Objectives",
            table=TextTable(
                header=("objective", "outcome", "why"),
                rows=tuple(
                    (each.name, each.outcome.value if each.outcome else "not judged", each.reason)
                    for each in result.slo.objectives
                ),
            ),
        )
    counts = result.load.counts
    names = ("planned", "sent", "succeeded", "failed", "unfinished", "not_sent", "resent", "retried")
    yield Named(
        caption="Requests",
        table=TextTable(
            header=("how they ended", "requests"),
            rows=tuple(
                [(name.replace("_", " "), str(getattr(counts, name))) for name in names if getattr(counts, name)]
                + [(f"failed: {kind}", str(count)) for kind, count in result.errors_by_kind.items() if count]
            ),
        ),
    )


def _latency(name: str, of: Distribution) -> tuple[str, ...]:
    mean = _with_ends(of.mean_s, of.mean_low_s, of.mean_high_s)
    levels = [getattr(of, level) for level in _LEVELS]
    return (name, str(of.n), mean, *(_with_ends(each.value_s, each.low_s, each.high_s) for each in levels))


def _with_ends(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    if low is None and high is None:
        return number(value * MS_PER_S)
    ends = [("–" if low is None else number(low * MS_PER_S)), ("∞" if high is None else number(high * MS_PER_S))]
    return f"{number(value * MS_PER_S)} ({' to '.join(ends)})"
