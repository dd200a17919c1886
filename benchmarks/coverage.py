"""How often the 95 % intervals hold the truth, where it is known.

`python -m benchmarks.coverage` simulates 2,000 points of each law and prints, for p50, p90, p99 and the mean, the share
of intervals that hold the true value, how often the sample gave no two-sided interval, and the share of those whose one
bound (97.5 %) holds; then the same of the throughput. `--points N` simulates fewer. Nothing is measured: the same seed
gives the same table on any machine. Exit code 1 where an interval that claims 95 % is off by more than LIMITS.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from latency_profile.measures import Span
from latency_profile.rates import bounds, steps
from latency_profile.statistics import NS_PER_S, Distribution, Sample, describe

Values = NDArray[np.float64]
FIGURES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "mean": None}
SIGMA = 0.5  # of the logarithm, where a lognormal is driven by an AR(1) series
HEAVY = 1.0  # of the logarithm, where it is to have a heavy tail: its p99 is ten times its median


# Share of the intervals that hold the truth. Dependence has to be estimated, and is underestimated where a run has not
# seen what a longer one would have; too wide is then the better error.
INDEPENDENT_LIMITS = (0.935, 0.985)
CORRELATED_LIMITS = (0.90, 1.0)
FLOW_LIMITS = (0.88, 1.0)
FEWEST_RESOLVED = 0.05  # of the points: a share of fewer says nothing


@dataclass(frozen=True)
class Law:
    """A law of latencies: how to draw n of them in order of arrival, and what is true of each."""

    name: str
    sizes: tuple[int, ...]
    draw: Callable[[np.random.Generator, int], Values]
    quantile: Callable[[float], float]
    mean: float
    independent: bool


def _lognormal(sigma: float) -> Callable[[float], float]:
    return lambda level: math.exp(sigma * NormalDist().inv_cdf(level))


def _mixture(rng: np.random.Generator, n: int) -> Values:
    """Nine in ten are short answers, one in ten is long, three times as long at the median."""
    return np.where(rng.random(n) < 0.9, rng.lognormal(0, 0.25, n), rng.lognormal(math.log(3), 0.25, n))


def _mixture_quantile(level: float) -> float:
    law, low, high = NormalDist(), 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        below = 0.9 * law.cdf(math.log(middle) / 0.25) + 0.1 * law.cdf(math.log(middle / 3) / 0.25)
        low, high = (middle, high) if below < level else (low, middle)
    return high


def waits(rng: np.random.Generator, n: int, load: float) -> Values:
    """Waits in an M/M/1 queue from its steady state on, by Lindley's recursion; service takes 1 on average."""
    first = rng.exponential(1 / (1 - load)) if rng.random() < load else 0.0
    walk = np.concatenate(([0.0], np.cumsum(rng.exponential(1, n - 1) - rng.exponential(1 / load, n - 1))))
    return walk - np.minimum(np.minimum.accumulate(walk), -first)


def driven(rng: np.random.Generator, n: int, memory: float) -> Values:
    """Lognormal values whose logarithms are a stationary AR(1) series."""
    shocks = rng.normal(0, math.sqrt(1 - memory**2), n).tolist()
    level = rng.normal()
    series = np.empty(n)
    for i, shock in enumerate(shocks):
        level = memory * level + shock
        series[i] = level
    return np.exp(SIGMA * series)


def _queue(load: float) -> Law:
    return Law(
        f"M/M/1 waits, load {load}",
        (2000, 10_000),
        lambda rng, n: waits(rng, n, load),
        lambda level: max(0.0, math.log(load / (1 - level)) / (1 - load)),
        load / (1 - load),
        independent=False,
    )


def _driven(memory: float) -> Law:
    mean = math.exp(SIGMA**2 / 2)
    return Law(
        f"AR(1) lognormal, {memory}",
        (2000,),
        lambda rng, n: driven(rng, n, memory),
        _lognormal(SIGMA),
        mean,
        independent=False,
    )


LAWS = (
    Law("exponential", (400, 2000), lambda rng, n: rng.exponential(1, n), lambda p: -math.log1p(-p), 1.0, True),
    Law(
        "lognormal, sigma 1",
        (400, 2000),
        lambda rng, n: rng.lognormal(0, HEAVY, n),
        _lognormal(HEAVY),
        math.exp(HEAVY**2 / 2),
        True,
    ),
    Law("mixture", (400, 2000), _mixture, _mixture_quantile, 1.2 * math.exp(0.25**2 / 2), True),
    _queue(0.5),
    _queue(0.8),
    _driven(0.5),
    _driven(0.9),
)


@dataclass
class Tally:
    """What the intervals of one figure did."""

    resolved: int = 0
    held: int = 0
    one_sided: int = 0
    one_sided_held: int = 0

    def add(self, low: float | None, high: float | None, truth: float) -> None:
        holds = (low is None or low <= truth) and (high is None or truth <= high)
        if low is not None and high is not None:
            self.resolved += 1
            self.held += holds
        elif low is not None or high is not None:
            self.one_sided += 1
            self.one_sided_held += holds

    @property
    def coverage(self) -> float:
        """Of the two-sided intervals; NaN where there are none."""
        return self.held / self.resolved if self.resolved else math.nan

    @property
    def one_sided_coverage(self) -> float:
        return self.one_sided_held / self.one_sided if self.one_sided else math.nan


