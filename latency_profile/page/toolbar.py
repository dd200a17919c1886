"""What stands above the curves: what is shown, and how marks are read."""

from collections.abc import Sequence

from latency_profile.page.curve import SHAPES
from latency_profile.page.figure import Figure
from latency_profile.page.html import element, text
from latency_profile.page.seen import Seen
from latency_profile.page.values import PERCENTILES

_VERDICTS = {
    "VALID": "use it",
    "SATURATED": "the backlog grew: latencies tell of the run's length",
    "TOO_FEW_SAMPLES": "the p99 has no interval",
    "CLIENT_LIMITED": "the client was late: not to be used",
    "CONTAMINATED": "a warm cache, or others' requests: not to be used",
    "FAILED": "too many failures: not to be used",
}
_INTERVALS = "Bands and bars: 95\u00a0% intervals. ↑: the sample has no upper bound. Hollow: must not be used."


def toolbar(points: Sequence[Seen], profiles: Sequence[str], figures: Sequence[Figure]) -> str:
    """Buttons that hide profiles and percentiles, the axes' switch, and what marks mean."""
    several = len(profiles) > 1
    groups = []
    if several:
        groups.append(_buttons("Profiles", "profile", profiles, set()))
    if any("line" in figure.data["points"] and PERCENTILES[0] in figure.data["points"]["line"] for figure in figures):
        hidden = {"p90"} if several else set()
        groups.append(_buttons("Percentiles", "line", PERCENTILES, hidden))
    axis = element("button", "Logarithmic", type="button", id="log", aria_pressed="false")
    groups.append(
        element("div", element("span", "Latency axes"), axis, class_="choice", role="group", aria_label="Latency axes")
    )
    shapes = dict.fromkeys(point.verdict for point in points)
    key = [
        element(
            "li",
            element("span", class_="shape", data_shape=SHAPES[verdict], data_verdict=verdict, aria_hidden="true"),
            element("span", text(verdict), title=_VERDICTS[verdict]),
            text(f": {_VERDICTS[verdict]}"),
        )
        for verdict in SHAPES
        if verdict in shapes
    ]
    return element("div", *groups, class_="toolbar", role="group", aria_label="What the curves show") + element(
        "ul", *key, element("li", _INTERVALS), class_="key", aria_label="Marks"
    )


def _buttons(label: str, column: str, values: Sequence[str], hidden: set[str]) -> str:
    made = [
        element(
            "button",
            element("span", class_="swatch", aria_hidden="true"),
            text(value),
            type="button",
            data_column=column,
            data_value=value,
            data_place=str(place),
            aria_pressed="false" if value in hidden else "true",
        )
        for place, value in enumerate(values)
    ]
    return element("div", element("span", label), *made, class_="choice", role="group", aria_label=label)
