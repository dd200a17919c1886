"""What the page shows of a comparison: its own words and intervals, and the values of the nights that it used."""

import json
import math
import random

import msgspec
import pytest
import vl_convert

from latency_profile.compare.compared import Options, compare
from latency_profile.compare.nights import Night
from latency_profile.compare.structure import Comparison, Word
from latency_profile.compare.text import compared_line
from latency_profile.page.figure import Figure
from latency_profile.page.nights import MOST_RECENT, nights_section
from latency_profile.page.section import Section
from tests.make_nights import make_night, make_point
from tests.page_points import whole_spec


def nights_of(count: int, slower_from: int = 999) -> list[Night]:
    """Two carried rates and a burst; from a night on, e2e at 8 req/s takes 20 % longer."""
    draw = random.Random(1)

    def near(value: float) -> float:
        return value * math.exp(draw.gauss(0, 0.02))

    return [
        make_night(
            night,
            make_point(8.0, near(800), near(0.5) * (1.2 if night >= slower_from else 1)),
            make_point(16.0, near(1600), near(0.9)),
            make_point(None, near(2400), near(2.0), verdict="SATURATED"),
        )
        for night in range(count)
    ]


def compared(nights: list[Night], measure: str = "auto") -> Comparison:
    return compare(nights[-1:], nights[:-1], Options(measure=measure))


def figures(section: Section) -> dict[str, Figure]:
    return {figure.name: figure for figure in section.figures}


def test_shifts_and_words_are_the_comparisons() -> None:
    nights = nights_of(28, slower_from=24)
    found = compared(nights)
    section = nights_section(found, nights)
    assert section.sentences[0] == compared_line(found)
    data = figures(section)["nights-shifts"].data["shifts"]
    results = [each for each in (found.primary, *found.others) if each is not None]
    assert len(data["word"]) == len(results)
    for place, each in enumerate(results):
        [shift] = [shift for shift in each.shifts if shift.nights == each.decided_by]
        assert data["word"][place] == each.word.value
        drawn = [data[name][place] for name in ("shift", "low", "high")]
        assert drawn == pytest.approx([100 * shift.shift, 100 * shift.low, 100 * shift.high], rel=1e-3)
    assert Word.REGRESSED.value in data["word"]
    table = section.tables[0].table
    assert [row[-1].partition(" ")[0] for row in table.rows] == data["word"]


def test_values_are_those_of_the_nights_that_were_used() -> None:
    nights = nights_of(28, slower_from=24)
    found = compared(nights)
    drawn = figures(nights_section(found, nights))
    data = drawn["nights-e2e-p50"].data["nights"]
    values = [value for value, load in zip(data["value"], data["load"], strict=True) if load == "8 req/s"]
    expected = [night.points["8 req/s"].e2e.p50.value_s for night in nights]  # type: ignore[union-attr]
    assert values == pytest.approx(expected, rel=1e-3)
    parts = [part for part, load in zip(data["part"], data["load"], strict=True) if load == "8 req/s"]
    assert parts == ["base"] * len(found.base) + ["judged"] * len(found.recent)
    assert data["night"][0] == "2026-01-01T01:30:00Z"
    logs = [math.log1p(change / 100) for change, part in zip(data["change"], parts * 2, strict=True) if part == "base"]
    assert sum(logs) == pytest.approx(0, abs=0.02)  # the base's mean is the geometric one
    assert "nights-highest-completed-rate" in drawn
    boxes = drawn["nights-e2e-p50"].data["shifts"]
    assert boxes["load"] == ["8 req/s", "16 req/s"]
    assert "8 req/s: regressed" in drawn["nights-e2e-p50"].reading


def test_nights_that_are_not_there_are_said_and_not_drawn() -> None:
    nights = nights_of(28)
    found = compared(nights)
    section = nights_section(found)
    assert set(figures(section)) == {"nights-shifts"}
    assert "profiles of 28 of these nights are not there" in " ".join(section.sentences)
    some = nights_section(found, nights[5:])
    assert "profiles of 5 of these nights" in " ".join(some.sentences)
    assert len(figures(some)["nights-e2e-p50"].data["nights"]["night"]) == 2 * 23


def test_a_first_night_and_too_few_nights() -> None:
    [night] = nights_of(1)
    section = nights_section(compared([night]), [night])
    assert section.figures == section.tables == ()
    assert "no earlier night" in " ".join(section.sentences)
    few = nights_of(3)
    section = nights_section(compared(few), few)
    assert "nights-shifts" not in figures(section)
    assert "nights-e2e-p50" in figures(section)
    assert "Without a shift" in " ".join(section.sentences)


def test_what_was_left_out_is_a_table() -> None:
    nights = nights_of(10)
    nights[3] = make_night(3, make_point(8.0), of={"streaming": "other"})
    [_, left_out] = nights_section(compared(nights), nights).tables
    assert [row[0] for row in left_out.table.rows] == ["20260104-013000"]
    assert "another fingerprint" in left_out.table.rows[0][2]


def test_of_many_nights_the_last_are_drawn() -> None:
    nights = nights_of(100)
    found = compare(nights[-1:], nights[:-1], Options())
    assert len(found.recent) > MOST_RECENT
    section = nights_section(found, nights)
    data = figures(section)["nights-e2e-p50"].data["nights"]
    assert len(data["night"]) == 2 * (len(found.base) + MOST_RECENT)
    assert f"the last {MOST_RECENT} are drawn" in " ".join(section.sentences)
    assert len(msgspec.json.encode(section)) < 200_000


def test_the_box_of_one_night_has_a_width() -> None:
    """A collapse is told by tonight alone."""
    nights = nights_of(27)
    nights.append(make_night(27, make_point(8.0, 800, 2.0), make_point(16.0, 1600, 0.9)))
    found = compared(nights)
    [of] = [
        each for each in (found.primary, *found.others) if each and (each.name, each.load) == ("e2e_p50", "8 req/s")
    ]
    assert of.decided_by == 1
    boxes = figures(nights_section(found, nights))["nights-e2e-p50"].data["shifts"]
    place = list(boxes["load"]).index("8 req/s")
    assert (boxes["from"][place], boxes["to"][place]) == ("2026-01-27T13:30:00Z", "2026-01-28T13:30:00Z")


def test_vega_lite_takes_every_figure_without_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    for nights in (nights_of(28, slower_from=24), nights_of(3)):
        section = nights_section(compared(nights), nights)
        names = [figure.name for figure in section.figures]
        assert len(set(names)) == len(names)
        for figure in section.figures:
            vl_convert.vegalite_to_vega(whole_spec(figure), vl_version="6.4", show_warnings=True)
            assert capfd.readouterr().err == "", figure.name
        json.loads(msgspec.json.encode(section), parse_constant=pytest.fail)
