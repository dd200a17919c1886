"""The page in a real Chromium: drawn, filtered, hovered over, printed, by mouse and by keyboard."""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator
from playwright.sync_api import Page as Tab

from latency_profile.cli import main
from latency_profile.page import document
from latency_profile.page.form import Form
from tests.page_profiles import Page, steady, written
from tests.servers.browser import chromium

SLO = {"slo": ["ttft:p90<120ms"]}
OPENS_S = 2.0  # on a calm machine; held at five times that
NEVER_IDLE = "window.requestIdleCallback = () => {}"
DRAWN = "[...document.querySelectorAll('.plot')].filter(one => one.querySelector('svg')).length"
SHIFTS = """window.shifts = [];
new PerformanceObserver(list => window.shifts.push(...list.getEntries().map(one => one.value)))
    .observe({ type: "layout-shift", buffered: true })"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two profiles over each other: six points by vLLM, of which one failed, and three by TGI."""
    folder = tmp_path_factory.mktemp("page")
    first = [steady(rate, settings=SLO) for rate in (2, 5, 10, 20, 40)]
    written(folder / "results", [*first, steady(80, failed=0.3, settings=SLO)])
    written(folder / "results", [steady(rate, tpot_s=0.02, backend="tgi", settings=SLO) for rate in (2, 10, 40)], day=1)
    assert main(["report", str(folder / "results"), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


def ready(tab: Tab) -> None:
    """All is drawn that is to be seen."""
    tab.wait_for_selector('body[data-ready="true"]')


@contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, first: str = "", **context: Any) -> Iterator[Tab]:
    """The page in a tab, drawn. Whatever it complains of, or fetches, fails the test. first: a script that runs before
    the page's."""
    complaints: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 900}, **context)
    tab.add_init_script(first)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: None if request.url.startswith("file:") else complaints.append(request.url))
    tab.goto(path.as_uri())
    if first != NEVER_IDLE:
        ready(tab)
    yield tab
    tab.close()
    assert complaints == []


@pytest.fixture(scope="module", name="tab")
def wide(browser: Browser, path: Path) -> Iterator[Tab]:
    """For tests that leave it as they found it."""
    with opened(browser, path) as tab:
        yield tab


@pytest.fixture(scope="module", name="narrow")
def of_a_phone(browser: Browser, path: Path) -> Iterator[Tab]:
    with opened(browser, path, 380, color_scheme="dark") as tab:
        yield tab


def plot(tab: Tab, name: str) -> Locator:
    return tab.locator(f'[data-figure="overview-{name}"]')


def marks(tab: Tab, name: str) -> int:
    """Points that are drawn: those that may be used, and those that may not."""
    return plot(tab, name).locator("g.mark-symbol.role-mark path").count()


def test_it_opens_at_once_and_draws_every_figure(browser: Browser, path: Path) -> None:
    with opened(browser, path) as tab:
        readable, all_drawn = tab.evaluate(
            "[performance.getEntriesByType('navigation')[0].domInteractive / 1000, performance.now() / 1000]"
        )
        print(f"can be read after {readable:.2f} s, all is drawn after {all_drawn:.2f} s")
        assert readable < 5 * OPENS_S
        for name in Page(path).figures:
            if name.startswith("overview-"):
                assert tab.locator(f'[data-figure="{name}"] svg').count() == 1, name


def test_what_is_out_of_view_is_drawn_when_it_comes_into_view(browser: Browser, path: Path) -> None:
    """On a machine that is never idle, on which nothing is drawn ahead."""
    with opened(browser, path, first=NEVER_IDLE) as tab:
        plot(tab, "throughput-ttft").locator("svg").wait_for()
        last = tab.locator('.plot[data-figure^="overview-"]').last
        assert last.locator("svg").count() == 0
        last.scroll_into_view_if_needed()
        last.locator("svg").wait_for()
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.evaluate(DRAWN) == tab.locator(".plot").count() > 100
        tab.evaluate("dispatchEvent(new Event('afterprint'))")


@pytest.mark.parametrize("width", [1280, 380])
def test_nothing_jumps_while_figures_are_drawn(browser: Browser, path: Path, width: int) -> None:
    """Cumulative layout shift: below 0.1 is good (https://web.dev/articles/cls)."""
    with opened(browser, path, width, first=SHIFTS) as tab:
        grown = tab.evaluate(
            "[...document.querySelectorAll('.plot')].filter(one => one.querySelector('svg'))"
            ".map(one => one.offsetHeight - parseInt(one.style.minHeight))"
        )
        assert max(grown) <= 2, "the room that was kept is what a figure takes"
        assert sum(tab.evaluate("window.shifts")) < 0.1


