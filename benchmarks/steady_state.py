"""What finding warm-ups and drifts gets right, and wrong, on simulated series of known truth.

`python -m benchmarks.steady_state` prints three tables (series of independent values and waits of M/M/1 queues, by
Lindley's recursion):
- stationary series: how many are cut, and what that does to mean, p50 and p99; beside them MSER-5 as published;
- warm-ups of known shape: how many are found, and the mean's bias before and after;
- drifts and changes: how many points are called unsteady.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from latency_profile.steady_state import BATCH, Series, Steadiness, examine, find_warmup

Table = NDArray[np.float64]  # (series, values)
LENGTHS = (100, 300, 600, 2000)
LEVEL_NS = 50e6
STEP_NS = 100_000_000  # between arrivals


def waits(rng: np.random.Generator, utilization: float, series: int, n: int, *, empty: bool = False) -> Table:
    """Waits in M/M/1 queues, in mean services; stationary, or from an empty queue on."""
    wait = np.zeros(series)
    found = np.empty((series, n))
    for i in range(0 if empty else -3000, n):
        if i >= 0:
            found[:, i] = wait
        wait = np.maximum(0, wait + rng.exponential(1, series) - rng.exponential(1 / utilization, series))
    return found


def mser_5(values: NDArray[np.float64]) -> int:
    """The cut as White, Cobb & Spratt (2000) have it, always taken."""
    parts = len(values) // BATCH
    means = values[: parts * BATCH].reshape(parts, BATCH).mean(axis=1)
    return BATCH * min(range(parts // 2 + 1), key=lambda d: float(means[d:].var()) / (parts - d))


def stationary(rng: np.random.Generator, series: int, n: int) -> Iterator[tuple[str, Table]]:
    yield "log-normal, sd 0.53 of the mean", rng.lognormal(0, 0.5, (series, n))
    yield "Pareto, shape 1.5", 1 + rng.pareto(1.5, (series, n))
    for utilization in (0.6, 0.8, 0.9):
        yield f"M/M/1 waits, {utilization}", waits(rng, utilization, series, n)


def warmups(n: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Factors on a level of 1."""
    i = np.arange(n)
    yield "first 10 are 5 times as slow", np.where(i < 10, 5.0, 1.0)
    yield "first 40 are twice as slow", np.where(i < 40, 2.0, 1.0)
    yield "3 times, decaying over 30", 1 + 2 * np.exp(-i / 30)
    yield "twice, decaying over a tenth", 1 + np.exp(-10 * i / n)
    yield "half, rising over 100", np.minimum(1, 0.5 + i / 200)


def changes(n: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    share = np.arange(n) / n
    yield "+20 %, straight", 1 + 0.2 * share
    yield "+100 %, straight", 1 + share
    yield "twice from 60 % on", np.where(share < 0.6, 1.0, 2.0)
    yield "+20 % from 60 % on", np.where(share < 0.6, 1.0, 1.2)
    yield "twice from 80 % on", np.where(share < 0.8, 1.0, 2.0)
    yield "twice from 90 % on", np.where(share < 0.9, 1.0, 2.0)


def examined(values: Table) -> list[Steadiness]:
    n = values.shape[1]
    times = np.arange(n) * STEP_NS
    none = np.zeros(n, dtype=np.bool_)
    return [examine({"e2e": Series(row * LEVEL_NS, times, none)}) for row in values]


def _percent(of: Callable[[NDArray[np.float64]], np.floating], values: Table, cuts: list[int]) -> str:
    """By how much the cut moves a number's average over the series, in percent."""
    whole = np.mean([of(row) for row in values])
    kept = np.mean([of(row[cut:]) for row, cut in zip(values, cuts, strict=True)])
    return f"{100 * (kept / whole - 1):+.1f}"


def print_stationary(rng: np.random.Generator, series: int) -> None:
    print("| stationary series | n | MSER-5 cuts, % of n | its shift of mean, p50, p99, % | cut, % of series |", end="")
    print(" shift of mean, p50, p99, % | unsteady, % of series |\n|---|---|---|---|---|---|---|")
    numbers = (np.mean, np.median, lambda row: np.percentile(row, 99))
    for n in LENGTHS:
        for name, values in stationary(rng, series, n):
            plain = [mser_5(row) for row in values]
            found = [find_warmup(row) for row in values]
            cuts = [cut.values for cut in found]
            shifts = [", ".join(_percent(number, values, which) for number in numbers) for which in (plain, cuts)]
            unsteady = np.mean([one.steady is False for one in examined(values)])
            print(f"| {name} | {n} | {100 * np.mean(plain) / n:.1f} | {shifts[0]} | ", end="")
            print(f"{100 * np.mean(np.array(cuts) > 0):.1f} | {shifts[1]} | {100 * unsteady:.1f} |", flush=True)


def print_warmups(rng: np.random.Generator, series: int) -> None:
    print("\n| warm-up, values within 20 % | n | found, % | mean's bias, % | after the cut | after MSER-5's |")
    print("|---|---|---|---|---|---|")
    for n in LENGTHS:
        for name, factors in warmups(n):
            noise = rng.uniform(0.8, 1.2, (series, n))
            values = noise * factors
            cuts = [find_warmup(row).values for row in values]
            plain = [mser_5(row) for row in values]
            bias = [
                100 * (np.mean([row[cut:].mean() for row, cut in zip(values, which, strict=True)]) / noise.mean() - 1)
                for which in ([0] * series, cuts, plain)
            ]
            found = 100 * np.mean(np.array(cuts) > 0)
            print(f"| {name} | {n} | {found:.0f} | {bias[0]:.1f} | {bias[1]:.1f} | {bias[2]:.1f} |", flush=True)


def print_changes(rng: np.random.Generator, series: int) -> None:
    print("\n| no steady state | values | n | unsteady, % |\n|---|---|---|---|")
    for n in LENGTHS[1:]:
        for name, factors in changes(n):
            for spread, noise in (
                ("within 20 %", rng.uniform(0.8, 1.2, (series, n))),
                ("log-normal, sd 0.53", rng.lognormal(0, 0.5, (series, n))),
            ):
                unsteady = np.mean([one.steady is False for one in examined(noise * factors)])
                print(f"| {name} | {spread} | {n} | {100 * unsteady:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000, help="stationary series a line; a fifth of it of others")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    print_stationary(rng, arguments.series)
    print_warmups(rng, arguments.series // 5)
    print_changes(rng, arguments.series // 5)


if __name__ == "__main__":
    main()
