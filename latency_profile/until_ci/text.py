"""The one line that the report has on a point that was to run until its percentiles were known."""

from latency_profile.until_ci.precision import LEVELS
from latency_profile.until_ci.result import UntilCi

NAMES = {"ttft": "TTFT", "e2e": "E2E"}
SECONDS_A_MINUTE, MINUTES_AN_HOUR = 60, 60
WORTH_MINUTES = 120  # seconds; fewer are said in seconds


def short_text(found: UntilCi, length_s: float) -> str:
    """length_s: of the point, until its sending ended."""
    target = _percent(found.target)
    stopped = f"stopped after {_duration(found.stopped_after_s)}: " if found.stopped_after_s is not None else ""
    if found.reached:
        after = "" if stopped else f" after {_duration(length_s)}"
        return f"{stopped}{', '.join(LEVELS)} known to {target}{after}"
    all_of_them = [(metric, level, one) for metric, levels in found.known.items() for level, one in levels.items()]
    metric, level, worst = max(all_of_them, key=lambda each: (each[2].relative_half_width is None, each[2].needed_n))
    width = worst.relative_half_width
    what = f"{level} {NAMES[metric]}"
    known = f"{what} has no interval" if width is None else f"{what} known to {_percent(width)}"
    after = "" if stopped else f" after {_duration(length_s)}"
    if found.estimate_needed_s is None:
        return f"{stopped}{known}{after}"
    about = "more than" if width is None else "about"
    return f"{stopped}{known}{after}; {target} would take {about} {_duration(found.estimate_needed_s)}"


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < 0.995 else f"{share * 100:.0f} %"


def _duration(seconds: float) -> str:
    if seconds < WORTH_MINUTES:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / SECONDS_A_MINUTE
    return f"{minutes:.0f} min" if minutes < 2 * MINUTES_AN_HOUR else f"{minutes / MINUTES_AN_HOUR:.0f} h"
