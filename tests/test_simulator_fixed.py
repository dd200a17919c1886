"""The servers of exactly known timing: the fixed timeline and the slots. Virtual time."""

import random

import numpy as np
import pytest

from latency_profile.simulator.fixed import FixedTiming, FixedTimingProfile, SlotTiming
from latency_profile.simulator.job import Job, Timing
from latency_profile.simulator.slots import SlotProfile


def drain(timing: Timing) -> dict[Job, list[tuple[int, int]]]:
    """All tokens of all admitted jobs: (due, tokens) of each."""
    times: dict[Job, list[tuple[int, int]]] = {}
    while (due := timing.next_due()) is not None:
        for emission in timing.run(due):
            times.setdefault(emission.job, []).append((emission.due_ns, emission.tokens))
    return times


def test_every_request_has_its_own_timeline() -> None:
    timing = FixedTiming(FixedTimingProfile(ttft_ns=100, itl_ns=10))
    jobs = [Job(arrival, 5, 4) for arrival in (0, 3, 3, 70)]
    for job in jobs:
        timing.admit(job)
    times = drain(timing)
    for job in jobs:
        assert times[job] == [(job.arrival_ns + 100 + 10 * k, 1) for k in range(4)]


def test_a_late_wakeup_gives_all_that_is_due_in_order() -> None:
    timing = FixedTiming(FixedTimingProfile(100, 10))
    timing.admit(Job(0, 5, 4))
    timing.admit(Job(5, 5, 2))
    assert [emission.due_ns for emission in timing.run(116)] == [100, 105, 110, 115]
    assert timing.next_due() == 120
    assert timing.stats().running == 1


def test_jitter_is_uniform_and_seeded_by_the_job() -> None:
    def gaps(seed: int, key: int) -> list[int]:
        timing = FixedTiming(FixedTimingProfile(1_000_000, 1_000_000, 0.3), seed)
        job = Job(0, 5, 4000, key=key)
        timing.admit(job)
        dues = [due for due, _ in drain(timing)[job]]
        return list(np.diff([0, *dues]))

    assert gaps(1, 7) == gaps(1, 7)
    assert gaps(1, 7) != gaps(2, 7)
    assert gaps(1, 7) != gaps(1, 8)
    shares = np.array(gaps(1, 7)) / 1e6
    assert shares.min() >= 0.7 and shares.max() <= 1.3
    # the quartiles of U(0.7, 1.3), within four standard errors of 4,000 draws
    assert np.percentile(shares, [25, 50, 75]) == pytest.approx([0.85, 1.0, 1.15], abs=0.02)


def test_cancel_ends_a_timeline() -> None:
    timing = FixedTiming(FixedTimingProfile(100, 10, 0.1))
    gone, stays = Job(0, 5, 3), Job(0, 5, 3)
    timing.admit(gone)
    timing.admit(stays)
    timing.cancel(gone)
    assert list(drain(timing)) == [stays]


def test_one_slot_is_lindleys_recursion() -> None:
    draw = random.Random(3)
    service = 1000
    arrivals = np.cumsum([round(draw.expovariate(0.9 / service)) for _ in range(2000)])
    timing = SlotTiming(SlotProfile(service))
    jobs = [Job(int(arrival), 5, 8) for arrival in arrivals]
    for job in jobs:
        timing.admit(job)
    times = drain(timing)
    wait = 0  # W[k + 1] = max(0, W[k] + S - (A[k + 1] - A[k]))
    for k, job in enumerate(jobs):
        if k:
            wait = max(0, wait + service - int(arrivals[k] - arrivals[k - 1]))
        assert times[job] == [(job.arrival_ns + wait + service, 8)]
        assert job.started_ns == job.arrival_ns + wait


def test_two_slots() -> None:
    timing = SlotTiming(SlotProfile(100, servers=2))
    jobs = [Job(arrival, 5, 1) for arrival in (0, 10, 20, 30, 300)]
    for job in jobs[:4]:
        timing.admit(job)
    assert (timing.stats().running, timing.stats().waiting) == (2, 2)
    timing.admit(jobs[4])
    times = drain(timing)
    assert [times[job][0][0] for job in jobs] == [100, 110, 200, 210, 400]


def test_exponential_service_has_its_mean_and_seed() -> None:
    def services(seed: int) -> list[int]:
        timing = SlotTiming(SlotProfile(1000, service="exponential"), seed)
        jobs = [Job(k * 10**6, 5, 1) for k in range(4000)]  # never a queue
        for job in jobs:
            timing.admit(job)
        return [due[0][0] - job.arrival_ns for job, due in drain(timing).items()]

    assert services(1) == services(1) != services(2)
    drawn = np.array(services(1))
    assert drawn.mean() == pytest.approx(1000, rel=0.07)  # four standard errors of 4,000 draws
    assert drawn.std() == pytest.approx(1000, rel=0.1)


def test_a_drifting_ttft_grows_with_the_time_since_the_first_request() -> None:
    second = 1_000_000_000
    timing = FixedTiming(FixedTimingProfile(ttft_ns=100, itl_ns=10, ttft_drift=0.002))  # 2 ms a second
    jobs = [Job(arrival, 5, 3) for arrival in (7 * second, 7 * second + 500, 10 * second)]
    for job in jobs:
        timing.admit(job)
    times = drain(timing)
    for job, drifted in zip(jobs, (0, 1, 6_000_000), strict=True):
        assert times[job] == [(job.arrival_ns + 100 + drifted + 10 * k, 1) for k in range(3)]
