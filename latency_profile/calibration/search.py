"""The search for the highest event rate that the client can stamp. It decides which rates to try; `run` tries them."""

import math
from collections.abc import Callable
from typing import Literal

from latency_profile.calibration.structure import Calibration, HighestRate, Step
from latency_profile.verdict.calibrated import beyond_limits, server_was_late

MOST_STEPS = 8
FACTOR = 2.0  # from one step to the next; one more between the last good one and the first bad one halves it (√2)
LOWEST_START = 2000.0  # events/s: any machine can, and a search from 10 would take all day
REACHED_SHARE = 0.9  # of the wanted rate, in the busiest second: less, and the server did not offer it


def step_of(wanted_events_per_s: float, found: Calibration) -> Step:
    """What a calibration at that event rate says. Where both fell short it is the server: what the client would have
    done with more of the CPU is not known. A server that is late and a client that is not are no failure."""
    truth = found.truth
    limit: Literal["client", "server"] | None = None
    if truth.events_per_s < REACHED_SHARE * wanted_events_per_s:
        limit = "server"
    elif beyond_limits(found):
        limit = "server" if server_was_late(found) else "client"
    return Step(
        wanted_events_per_s=wanted_events_per_s,
        events_per_s=truth.events_per_s,
        lateness_p99_s=found.lateness_p99_s or 0.0,
        ttft_p99_s=found.errors.ttft.p99_s if found.errors.ttft else 0.0,
        server_late_p99_s=truth.server_late_p99_s,
        limit=limit,
    )


def highest_rate(plan_events_per_s: float, run: Callable[[float], Step | None]) -> HighestRate | None:
    """Doubles from the plan's own event rate (or 2,000 events/s) while all goes well, halves where the first does not,
    and ends with one step between the best and the first that failed. None where `run` gives None: interrupted."""
    steps: list[Step] = []
    good: Step | None = None
    bad: Step | None = None
    rate = max(plan_events_per_s, LOWEST_START)
    while len(steps) < MOST_STEPS - 1 and (good is None or bad is None):
        step = run(rate)
        if step is None:
            return None
        steps.append(step)
        if step.limit is None:
            good = step
            rate = rate * FACTOR
        else:
            bad = step
            rate = rate / FACTOR
    if good is not None and bad is not None:
        step = run(math.sqrt(good.wanted_events_per_s * bad.wanted_events_per_s))
        if step is None:
            return None
        steps.append(step)
        good, bad = (step, bad) if step.limit is None else (good, step)
    return HighestRate(
        events_per_s=good.events_per_s if good else None,
        limited_by=(bad.limit or "search") if bad else "search",
        steps=steps,
    )
