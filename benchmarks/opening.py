"""How fast Chromium opens a page of `latency-profile report`. Times are in s from the start of the navigation, as the
page's own clock has them (https://www.w3.org/TR/navigation-timing-2/)."""

import shutil
import statistics
from dataclasses import dataclass, fields
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

TIMES = 5
WINDOW = {"width": 1280, "height": 900}  # px
WITHIN_MS = 30_000

_IN_VIEW = """() => {
    if (document.readyState === "loading") return false;
    const seen = [...document.querySelectorAll(".plot")].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.width > 0 && box.bottom > 0 && box.top < innerHeight;
    });
    return seen.every((node) => node.querySelector("svg, canvas")) && performance.now() / 1000;
}"""
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
_ALL = "document.body.dataset.ready === 'true' && performance.now() / 1000"
# Figures are drawn before the listeners' microtasks end: the browser prints what is there then.
_PRINT = """async () => {
    const began = performance.now();
    dispatchEvent(new Event("beforeprint"));
    await new Promise((resolve) => setTimeout(resolve));
    const all = [...document.querySelectorAll(".plot")];
    if (!all.every((node) => node.querySelector("svg, canvas"))) throw new Error("a figure is not drawn");
    return [(performance.now() - began) / 1000, all.length];
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Medians over TIMES openings."""

    load_s: float  # the load event has ended
    first_screen_s: float  # all figures are drawn that are in the window, looked at once a frame
    unfolded_s: float  # so are all that are not folded
    print_s: float  # from being asked to print: all folds are open, and all figures drawn
    figures: float  # how many those are


def opened(page: Path) -> Opened:
    """Raises RuntimeError without Chromium, or where the page says an error."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("needs the Debian package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            once = [_open(browser, page) for _ in range(TIMES + 1)][1:]  # the first one warms the browser up
        finally:
            browser.close()
    return Opened(**{each.name: statistics.median(getattr(one, each.name) for one in once) for each in fields(Opened)})


def _open(browser: Browser, page: Path) -> Opened:
    errors: list[str] = []
    tab = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto(page.as_uri(), wait_until="commit")
    first_s = tab.wait_for_function(_IN_VIEW, timeout=WITHIN_MS).json_value()
    all_s = tab.wait_for_function(_ALL, timeout=WITHIN_MS).json_value()
    load_s = tab.evaluate(_LOADED)
    print_s, figures = tab.evaluate(_PRINT)
    tab.close()
    if errors:
        raise RuntimeError(f"the page says: {'; '.join(errors)}")
    return Opened(load_s=load_s, first_screen_s=first_s, unfolded_s=all_s, print_s=print_s, figures=figures)


def told(found: Opened) -> str:
    """In words."""
    return (
        f"Chromium, medians of {TIMES}: load event after {found.load_s:.2f} s, the first screen drawn after "
        f"{found.first_screen_s:.2f} s, all that is not folded after {found.unfolded_s:.2f} s; printing draws all "
        f"{found.figures:.0f} figures in {found.print_s:.1f} s"
    )
