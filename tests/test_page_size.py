"""A page stays below its limit however many points and profiles it has, keeps every point's numbers and verdict, and
says what it has not."""

import json
import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.report import synthetic
from latency_profile import results
from latency_profile.errors import UsageError
from latency_profile.page import document as pages
from latency_profile.page.detail import WHOLE, Detail, detail_of, thinned
from latency_profile.page.document import document
from latency_profile.page.form import FORMS, LIMIT_BYTES
from latency_profile.page.in_depth import InDepth
from latency_profile.page.points import point_sections
from latency_profile.page.section import Section
from latency_profile.page.seen import Seen
from latency_profile.records import Records
from latency_profile.results import PointResult
from tests.make_records import uniform_records
from tests.page_points import shown
from tests.page_profiles import Page

APART = 8
Many = Callable[..., tuple[list[Seen], InDepth]]


@pytest.fixture(scope="module", name="large")
def of_many_requests() -> Records:
    return synthetic(2_000, seed=0)


def shaken(value: Any, draw: random.Random) -> Any:
    """The same with other numbers: like points are no like bytes, which would be packed to nothing."""
    if isinstance(value, dict):
        return {key: shaken(each, draw) for key, each in value.items()}
    if isinstance(value, list):
        return [shaken(each, draw) for each in value]
    if isinstance(value, float):
        factor = draw.uniform(0.8, 1.2)
        return value * factor if len(repr(value)) > 12 else float(f"{value * factor:.4g}")
    if isinstance(value, str) and re.search(r"\d\.\d", value) and len(value) < 40:
        return re.sub(r"\d", lambda _: str(draw.randint(1, 9)), value)
    return value


@pytest.fixture(scope="module", name="many")
def of_one(large: Records) -> Many:
    """Points like one another, of so many profiles, with the sections of each."""
    result = msgspec.to_builtins(results.point_result(large))
    made: dict[Detail, list[Any]] = {}  # packed is what repeats within 32 KiB: so many points are as good as all

    def build(count: int, profiles: int = 1) -> tuple[list[Seen], InDepth]:
        draw = random.Random(count)
        detail = detail_of(count)
        if detail not in made:
            sections = json.loads(msgspec.json.encode(point_sections("point-0", result, large, detail)))
            made[detail] = [msgspec.convert(shaken(sections, draw), tuple[Section, ...]) for _ in range(APART)]
        points, all_sections = [], []
        for place in range(count):
            of = place * profiles // count
            tree = {**result, "latency": shaken(result["latency"], draw)}
            tree |= {key: shaken(result[key], draw) for key in ("throughput", "metrics", "summary_stats")}
            tree["load"] = {**result["load"], "request_rate": 1.0 + place}
            tree["config"] = {**result["config"], "start_time": {"seconds": 1_767_323_045 + 86_400 * of, "nanos": 0}}
            name = f"synthetic-profile-{of}.json"
            points.append(Seen(name, f"point-{place}.json", Path(name), msgspec.convert(tree, PointResult)))
            all_sections.append(made[detail][place % APART])
        return points, InDepth(all_sections, tuple(filter(None, [thinned(detail, count)])))

    return build


def read(made: bytes, tmp_path: Path) -> Page:
    (tmp_path / "report.html").write_bytes(made)
    return Page(tmp_path / "report.html")


@pytest.mark.parametrize(
    ("count", "profiles"), [(5, 1), (20, 1), (60, 1), (150, 1), (200, 40), pytest.param(500, 1, marks=pytest.mark.slow)]
)
def test_a_page_stays_below_its_limit(many: Many, tmp_path: Path, count: int, profiles: int) -> None:
    points, more = many(count, profiles)
    made = document(points, more=more)
    print(f"{count} points of {profiles} profiles: {len(made):,} bytes")
    assert len(made) <= LIMIT_BYTES
    page = read(made, tmp_path)
    table = page.tables["Load and latency"][2:]
    at = int(profiles > 1)
    assert [row[at] for row in table] == [f"{1 + place}" for place in range(count)]
    assert all(points[0].verdict.lower() in row[at + 1].lower() for row in table)
    assert page.source.count('class="verdict"') == count, "each has its verdict beside its load"
    for said in more.said:
        assert said in page.text


