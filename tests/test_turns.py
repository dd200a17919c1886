"""When the loop lets events gather, and what it says of its own turns."""

import time

import pytest

from latency_profile.sender import turns
from latency_profile.sender.turns import REST_NS, RESTFUL_READS_PER_S, STALL_NS, WAKING_NS, Turns


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.slept: list[float] = []
        monkeypatch.setattr(turns, "now_ns", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.slept.append)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def looked(clock: Clock, reads_per_s: float) -> Turns:
    """After a tick of 100 ms with so many reads a second."""
    found = Turns()
    clock.now += 100_000_000
    found.look(round(reads_per_s / 10))
    return found


def test_it_rests_where_events_come_fast(clock: Clock) -> None:
    busy = looked(clock, RESTFUL_READS_PER_S * 2)
    busy.rest(clock.now + 10_000_000)
    assert clock.slept == [REST_NS / 1e9]


def test_it_does_not_rest_where_each_event_can_be_waited_for(clock: Clock) -> None:
    looked(clock, RESTFUL_READS_PER_S / 2).rest(clock.now + 10_000_000)
    Turns().rest(clock.now + 10_000_000)
    assert clock.slept == []


def test_no_rest_goes_beyond_what_is_due(clock: Clock) -> None:
    busy = looked(clock, RESTFUL_READS_PER_S * 2)
    busy.rest(clock.now + REST_NS + WAKING_NS)
    assert clock.slept == []
    busy.rest(clock.now + REST_NS + WAKING_NS + 1)
    assert len(clock.slept) == 1


def test_it_decides_anew_at_each_look(clock: Clock) -> None:
    found = looked(clock, RESTFUL_READS_PER_S * 2)
    clock.now += 100_000_000
    found.look(round(RESTFUL_READS_PER_S / 5) + 10)  # ten more
    found.rest(clock.now + 10_000_000)
    assert clock.slept == []


def test_long_turns_are_stalls() -> None:
    found = Turns()
    for ns in (10, STALL_NS, STALL_NS - 1, 3 * STALL_NS):
        found.took(ns)
    assert (found.longest_ns, found.stalls, found.stalled_ns) == (3 * STALL_NS, 2, 4 * STALL_NS)
