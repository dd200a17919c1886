"""Pictures of the studies, by matplotlib where it is installed: it comes with the extra `plots`."""

import io
from collections.abc import Sequence
from typing import Any

from latency_profile.offline.finding import measured
from latency_profile.offline.structure import CellResult, Estimate, Study
from latency_profile.offline.studies import BATCH_SIZE, DATASET, REQUEST_COUNT, SEQUENCE_LENGTH, SHAPES

TITLES = {
    BATCH_SIZE: "Throughput by batch size",
    SEQUENCE_LENGTH: "Throughput by sequence length (input = output)",
    REQUEST_COUNT: "Throughput by request count",
    SHAPES: "Throughput by shape (input x output tokens)",
}
LABELS = {BATCH_SIZE: "requests in a batch", SEQUENCE_LENGTH: "tokens", REQUEST_COUNT: "requests", SHAPES: ""}
LACKING = "no pictures: matplotlib is not installed (pip install matplotlib)"


def available() -> bool:
    """Whether pictures can be made."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def picture(study: Study, subtitle: str) -> bytes | None:
    """An SVG of throughput and of the requests' latency by size, with 95 % intervals; None where nothing is compared.
    A p95 that the runs do not bound has an arrow upwards."""
    found = measured(study.cells)
    if study.name == DATASET or len(found) < 2:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "latency-profile"}):  # text is text, bytes the same
        figure: Any = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(f"{TITLES[study.name]}\n{subtitle}", fontsize=10)
        places = _places(study, found)
        line = "" if study.name == SHAPES else "-"  # shapes are in no order
        for rates, name in (
            ([rate for _, rate in found], "output"),
            ([cell.total_tokens_per_s for cell, _ in found], "input and output"),
        ):
            points = [(rate.value, rate.low, rate.high) for rate in rates if rate is not None]
            _draw(left, places, points, fmt=f"o{line}", label=name)
        spreads = [cell.request_latency for cell, _ in found if cell.request_latency is not None]
        p50 = [_in_ms(of.p50_s, of.p50_low_s, of.p50_high_s) for of in spreads]
        p95 = [_in_ms(of.p95_s, of.p95_low_s, of.p95_high_s) for of in spreads]
        _draw(right, places, p50, fmt=f"o{line}", color="C2", label="request p50")
        _draw(right, places, p95, fmt=f"s{line}", color="C3", label="request p95")
        left.set_ylabel("tokens/s")
        right.set_ylabel("ms until the last token")
        for axes in (left, right):
            axes.set_xlabel(LABELS[study.name])
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            if study.name == SHAPES:
                axes.set_xticks(places, [cell.label for cell, _ in found], rotation=30, ha="right")
            else:
                axes.set_xscale("log", base=2)
                axes.set_xticks(places, [cell.label for cell, _ in found], minor=False)
                axes.minorticks_off()
            if study.knee is not None:
                place = next(at for at, (cell, _) in zip(places, found, strict=True) if cell.label == study.knee)
                axes.axvline(place, linestyle=":", color="grey", label=f"knee: {study.knee}")
        left.legend()
        right.legend()
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        return out.getvalue()


def _places(study: Study, found: Sequence[tuple[CellResult, Estimate]]) -> list[float]:
    if study.name == SHAPES:
        return [float(number) for number in range(len(found))]
    return [cell.size or 0.0 for cell, _ in found]


Point = tuple[float, float | None, float | None]  # value, low and high; None: not known


def _draw(axes: Any, places: Sequence[float], points: Sequence[Point], **how: Any) -> None:
    """Points with bars as far as they are known; one that has a lower end only has an arrow in place of its upper."""
    values = [value for value, _, _ in points]
    bars = [
        [value - (value if low is None else low) for value, low, _ in points],
        [(value if high is None else high) - value for value, _, high in points],
    ]
    drawn = axes.errorbar(places, values, yerr=bars, capsize=3, **how)
    above = [(place, value) for place, (value, low, high) in zip(places, points, strict=True) if low and high is None]
    if above:
        axes.plot(*zip(*above, strict=True), marker=10, linestyle="", color=drawn.lines[0].get_color(), markersize=9)


def _in_ms(value: float, low: float | None, high: float | None) -> Point:
    return value * 1e3, low and low * 1e3, high and high * 1e3