def test_up_to_a_hundred_points_lack_nothing(many: Many, tmp_path: Path) -> None:
    points, more = many(100)
    page = read(document(points, more=more), tmp_path)
    assert more.said == () and "So that" not in page.text
    figures = sum(len(section.figures) for of in more.sections for section in of)
    assert len([name for name in page.figures if name.startswith("point-")]) == figures
    assert "p99" in page.folded["point-99"] and "Evidence" in page.folded["point-99"]


def test_a_small_page_needs_no_script_for_its_numbers(many: Many, tmp_path: Path) -> None:
    points, more = many(5)
    page = read(document(points, more=more), tmp_path)
    assert page.folded == {}
    assert page.source.count("<caption>Latencies, ms, with 95 % intervals</caption>") == 5


def test_every_form_says_what_it_lacks_and_keeps_every_point(
    many: Many, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each form is smaller than the one before; none loses a verdict."""
    points, more = many(12)
    sizes = []
    for form in FORMS:
        monkeypatch.setattr(pages, "FORMS", (form,))
        made = document(points, more=more)
        sizes.append(len(made))
        page = read(made, tmp_path)
        assert len(page.tables["Load and latency"]) == 2 + 12
        for said in form.said:
            assert said in page.text
        drawn = {name for name in page.figures if name.startswith("point-")}
        assert bool(drawn) == (form.each and len(form.undrawn) < 8)
        if form.each and form.packed:
            assert "numbers" in page.folded["point-3"]
            assert "TTFT" in page.folded["point-3"], "its tables are there"
    saying = 500  # bytes, of what a form lacks
    assert all(after < before + saying for before, after in pairwise(sizes)) and sizes[-1] < sizes[1] < sizes[0]
    assert all(form.said for form in FORMS[2:]) and not any(form.said for form in FORMS[:2])


def test_what_no_form_holds_is_refused(many: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    points, more = many(5)
    monkeypatch.setattr(pages, "LIMIT_BYTES", 100_000)
    with pytest.raises(UsageError, match=r"^RESULTS: got 5 points, .* takes what fits in 100,000$"):
        document(points, more=more)


def test_a_coarser_point_has_the_same_percentiles_and_fewer_of_the_rest(large: Records) -> None:
    tree = json.loads(msgspec.json.encode(results.point_result(large)))
    fine = shown(large)
    for count in (150, 200, 1_000):
        detail = detail_of(count)
        sections = point_sections("point-1", tree, large, detail)
        figures = {figure.name.removeprefix("point-1-"): figure for one in sections for figure in one.figures}
        assert figures.keys() == fine.figures.keys()
        assert figures["waits"].data["percentiles"] == fine.figures["waits"].data["percentiles"]
        quantiles = figures["waits"].data["quantiles"]
        curve = dict(zip(quantiles["share"], quantiles["TTFT"], strict=True))
        whole = dict(zip(*(fine.data("waits", "quantiles")[name] for name in ("share", "TTFT")), strict=True))
        assert {0, 50, 90, 95, 99, 100} <= curve.keys() < whole.keys()
        assert all(whole[share] == value for share, value in curve.items())
        assert len(figures["rates"].data["steps"]["completed"]) <= detail.steps
        assert len(figures["slowest-e2e"].data["requests"]["request"]) == detail.slowest
        assert len(figures["slowest-e2e"].data["events"]["s"]) <= detail.slowest * detail.events
        assert f"{detail.slowest} slowest requests" in thinned(detail, count)
    assert detail_of(100) == WHOLE and thinned(WHOLE, 100) == ""


def test_a_thinned_answer_still_tells_its_longest_gap() -> None:
    made = uniform_records(50, events=200)
    made.event_ns[100:200] += 3_000_000_000
    for name in ("last_token_ns", "end_ns"):
        made.columns[name][0] += 3_000_000_000
    sections = point_sections("p", json.loads(msgspec.json.encode(results.point_result(made))), made, detail_of(1_000))
    [figure] = [figure for one in sections for figure in one.figures if figure.name == "p-slowest-e2e"]
    events = figure.data["events"]
    of_first = [float(str(at)) for request, at in zip(events["request"], events["s"], strict=True) if request == 0]
    assert max(b - a for a, b in pairwise(of_first)) >= 3.0
