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
    """An SVG of output throughput and p50 latency by size, with intervals; None where nothing is compared."""
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
        for rates, name in (
            ([rate for _, rate in found], "output"),
            ([cell.total_tokens_per_s for cell, _ in found], "input and output"),
        ):
            values = [rate.value for rate in rates if rate is not None]
            left.errorbar(places, values, yerr=_bars(rates), marker="o", capsize=3, label=name)
        left.set_ylabel("tokens/s")
        right.plot(places, [_p50_ms(cell) for cell, _ in found], marker="o", color="C2", label="request p50")
        right.set_ylabel("ms until the last token")
        for axes in (left, right):
            axes.set_xlabel(LABELS[study.name])
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            if study.name == SHAPES:
                axes.set_xticks(places, [cell.label for cell, _ in found])
            else:
                axes.set_xscale("log", base=2)
                axes.set_xticks(places, [cell.label for cell, _ in found], minor=False)
                axes.minorticks_off()
        if study.knee is not None:
            place = next(at for at, (cell, _) in zip(places, found, strict=True) if cell.label == study.knee)
            left.axvline(place, linestyle=":", color="grey", label=f"knee: {study.knee}")
        left.legend()
        right.legend()
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        return out.getvalue()


def _places(study: Study, found: Sequence[tuple[CellResult, Estimate]]) -> list[float]:
    if study.name == SHAPES:
        return [float(number) for number in range(len(found))]
    return [cell.size or 0.0 for cell, _ in found]


def _bars(rates: Sequence[Estimate | None]) -> list[list[float]]:
    """Lengths below and above; 0 where there is no interval."""
    known = [rate for rate in rates if rate is not None]
    return [
        [rate.value - (rate.value if rate.low is None else rate.low) for rate in known],
        [(rate.value if rate.high is None else rate.high) - rate.value for rate in known],
    ]


def _p50_ms(cell: CellResult) -> float:
    assert cell.request_latency is not None  # it was measured
    return cell.request_latency.p50_s * 1e3
