"""The profile h100-8b against vLLM 0.24 with Llama-3-8B on one H100 80GB, measured by `vllm bench`. Virtual time."""

import random

import numpy as np
import pytest

from latency_profile.simulator.engine import Engine
from latency_profile.simulator.job import Job
from latency_profile.simulator.profiles import H100_8B, PROFILES

# 512 tokens in, 128 out, Poisson: requests/s, requests, TTFT p50 ms, TPOT p50 ms, E2E p50 ms
MEASURED = (
    (2, 50, 36.6, 6.65, 880),
    (8, 200, 40.3, 7.53, 1002),
    (16, 400, 42.5, 8.84, 1174),
    (32, 800, 58.1, 12.2, 1600),
)
# A batch at once, no server in front: sequences, tokens in, tokens out, mean ms
MEASURED_BATCHES = (
    (1, 128, 64, 427),
    (8, 128, 64, 466),
    (32, 128, 64, 548),
    (128, 128, 64, 937),
    (1, 128, 1, 15.5),
    (1, 512, 1, 17.3),
    (1, 2048, 1, 56.1),
    (8, 512, 1, 108),
    (32, 512, 1, 394),
    (128, 128, 1, 406),
)


def play(jobs: list[Job]) -> dict[Job, list[int]]:
    engine = Engine(H100_8B, seed=1)
    times: dict[Job, list[int]] = {job: [] for job in jobs}
    coming = iter(jobs)
    following = next(coming, None)
    while True:
        due = engine.next_due()
        if following is not None and (due is None or following.arrival_ns <= due):
            engine.admit(following)
            following = next(coming, None)
        elif due is None:
            return times
        else:
            for emission in engine.run(due):
                times[emission.job].append(emission.due_ns)


@pytest.mark.parametrize(("rate", "requests", "ttft_ms", "tpot_ms", "e2e_ms"), MEASURED)
def test_serving(rate: float, requests: int, ttft_ms: float, tpot_ms: float, e2e_ms: float) -> None:
    draw = random.Random(rate)
    arrivals = np.cumsum([draw.expovariate(rate) * 1e9 for _ in range(requests)]).astype(int)
    times = play([Job(int(arrival), 512, 128) for arrival in arrivals])
    ttft = np.median([tokens[0] - job.arrival_ns for job, tokens in times.items()]) / 1e6
    tpot = np.median([(tokens[-1] - tokens[0]) / 127 for tokens in times.values()]) / 1e6
    e2e = np.median([tokens[-1] - job.arrival_ns for job, tokens in times.items()]) / 1e6
    assert ttft == pytest.approx(ttft_ms, rel=0.25)
    assert tpot == pytest.approx(tpot_ms, rel=0.25)
    assert e2e == pytest.approx(e2e_ms, rel=0.25)


@pytest.mark.parametrize(("batch", "tokens_in", "tokens_out", "total_ms"), MEASURED_BATCHES)
def test_batches(batch: int, tokens_in: int, tokens_out: int, total_ms: float) -> None:
    times = play([Job(0, tokens_in, tokens_out) for _ in range(batch)])
    last = max(tokens[-1] for tokens in times.values())
    assert (last - H100_8B.frontend_ns) / 1e6 == pytest.approx(total_ms, rel=0.15)


def test_every_profile_runs() -> None:
    for profile in PROFILES.values():
        engine = Engine(profile)
        job = Job(0, 100, 10)
        engine.admit(job)
        tokens = 0
        while (due := engine.next_due()) is not None:
            tokens += sum(emission.tokens for emission in engine.run(due))
        assert tokens == 10, profile.name
