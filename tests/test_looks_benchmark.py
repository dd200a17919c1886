"""The benchmark that finds what a look at the server's metrics does, against planted effects on a noisy machine."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.looks import change, mean_change

LOOKS_S = np.arange(0.4, 20.0, 1.0)


def point(rng: np.random.Generator, planted_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Requests of 20 s at 300/s, whose first tokens come 20 ms later, but for pauses; each look holds some up."""
    due_s = np.sort(rng.uniform(0.0, 20.0, 6_000))
    ttft_s = 0.02 + rng.exponential(0.0002, len(due_s))
    for pause_s in rng.uniform(0.0, 20.0, 10):  # of the machine: what falls due or comes in meanwhile waits for its end
        first_s = due_s + ttft_s
        ttft_s += np.where((first_s > pause_s) & (first_s < pause_s + 0.005), pause_s + 0.005 - first_s, 0.0)
    for look_s in LOOKS_S:
        first_s = due_s + ttft_s
        ttft_s += np.where((first_s > look_s) & (first_s < look_s + planted_s), look_s + planted_s - first_s, 0.0)
    return due_s, ttft_s


def test_what_a_look_costs_is_found_beside_pauses_that_are_larger() -> None:
    rng = np.random.default_rng(7)
    found, low, _ = mean_change([change(*point(rng, 0.005), LOOKS_S, 0.99) for _ in range(5)])
    assert low > 0
    truth = np.mean([_truth(rng) for _ in range(10)])
    assert truth / 2 < found < truth * 2, (found, truth)


def _truth(rng: np.random.Generator) -> float:
    state = rng.bit_generator.state
    _, disturbed = point(rng, 0.005)
    rng.bit_generator.state = state
    _, plain = point(rng, 0.0)
    return float(np.quantile(disturbed, 0.99) - np.quantile(plain, 0.99))


def test_where_looks_cost_nothing_the_interval_holds_nothing() -> None:
    held = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        _, low, high = mean_change([change(*point(rng, 0.0), LOOKS_S, 0.99) for _ in range(2)])
        held += low <= 0 <= high
    assert held >= 12  # of 14 expected


def test_looks_that_leave_no_room_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no room"):
        change(*point(rng, 0.0), np.arange(0.0, 20.0, 0.05), 0.99)
    with pytest.raises(ValueError, match="fewer than two"):
        change(*point(rng, 0.0), [1.0], 0.99)
