"""Axes, labels and shapes of the curves over loads: fitted to what is drawn, and no more than there is room for."""

import math
from dataclasses import replace

import pytest
import vl_convert

from latency_profile.page.curve import CROWDED, SHAPES, Axis, Mark, curve, load_axis, log_ticks, upwards
from latency_profile.page.figure import Figure
from latency_profile.report.line import UNUSABLE
from tests.page_points import whole_spec


def mark(place: int, y: float, x: float | None = None, verdict: str = "VALID") -> Mark:
    return Mark(
        profile="one",
        line="p50",
        load=str(place),
        place=place,
        x=x,
        y=y,
        low=0.9 * y,
        high=1.1 * y,
        shown=str(y),
        verdict=verdict,
        usable=verdict not in UNUSABLE,
    )


def drawn(marks: list[Mark], x: Axis, y: Axis, labelled: bool = False) -> Figure:
    found = curve("ttft", "TTFT", "Of requests.", x, y, marks, ["one"], labelled)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (6.5, 20, [8, 10, 12, 14, 16, 18, 20]),
        (9.6, 11.6, [10, 10.5, 11, 11.5]),
        (4, 170, [5, 10, 20, 50, 100]),
        (0.03, 40_000, [0.1, 1, 10, 100, 1_000, 10_000]),
        (90, 1_100, [100, 200, 500, 1_000]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round_and_on_it(low: float, high: float, expected: list[float]) -> None:
    found = log_ticks(low, high)
    assert all(low <= tick <= high for tick in found)
    assert found == pytest.approx(expected)


def test_a_logarithmic_axis_ends_close_to_its_marks_and_knows_no_burst() -> None:
    marks = [mark(place, 30.0 * 2.6**place, x=2.0**place) for place in range(5)]
    y = upwards("TTFT, ms", [*marks, mark(9, 90_000.0)])
    assert y.logarithmic
    spec = drawn(marks, load_axis("rate", [each.x or 0 for each in marks]), y).spec
    low, high = spec["encoding"]["y"]["scale"]["domain"]
    least, most = 0.9 * 30.0, 1.1 * 30.0 * 2.6**4
    assert low < least < most < high
    assert math.log(high / low) < 1.15 * math.log(most / least)
    assert spec["usermeta"]["linear"]["scale"] == {"type": "linear", "zero": True}


def test_marks_close_together_have_a_linear_axis_and_may_have_the_other() -> None:
    marks = [mark(place, 30.0 + place, x=place + 1.0) for place in range(3)]
    y = upwards("TTFT, ms", marks)
    assert not y.logarithmic
    spec = drawn(marks, Axis("rate"), y).spec
    assert spec["encoding"]["y"]["scale"]["zero"]
    assert spec["usermeta"]["logarithmic"]["scale"]["type"] == "log"
    zero = upwards("TTFT, ms", [*marks, replace(mark(4, 5.0, x=4.0), low=0.0)])
    assert zero.ends is None, "a logarithm has no place for it"
    assert "usermeta" not in drawn(marks, Axis("rate"), zero).spec


def test_many_loads_have_round_ticks_and_few_their_own() -> None:
    few = load_axis("rate", [2, 5, 40])
    assert (few.logarithmic, few.ticks) == (True, (2, 5, 40))
    many = load_axis("rate", [1.07**place for place in range(CROWDED + 40)])
    assert many.logarithmic and many.ticks == (1, 2, 5, 10, 20, 50)
    assert load_axis("rate", list(range(10, 10 + CROWDED + 1))).ticks == ()


def test_labels_leave_each_other_room() -> None:
    marks = [mark(place, 10.0 + place / 10, x=float(place)) for place in range(60)]
    labels = drawn(marks, Axis("tokens/s"), Axis("TTFT, ms"), labelled=True).data["points"]["label"]
    kept = [place for place, label in enumerate(labels) if label is not None]
    assert kept[0] == 0 and 8 <= len(kept) <= 16
    few = drawn(marks[::10], Axis("tokens/s"), Axis("TTFT, ms"), labelled=True).data["points"]["label"]
    assert None not in few


def test_a_legend_has_outlines_of_what_must_not_be_used(capfd: pytest.CaptureFixture[str]) -> None:
    """A legend fills its shapes: those that must not be used are outlines, of two edges, by themselves."""
    marks = [mark(place, 10.0, x=float(place), verdict=verdict) for place, verdict in enumerate(SHAPES)]
    figure = drawn(marks, Axis("rate"), Axis("TTFT, ms"))
    vega = vl_convert.vegalite_to_vega(whole_spec(figure), vl_version="6.4", show_warnings=True)
    assert capfd.readouterr().err == ""
    [shapes] = [scale for scale in vega["scales"] if scale["name"] == "shape"]
    outlined = {verdict for verdict, shape in zip(shapes["domain"], shapes["range"], strict=True) if "M" in shape}
    assert outlined == UNUSABLE
    assert all(shape.count("M") == 2 for shape in shapes["range"] if "M" in shape)