def interval(found: Distribution, figure: str) -> tuple[float | None, float | None]:
    """Both ends, s."""
    if figure == "mean":
        return found.mean_low_s, found.mean_high_s
    percentile = getattr(found, figure)
    return percentile.low_s, percentile.high_s


def coverage(law: Law, n: int, points: int, seed: int = 1) -> dict[str, Tally]:
    """The tallies of `points` points of n requests, by figure."""
    rng = np.random.default_rng(seed)
    truths = {name: law.mean if level is None else law.quantile(level) for name, level in FIGURES.items()}
    found = {name: Tally() for name in FIGURES}
    for _ in range(points):
        known = describe(Sample(law.draw(rng, n) * NS_PER_S))
        for name, tally in found.items():
            tally.add(*interval(known, name), truths[name])
    return found


# Completions: times in s and what each brings, over a window of so many seconds.
Flow = Callable[[np.random.Generator, float], tuple[Values, Values | None]]


def poisson(rate: float) -> Flow:
    def flow(rng: np.random.Generator, length: float) -> tuple[Values, None]:
        return rng.random(rng.poisson(rate * length)) * length, None

    return flow


def answers(rate: float, tokens: float) -> Flow:
    """Poisson completions that bring lognormal numbers of tokens, `tokens` on average."""

    def flow(rng: np.random.Generator, length: float) -> tuple[Values, Values]:
        times, _ = poisson(rate)(rng, length)
        return times, rng.lognormal(math.log(tokens) - 0.5, 1.0, len(times))

    return flow


def departures(load: float, fixed: bool) -> Flow:
    """Of a queue with Poisson arrivals and a service that takes 1: exactly, or on average (exponential)."""

    def flow(rng: np.random.Generator, length: float) -> tuple[Values, None]:
        before = 100 / (1 - load) ** 2  # by then it has forgotten that it began empty
        n = rng.poisson(load * (length + before))
        arrivals = np.sort(rng.random(n)) * (length + before) - before
        work = np.cumsum(np.ones(n) if fixed else rng.exponential(1, n))
        ends = work + np.maximum.accumulate(arrivals - np.concatenate(([0.0], work[:-1])))
        return ends[(ends >= 0) & (ends < length)], None

    return flow


FLOWS: tuple[tuple[str, Flow, float, tuple[float, ...]], ...] = (
    ("Poisson, 2/s", poisson(2.0), 2.0, (30, 200)),
    ("tokens of Poisson answers, 2/s of 100", answers(2.0, 100.0), 200.0, (60, 600)),
    ("M/M/1 departures, load 0.8", departures(0.8, fixed=False), 0.8, (200, 2000)),
    ("M/D/1 departures, load 0.8", departures(0.8, fixed=True), 0.8, (200, 2000)),
)


def rate_coverage(flow: Flow, truth: float, length: float, points: int, seed: int = 2) -> Tally:
    """The tally of the rate over `points` windows of `length` seconds."""
    rng = np.random.default_rng(seed)
    span = Span(0, round(length * NS_PER_S))
    found = Tally()
    for _ in range(points):
        times, amounts = flow(rng, length)
        found.add(*bounds(span, steps(span, np.rint(times * NS_PER_S).astype(np.int64), amounts)), truth)
    return found


def cell(tally: Tally, points: int) -> str:
    """Coverage, and in brackets the share that is not two-sided and how often the one bound held."""
    open_share = 1 - tally.resolved / points
    shown = "–" if not tally.resolved else f"{tally.coverage:.1%}"
    if open_share == 0:
        return shown
    held = f": {tally.one_sided_coverage:.1%}" if tally.one_sided else ""
    return f"{shown} ({open_share:.1%} open{held})"


def wrong(name: str, tally: Tally, points: int, limits: tuple[float, float]) -> list[str]:
    """What is off about one figure, if anything."""
    low, high = limits
    if tally.resolved < FEWEST_RESOLVED * points or low <= tally.coverage <= high:
        return []
    return [f"{name}: {tally.coverage:.1%} hold the truth, and {low:.1%} to {high:.1%} should"]


def lines(points: int, found_wrong: list[str]) -> Iterator[str]:
    """Both tables, in Markdown, line by line. What is off is added to `found_wrong`."""
    yield f"| values | n | {' | '.join(FIGURES)} |"
    yield "|---" * (2 + len(FIGURES)) + "|"
    for law in LAWS:
        for n in law.sizes:
            found = coverage(law, n, points)
            limits = INDEPENDENT_LIMITS if law.independent else CORRELATED_LIMITS
            for figure, tally in found.items():
                found_wrong += wrong(f"{law.name}, {n:,}, {figure}", tally, points, limits)
            yield f"| {law.name} | {n:,} | {' | '.join(cell(found[name], points) for name in FIGURES)} |"
    yield ""
    yield "| flow | window, s | rate |"
    yield "|---|---|---|"
    for name, flow, truth, lengths in FLOWS:
        for length in lengths:
            found_rate = rate_coverage(flow, truth, length, points)
            found_wrong += wrong(f"{name}, {length:g} s", found_rate, points, FLOW_LIMITS)
            yield f"| {name} | {length:g} | {cell(found_rate, points)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000, help="points a row")
    found_wrong: list[str] = []
    for line in lines(parser.parse_args().points, found_wrong):
        print(line, flush=True)
    print(*(["\nOff:", *found_wrong] if found_wrong else ["\nAll within their limits."]), sep="\n")
    return int(bool(found_wrong))


if __name__ == "__main__":
    sys.exit(main())
