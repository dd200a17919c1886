"""Objectives in words."""

import math
import re

import msgspec

from latency_profile.slo.grammar import ERRORS
from latency_profile.slo.structure import Attainment, Judged, Outcome

GROWS = "the backlog grows, so that in the long run waits exceed any limit"
GROWS_UNSEEN = "the backlog grows, and the window does not show what comes of it in the long run"
TOO_SHORT = "the window ends before the first requests do, and does not show whether the server keeps up"
_SHORTLY = {GROWS: "the backlog grows", GROWS_UNSEEN: "the backlog grows", TOO_SHORT: "the window is too short to tell"}
MS_PER_S = 1000.0


def with_reason(judged: Judged) -> Judged:
    """The objective with its reason."""
    told = _mean(judged) if judged.attainment is None else _share(judged, judged.attainment)
    if judged.outcome is Outcome.UNRESOLVED:
        told += _what_it_takes(judged)
    return msgspec.structs.replace(judged, reason=told)


def because(judged: Judged, outcome: Outcome, why: str) -> Judged:
    """The objective with another outcome than the window's figures alone have, which no more requests would change."""
    told = _mean(judged) if judged.attainment is None else _share(judged, judged.attainment)
    return msgspec.structs.replace(judged, outcome=outcome, reason=f"{why}; {told}", needed_requests=None)


def _share(judged: Judged, of: Attainment) -> str:
    assert judged.level is not None
    things = "gaps" if judged.metric == "itl" else "requests"
    did = "did not fail" if judged.metric == ERRORS else f"kept {limit_text(judged)}"
    told = f"none of the {things} in the window tells"
    if of.share is not None:
        told = (
            f"{percent(of.share)} of {of.kept + of.broken} {things} {did} ({percent(of.low)} to {percent(of.high)}), "
            f"{judged.level * 100:.12g}% are to"
        )
    if of.failed and judged.metric != ERRORS:
        told += f"; {of.failed} failed"
    if of.open:
        told += f"; {of.open} open at the stop"
    figure = figure_text(judged)
    return f"{told}; {figure}" if figure else told


def _mean(judged: Judged) -> str:
    figure = figure_text(judged) or "no mean"
    return f"{figure}, {limit_text(judged)} at most"


def _what_it_takes(judged: Judged) -> str:
    if judged.needed_requests is None:
        return "; more requests of this kind would hardly tell"
    return f"; about {judged.needed_requests} requests would tell"


def limit_text(judged: Judged) -> str:
    """The limit in the unit in which it was given."""
    return re.sub(r"(?<=[0-9])(?=[a-z])", " ", judged.name.partition("<")[2])


def figure_text(judged: Judged) -> str:
    """The measured statistic with its interval: "p99 402 ms (395 to 431)"; "" where there is none."""
    if judged.measured_s is None:
        return ""
    low, high = judged.measured_low_s, judged.measured_high_s
    if low is None:
        ends = "no interval" if high is None else f"up to {_ms(high)}"
    else:
        ends = f"from {_ms(low)}" if high is None else f"{_ms(low)} to {_ms(high)}"
    return f"{judged.statistic} {milliseconds(judged.measured_s)} ({ends})"


def short_text(judged: Judged) -> str:
    """What a sentence on a whole profile says of an objective that a point does not keep."""
    assert judged.outcome is not None
    told = f"{judged.name} is {judged.outcome.value}"
    for why, shortly in _SHORTLY.items():
        if judged.reason.startswith(why):
            return f"{told} ({shortly})"
    low, high, limit = judged.measured_low_s, judged.measured_high_s, judged.limit_s
    if low is not None and high is not None and limit is not None and (low > limit or judged.attainment is None):
        reach = milliseconds(high) if _ms(low) == _ms(high) else f"{_ms(low)} to {milliseconds(high)}"
        told += f" ({judged.statistic} {reach}"
    elif judged.attainment is not None:
        of = judged.attainment
        kept = "did not fail" if judged.metric == ERRORS else "kept it"
        told += f" ({percent(of.low)} to {percent(of.high)} {kept}"
    else:
        told += " (no interval"
    if judged.outcome is Outcome.UNRESOLVED and judged.needed_requests is not None:
        told += f"; about {judged.needed_requests} requests would tell"
    return f"{told})"


def rounded_up(number: float) -> int:
    """To two digits: an extrapolation has no more."""
    if number < 10:
        return math.ceil(number)
    step: int = 10 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step


def milliseconds(seconds: float) -> str:
    return f"{_ms(seconds)} ms"


def _ms(seconds: float) -> str:
    value = seconds * MS_PER_S
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """With so many digits that it is neither 0% nor 100% by rounding, and two of what is missing."""
    rest = min(share, 1 - share)
    if rest <= 0:
        return f"{share:.0%}"
    places = max(1, -math.floor(math.log10(rest)) - 1)
    return f"{share * 100:.{min(places, 6)}f}".rstrip("0").rstrip(".") + "%"
