"""The curve as characters: where its marks stand, what is joined, and when there is none."""

import io
import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_profile.report.console import render_table
from latency_profile.report.curve import axis_of, curve
from latency_profile.report.table_row import NO_FIGURE, Figure, TableRow
from latency_profile.verdict import Kind

MARKS = "●○▲◐✗"


def point(
    load: str, done: float | None, p50: Figure | float, p99: Figure | float, verdict: str = "VALID", **more: Figure
) -> TableRow:
    ttft = [Figure(each) if isinstance(each, float | int) else each for each in (p50, p99)]
    return TableRow(load, verdict, done, done, 100, 0, 512.0, ttft_p50_ms=ttft[0], ttft_p99_ms=ttft[1], **more)


PROFILE = [
    point("8", 8.0, Figure(40.0, low=38.0, high=42.0), Figure(110.0, low=90.0, high=150.0)),
    point("2", 2.0, 36.0, Figure(60.0, at_least=True, low=50.0), "TOO_FEW_SAMPLES"),
    point("4", 4.0, 38.0, 75.0),
    point("16", 16.0, 44.0, 1200.0, "CLIENT_LIMITED"),
    point("32", 19.0, 900.0, 2000.0, "SATURATED"),
    point("inf", 20.0, 5000.0, 9000.0, "SATURATED"),
]


def texts(rows: list[TableRow], width: int = 80) -> list[str]:
    return [line.text for line in curve(rows, width)]


def test_a_profile_is_drawn_as_it_is() -> None:
    assert texts(PROFILE, 60) == [
        "",
        "         TTFT p50, ms (log)           TTFT p99, ms (log)",
        "     │                            │",
        "2000 ┤                            ┤                     ∙▲",
        "1000 ┤                     ∙▲     ┤                  ○∙∙",
        " 500 ┤                   ∙∙       ┤                ∙∙∙",
        "     │                 ∙∙         │             ∙∙∙",
        " 200 ┤               ∙∙           ┤         │ ∙∙",
        " 100 ┤             ∙∙             ┤  ↑     ∙●∙",
        "  50 ┤           ∙∙               ┤  ◐∙∙●∙∙",
        "     │  ◐∙∙●∙∙∙●∙       ○         │",
        "  20 ┤                            ┤",
        "     └┬─────┬─────┬────┬─────┬    └┬─────┬─────┬────┬─────┬",
        "      0     5    10   15    20     0     5    10   15    20",
        "            done, req/s                  done, req/s",
        "│ 95 % interval · ↑ no upper bound · 1 of 6 not drawn",
    ]


def test_no_more_than_sixteen_lines_of_eighty_columns() -> None:
    assert len(texts(PROFILE)) == 16
    for width in (60, 80, 200):
        assert max(map(len, texts(PROFILE, width))) <= min(width, 80)
    assert texts(PROFILE, 200) == texts(PROFILE, 80)
    assert texts(PROFILE, 59) == [], "too narrow to be read"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        PROFILE[:2],
        [point("1", 1.0, 20.0, 30.0), point("2", 2.0, 20.0, 30.0), point("inf", 9.0, 20.0, 30.0)],
        [point("1", 1.0, 20.0, 30.0), point("2", 2.0, 20.0, 30.0), point("3", None, 20.0, 30.0)],
        [point("1", 1.0, 20.0, 30.0), point("2", 2.0, 20.0, 30.0), point("3", 3.0, NO_FIGURE, NO_FIGURE, "FAILED")],
        [point(engine, 3.0, 20.0, 30.0) for engine in ("vllm", "sglang", "tgi")],
    ],
    ids=["nothing", "two", "a burst", "no completed rate", "no latency", "engines"],
)
def test_fewer_than_three_points_are_no_curve(rows: list[TableRow]) -> None:
    assert curve(rows, 80) == []


def test_what_is_not_drawn_is_counted() -> None:
    assert texts(PROFILE)[-1] == "│ 95 % interval · ↑ no upper bound · 1 of 6 not drawn"
    bare = [point(str(load), load, 20.0, 30.0) for load in (1.0, 2.0, 4.0)]
    assert texts(bare)[-1].split() == ["done,", "req/s"] * 2


def test_end_to_end_latency_where_nothing_was_streamed() -> None:
    rows = [
        point(str(load), load, NO_FIGURE, NO_FIGURE, e2e_p50_ms=Figure(900.0), e2e_p99_ms=Figure(1800.0))
        for load in (1.0, 2.0, 4.0)
    ]
    assert re.findall(r"\S+ p\d\d, ms", texts(rows)[1]) == ["E2E p50, ms", "E2E p99, ms"]


