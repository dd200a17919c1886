"""How finely single points are drawn: as finely as a screen shows, or less where many points share one page."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """Of each point's figures. No number of a table depends on it but which requests are the slowest ones."""

    levels: int = 1  # every so manieth level of a distribution's curve, beside the percentiles that have a name
    steps: int = 120  # over time, at most
    slowest: int = 10  # requests that are drawn one by one
    events: int = 20  # that are drawn of one answer, at most


WHOLE = Detail()
# The first that holds so many points. Fitted to what a page holds (`form.LIMIT_BYTES`) by benchmarks/report.py.
_BY_POINTS = (
    (100, WHOLE),
    (150, Detail(levels=2, steps=60, slowest=5, events=12)),
    (220, Detail(levels=3, steps=40, slowest=4, events=8)),
)
_LEAST = Detail(levels=4, steps=30, slowest=3, events=6)


def detail_of(points: int) -> Detail:
    """How finely each of so many points is drawn."""
    return next((detail for most, detail in _BY_POINTS if points <= most), _LEAST)


def thinned(detail: Detail, points: int) -> str:
    """What a reader is told of it; nothing where nothing was thinned."""
    if detail == WHOLE:
        return ""
    return (
        f"So that {points:,} points fit in one page, the figures of each are drawn more coarsely: curves of "
        f"distributions through one in {detail.levels} levels and all percentiles that have a name, at most "
        f"{detail.steps} steps over time, the {detail.slowest} slowest requests with at most {detail.events} events "
        f"each. A page of fewer points has {WHOLE.steps} steps and {WHOLE.slowest} requests; all tables of "
        f"percentiles, counts and evidence are whole."
    )