@pytest.fixture(scope="module", name="large")
def of_packed_folds(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same profiles as a page that packs what is folded."""
    page = tmp_path_factory.mktemp("packed") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "FORMS", (Form(),))
        assert main(["report", str(path.parent / "results"), "-o", str(page)]) == 0
    assert page.stat().st_size < path.stat().st_size
    return page


def test_a_packed_point_is_the_same_once_it_is_unfolded(browser: Browser, path: Path, large: Path) -> None:
    def shown(of: Path) -> tuple[str, int]:
        with opened(browser, of) as tab:
            point = tab.locator("details.point", has_text="80 req/s")
            point.locator("> summary").focus()
            tab.keyboard.press("Enter")
            point.locator(".plot svg").first.wait_for()
            ready(tab)
            point.get_by_text("Numbers", exact=True).last.click()
            return point.inner_text(), point.locator(".plot svg").count()

    assert shown(large) == shown(path)


@pytest.mark.slow
def test_a_packed_page_is_printed_whole(browser: Browser, path: Path, large: Path) -> None:
    def printed(of: Path) -> str:
        with opened(browser, of) as tab:
            tab.evaluate("dispatchEvent(new Event('beforeprint'))")
            assert tab.evaluate(DRAWN) == tab.locator(".plot").count() > 100
            return str(tab.evaluate("[...document.querySelectorAll('td, th')].map(cell => cell.textContent).join()"))

    assert printed(large) == printed(path)


def test_a_legend_entry_filters_by_click_and_by_keyboard(tab: Tab) -> None:
    assert marks(tab, "ttft") == 2 * (6 + 3), "p50 and p99 of nine points"
    assert marks(tab, "rate") == 6 + 3
    tgi = tab.get_by_role("button", name=re.compile("tgi"))
    tgi.click()
    assert tgi.get_attribute("aria-pressed") == "false"
    assert (marks(tab, "ttft"), marks(tab, "rate")) == (2 * 6, 6)
    tgi.focus()
    tab.keyboard.press("Enter")
    assert (marks(tab, "ttft"), marks(tab, "rate")) == (2 * 9, 9)
    p90 = tab.get_by_role("button", name="p90")
    p90.focus()
    tab.keyboard.press("Space")
    assert (marks(tab, "ttft"), marks(tab, "rate")) == (3 * 9, 9)
    p90.click()


def test_hovering_tells_the_number_that_the_table_has(tab: Tab, path: Path) -> None:
    data = Page(path).figures["overview-ttft"]["data"]["points"]
    first = data["line"].index("p50")
    plot(tab, "ttft").scroll_into_view_if_needed()
    plot(tab, "ttft").locator("g.mark-symbol.role-mark path").first.hover(force=True)
    tip = tab.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    told = tip.inner_text()
    for name in ("shown", "interval", "load", "verdict", "profile"):
        assert data[name][first] in told, name


def test_a_hostile_name_is_text_under_the_pointer_too(browser: Browser, tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title='run'>"
    written(tmp_path / "results", [steady(5, models=[name]), steady(10, models=[name])])
    assert main(["report", str(tmp_path / "results"), "-o", str(tmp_path / "report.html")]) == 0
    with opened(browser, tmp_path / "report.html") as tab:
        plot(tab, "ttft").locator("g.mark-symbol.role-mark path").first.hover(force=True)
        tip = tab.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        assert name in tip.inner_text()
        assert tab.locator("img").count() == 0
        assert tab.title().startswith("Latency profile: <img")


def test_points_that_must_not_be_used_are_hollow(tab: Tab) -> None:
    drawn = plot(tab, "rate").locator("g.mark-symbol.role-mark path")
    paths = drawn.evaluate_all("all => all.map(one => one.getAttribute('d'))")
    assert [path.count("M") for path in paths].count(2) == 1, "an outline has two edges"


def test_latency_axes_are_logarithmic_on_demand(tab: Tab) -> None:
    def labels() -> list[str]:
        return plot(tab, "ttft").locator("g.role-axis-label").nth(1).locator("text").all_inner_texts()

    before = labels()
    tab.locator("#log").click()
    ready(tab)
    assert labels() != before
    tab.locator("#log").click()
    ready(tab)
    assert labels() == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system_and_its_own_switch(browser: Browser, path: Path, scheme: str) -> None:
    def ground() -> tuple[str, str]:
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour, plot(tab, "ttft").get_attribute("data-drawn") or ""

    grounds = {"light": ("rgb(255, 255, 255)", "light"), "dark": ("rgb(21, 24, 28)", "dark")}
    with opened(browser, path, color_scheme=scheme) as tab:
        assert ground() == grounds[scheme]
        tab.locator("#theme").click()
        ready(tab)
        assert ground() == grounds["dark" if scheme == "light" else "light"]


def test_nothing_is_wider_than_the_window_but_tables_in_their_frames(tab: Tab, narrow: Tab) -> None:
    for of, width in ((tab, 1280), (narrow, 380)):
        assert of.evaluate("document.documentElement.scrollWidth") <= width
        ends = of.evaluate("[...document.querySelectorAll('.plot svg')].map(one => one.getBoundingClientRect().right)")
        assert ends and max(ends) <= width


LABELS = """[...document.querySelectorAll('.plot g.role-axis-label')].map(axis =>
    [...axis.querySelectorAll('text')].filter(text => text.getAttribute('opacity') !== '0' && text.textContent)
    .map(text => { const box = text.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom] }))"""


def test_no_two_labels_of_an_axis_overlap(tab: Tab, narrow: Tab) -> None:
    for of in (tab, narrow):
        axes = of.evaluate(LABELS)
        assert len(axes) > 10
        for labels in axes:
            assert labels
            for one, other in pairwise(labels):
                beside = one[1] <= other[0] + 1 or other[1] <= one[0] + 1
                above = one[3] <= other[2] + 4 or other[3] <= one[2] + 4
                assert beside or above


def test_the_keyboard_gets_everywhere_and_shows_where_it_is(tab: Tab) -> None:
    tab.locator(".skip").focus()
    found = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        tag, name, outline = tab.evaluate(
            "(at => [at.tagName, at.className, getComputedStyle(at).outlineStyle])(document.activeElement)"
        )
        if tag == "BODY":  # after the last one
            break
        assert outline == "solid", tag
        found.append((tag, name))
    assert {"BUTTON", "SUMMARY", "DIV"} <= {tag for tag, _ in found}


def test_the_first_tab_leads_past_the_navigation(narrow: Tab) -> None:
    narrow.keyboard.press("Tab")
    assert narrow.evaluate("document.activeElement.className") == "skip"
    narrow.keyboard.press("Enter")
    assert narrow.evaluate("location.hash") == "#main"


def test_a_point_is_unfolded_and_told(tab: Tab) -> None:
    failed = tab.locator("details.point", has_text="80 req/s")
    summary = failed.locator("> summary")
    assert failed.locator(".plot svg").count() == 0, "it is drawn when it is to be seen"
    summary.focus()
    tab.keyboard.press("Enter")
    failed.locator(".plot svg").first.wait_for()
    ready(tab)
    assert failed.locator(".plot svg").count() == failed.locator(".plot").count() > 5
    assert failed.get_by_text("failed: ", exact=False).first.is_visible()
    tab.keyboard.press("Enter")


def test_paper_has_everything_light_and_drawn(narrow: Tab, tmp_path: Path) -> None:
    """Of a dark page with everything folded, without a word to it before."""
    assert plot(narrow, "ttft").get_attribute("data-drawn") == "dark"
    narrow.evaluate(
        "addEventListener('beforeprint', () => {"
        " window.folded = document.querySelectorAll('details:not([open])').length })"
    )
    printed = narrow.pdf(path=str(tmp_path / "page.pdf"), print_background=True)
    assert narrow.evaluate("window.folded") == 0
    text = b"".join(inflated(printed))
    strokes = set(re.findall(rb"([\d.]+ [\d.]+ [\d.]+) RG", text))
    assert {b"0 .4471 .698", b".7882 .3098 0"} <= strokes, "the two profiles' colours on a light ground"
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 3
    assert narrow.evaluate("document.querySelectorAll('details[open]').length") == 0


def inflated(pdf: bytes) -> Iterator[bytes]:
    for found in re.finditer(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with suppress(zlib.error):
            yield zlib.decompress(found[1])