def test_only_points_that_may_be_used_are_joined() -> None:
    good = [point(str(load), load, 20.0, 30.0) for load in (1.0, 5.0, 9.0)]
    (joined,) = [line for line in texts(good) if "●" in line and "30" not in line][:1]
    assert re.search(r"●∙+●∙+●", joined)
    bent = [good[0], point("5.0", 5.0, 20.0, 30.0, "CLIENT_LIMITED"), point("9.0", 9.0, 20.0, 30.0, "CONTAMINATED")]
    assert not any("∙" in line for line in texts(bent))
    assert any("○" in line and "✗" in line for line in texts(bent))


def test_a_point_that_may_be_used_is_not_hidden_by_one_that_may_not() -> None:
    same = [point("1", 4.0, 20.0, 30.0), point("2", 4.0, 20.0, 30.0, "FAILED"), point("3", 4.0, 20.0, 30.0, "FAILED")]
    drawn = "".join(texts(same))
    assert (drawn.count("●"), drawn.count("✗")) == (2, 0)


figures = st.builds(
    lambda value, low, high: Figure(value, high is None, low and value * low, high and value * high),
    st.floats(1e-3, 1e7),
    st.none() | st.floats(0.01, 1.0),
    st.none() | st.floats(1.0, 100.0),
)
rows = st.builds(
    point,
    st.floats(0.01, 1e6).map(str),
    st.just(0.0) | st.floats(1e-3, 1e6),
    figures,
    figures,
    st.sampled_from([kind.value for kind in Kind]),
)


@given(st.lists(rows, min_size=3, max_size=20), st.integers(1, 200))
def test_whatever_was_measured_is_drawn(points: list[TableRow], width: int) -> None:
    lines = texts(points, width)
    if not lines:
        assert width < 60
        return
    assert len(lines) <= 16
    drawn = "".join(lines[:-1])
    assert 2 <= sum(drawn.count(mark) for mark in MARKS) <= 2 * len(points)
    assert all(line == line.rstrip() for line in lines)
    assert max(map(len, lines)) <= min(width, 80)


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=30), st.sampled_from([9, 33]))
def test_an_axis_holds_its_values_and_ticks(values: list[float], cells: int) -> None:
    axis = axis_of(values, cells)
    assert axis.low <= min(values)
    assert max(values) <= axis.high * (1 + 1e-12)
    assert (axis.place(axis.low), axis.place(axis.high)) == (0, cells - 1)
    places = [axis.place(tick) for tick in axis.ticks]
    assert len(places) >= 2
    assert all(later > earlier for earlier, later in pairwise(places))
    for value in values:
        back = axis.place(value) / (cells - 1)
        exact = axis.low * (axis.high / axis.low) ** back if axis.logarithmic else axis.high * back
        assert axis.place(exact) == axis.place(value)
        step = (axis.high / axis.low) ** (0.5 / (cells - 1)) if axis.logarithmic else axis.high * 0.5 / (cells - 1)
        near = (
            max(value / exact, exact / value) <= step * 1.0001
            if axis.logarithmic
            else abs(value - exact) <= step * 1.0001
        )
        assert near, f"{value} is drawn where {exact} would be"


def test_an_axis_of_nothing_but_zeros() -> None:
    assert axis_of([0.0, 0.0], 9).place(0.0) == 0
    assert math.isfinite(axis_of([0.0], 9).high)


def test_the_curve_stands_between_the_table_and_the_reasons() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    bad = TableRow("64", "FAILED", None, None, 0, 9, None, reasons=("9 of 9 requests failed",))
    render_table([*PROFILE, bad], stream, files=["results/a.json"])
    stream.seek(0)
    text = stream.read()
    order = [text.index(part) for part in ("verdict\n", "TTFT p50, ms (log)", "x FAILED at 64", "> results/a.json")]
    assert order == sorted(order)
    assert "^" in text
    assert "no upper bound" in text


def test_a_terminal_gets_the_marks_in_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    render_table(PROFILE, stream, terminal=True, width=110)
    drawn = stream.getvalue().partition("TTFT p50, ms (log)")[2]
    assert re.search(r"\x1b\[32m●", drawn)
    assert re.search(r"\x1b\[33m▲", drawn)
    assert re.search(r"\x1b\[35m○", drawn)
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stream.getvalue().splitlines()]
    assert set(texts(PROFILE)) <= set(bare)


def test_no_line_goes_through_a_point_that_was_cut_short() -> None:
    rows = [point("1", 1.0, 10.0, 10.0), point("2", 2.0, 100.0, 100.0), point("3", 3.0, 10.0, 10.0)]
    through = "\n".join(texts(rows))
    beside = "\n".join(texts([rows[0], replace(rows[1], cut_short="SIGTERM"), rows[2]]))
    assert through.count("●") == beside.count("●") == 6
    level = next(line for line in beside.splitlines() if line.count("●") == 4)
    assert re.search("●∙+●", level) and not re.search("●∙+●", through)
