"""Probes of the simulator's engine in virtual time, and the settings of which the true capacity is known.

`python -m benchmarks.capacity_model --requests 2000000` gives the numbers of TRUTH to within their errors (hours; with
the 200,000 that it takes by itself, to within three times these). Of each setting and its objectives, PLACES rates
around the capacity have so many requests each. The mean score of each objective at each rate (`capacity.scores`,
without its first TRANSIENT_S) is corrected for the plan's luck as in `capacity.fit`; a parabola through their
logarithms gives the rate at which it is 1. Shown with each is the standard error, from batches. The search's own
estimate has no part in it.

Shown too is how many requests a point of a grid needs that is to be as sure: GRID_STEP from the capacity, the 95 %
interval of its mean score is to leave out 1 in GRID_POWER of the cases.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from latency_profile.capacity.scores import Answers, scores
from latency_profile.plan import offsets_ns
from latency_profile.simulator.engine import Engine, EngineProfile
from latency_profile.simulator.job import Emission, Job
from latency_profile.simulator.profiles import A100_8B, CPU_135M, H100_8B
from latency_profile.slo.grammar import parse
from latency_profile.statistics import NS_PER_S

PLACES = 5
SPREAD = 0.05  # of log rate, to each side of the crossing
BATCHES = 100
GRID_STEP = 0.03  # two points, one to each side of the capacity, are then 6 % apart: an interval as wide as a search's
GRID_POWER = 0.8
TRANSIENT_S = 60.0
NOT_YET = -1


@dataclass(frozen=True)
class Setting:
    """An engine and its requests: lengths in tokens, drawn evenly between two ends."""

    name: str
    engine: EngineProfile
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    lowest: float  # requests/s: where a search begins


# Answers are short, so that a request costs some 30 µs to simulate.
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("cpu-135m", CPU_135M, (32, 96), (8, 24), 1.0),  # sixteen sequences at most
        Setting("h100-8b", H100_8B, (256, 1024), (4, 28), 5.0),  # prefill
        Setting("a100-8b", A100_8B, (128, 512), (8, 24), 4.0),  # prefill in chunks of 2,048 tokens
        Setting("few slots", replace(H100_8B, max_num_seqs=12, async_scheduling=False), (32, 512), (8, 40), 6.0),
        Setting(
            "small cache",  # preempts
            replace(A100_8B, num_blocks=300, max_model_len=1024, prefix_caching=False),
            (64, 448),
            (8, 40),
            3.0,
        ),
    )
}
OBJECTIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "cpu-135m": (("ttft:p99<1s",), ("e2e:mean<1.4s", "errors<1%"), ("ttft:p95<500ms", "tpot:p90<95ms")),
    "h100-8b": (("ttft:p99<400ms",), ("e2e:mean<800ms", "errors<1%"), ("ttft:p95<300ms", "tpot:p90<50ms")),
    "a100-8b": (("ttft:p99<500ms",), ("e2e:mean<1.1s", "errors<1%"), ("ttft:p95<300ms", "tpot:p90<100ms")),
    "few slots": (("ttft:p99<250ms",), ("e2e:mean<300ms", "errors<1%"), ("ttft:p95<150ms", "tpot:p90<12ms")),
    "small cache": (("ttft:p99<500ms",), ("e2e:mean<650ms", "errors<1%"), ("ttft:p95<400ms", "tpot:p90<25ms")),
}
# Where to look for the truth, requests/s: of each setting's objectives.
ABOUT: dict[str, tuple[float, ...]] = {
    "cpu-135m": (8.5, 9.0, 8.2),
    "h100-8b": (49.2, 50.0, 44.8),
    "a100-8b": (29.7, 31.0, 26.8),
    "few slots": (36.5, 38.6, 36.0),
    "small cache": (22.0, 23.2, 19.8),
}


class Probe:
    """One probe from an idle engine, that can be looked at while it runs."""

    def __init__(self, setting: Setting, rate: float, seconds: float, seed: int, point: int) -> None:
        self._due_ns = offsets_ns(rate, duration_s=seconds, seed=seed, point=point)
        n = len(self._due_ns)
        drawn = np.random.default_rng((seed, point))
        self._inputs = drawn.integers(setting.inputs[0], setting.inputs[1] + 1, n).tolist()
        self._outputs: list[int] = drawn.integers(setting.outputs[0], setting.outputs[1] + 1, n).tolist()
        self._left = self._outputs.copy()
        self._first = [NOT_YET] * n
        self._end = [NOT_YET] * n
        self._engine = Engine(setting.engine, seed=int(drawn.integers(1 << 32)))
        self._next = 0

    def until(self, now_s: float) -> Answers:
        """What a client has seen by then."""
        now_ns = round(now_s * NS_PER_S)
        engine, due = self._engine, self._due_ns
        coming = int(np.searchsorted(due, now_ns, "right"))
        for index in range(self._next, coming):
            at = int(due[index])
            self._take(engine.run(at))
            engine.admit(Job(at, self._inputs[index], self._outputs[index], key=index))
        self._next = coming
        self._take(engine.run(now_ns))
        first, end = (seconds_of(times[:coming]) for times in (self._first, self._end))
        return Answers(
            now_s=now_s,
            due_s=due[:coming] / NS_PER_S,
            first_s=first,
            end_s=end,
            tokens=np.array(self._outputs[:coming], dtype=np.float64),
            failed=np.zeros(coming, dtype=np.bool_),
        )

    def _take(self, emissions: Sequence[Emission]) -> None:
        first, end, left = self._first, self._end, self._left
        for job, at, _ in emissions:
            key = job.key
            if first[key] == NOT_YET:
                first[key] = at
            left[key] -= 1
            if not left[key]:
                end[key] = at


def seconds_of(times: list[int]) -> NDArray[np.float64]:
    """Of ns; NaN for what has not come yet."""
    found = np.array(times, dtype=np.float64) / NS_PER_S
    found[found < 0] = np.nan
    return found


@dataclass(frozen=True)
class Truth:
    """Of a setting and its objectives."""

    capacity: float  # requests/s
    error: float  # relative standard error
    requests: float  # of a point, to tell GRID_STEP from the capacity with a power of GRID_POWER: see `_needed`


# In the order of OBJECTIVES; 2,000,000 requests at each rate.
TRUTH: dict[str, tuple[Truth, ...]] = {
    "cpu-135m": (Truth(8.48, 0.0014, 84_100), Truth(9.053, 0.0004, 12_100), Truth(8.218, 0.0008, 37_900)),
    "h100-8b": (Truth(50.124, 0.0012, 64_500), Truth(50.578, 0.0003, 9_700), Truth(45.445, 0.0006, 20_800)),
    "a100-8b": (Truth(29.922, 0.0013, 80_100), Truth(31.043, 0.0003, 11_600), Truth(27.265, 0.0008, 37_400)),
    "few slots": (Truth(36.774, 0.0015, 84_400), Truth(38.636, 0.0005, 17_900), Truth(36.389, 0.0009, 39_000)),
    "small cache": (Truth(22.154, 0.0015, 112_500), Truth(23.292, 0.0005, 16_800), Truth(19.956, 0.0006, 30_100)),
}


def truth(setting: Setting, names: Sequence[str], about: float, requests: int, seed: int) -> Truth:
    """Of the objective whose mean score reaches 1 first."""
    offsets = np.linspace(-SPREAD, SPREAD, PLACES)
    means: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for place, offset in enumerate(offsets):
        rate = about * math.exp(offset)
        seconds = requests / rate + TRANSIENT_S
        answers = Probe(setting, rate, seconds, seed, place).until(seconds)
        for name in names:
            of = scores(answers, parse(name)).after(TRANSIENT_S)
            means[name].append(_log_mean(of.due_s, of.sums, of.weights, rate))
    crossings = [_crossing(offsets, found) for found in means.values() if max(found)[0] > 0]  # others are kept beyond
    x, error, slope, spread = min(crossings)
    return Truth(about * math.exp(x), error, _needed(slope, spread))


def _needed(slope: float, spread: float) -> float:
    """Requests of an ordinary point GRID_STEP from the capacity, so that the 95 % interval of its mean score leaves out
    1 in GRID_POWER of the cases; spread: standard error of the mean score, relative, times the root of the requests."""
    normal = NormalDist()
    apart = normal.inv_cdf(0.975) + normal.inv_cdf(GRID_POWER)
    return (apart * spread / (slope * math.log1p(GRID_STEP))) ** 2


def _log_mean(
    due_s: NDArray[np.float64], sums: NDArray[np.float64], weights: NDArray[np.float64], rate: float
) -> tuple[float, float, float]:
    """The logarithm of the mean score, its standard error, and that of one request as an ordinary point has it; -inf
    without any score."""
    if not sums.any():
        return -math.inf, 0.0, 0.0
    edges = np.linspace(due_s[0], due_s[-1], BATCHES + 1)
    places = np.searchsorted(due_s, edges)
    total, weight = (np.diff(np.concatenate(([0.0], np.cumsum(each)))[places]) for each in (sums, weights))
    expected = rate * (edges[1] - edges[0])
    luck = weight - expected
    adjusted = total - float(np.cov(total, luck)[0, 1] / luck.var(ddof=1)) * luck
    mean = float(adjusted.mean())
    ordinary = (total - total.sum() / weight.sum() * weight).std(ddof=1) / mean * math.sqrt(expected)
    return math.log(mean / expected), float(adjusted.std(ddof=1)) / math.sqrt(BATCHES) / mean, float(ordinary)


def _crossing(
    offsets: NDArray[np.float64], found: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float, float]:
    """Where the parabola is 0, its standard error; its slope there, and the spread of one request in the middle."""
    logs, errors, spreads = np.array(found).T

    def curve(values: NDArray[np.float64]) -> np.poly1d:
        return np.poly1d(np.polyfit(offsets, values, 2, w=1 / errors))

    def root(of: np.poly1d) -> float:
        return float(min((x.real for x in of.roots if abs(x.imag) < 1e-9), key=abs))

    drawn = np.random.default_rng(0)
    roots = [root(curve(logs + errors * drawn.standard_normal(len(logs)))) for _ in range(200)]
    best = curve(logs)
    return root(best), float(np.std(roots)), float(best.deriv()(root(best))), float(spreads[len(spreads) // 2])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--requests", type=int, default=200_000, help="at each rate (default: 200000)")
    flags.add_argument("--seed", type=int, default=1001)
    given = flags.parse_args()
    for name, setting in SETTINGS.items():
        for objectives, about in zip(OBJECTIVES[name], ABOUT[name], strict=True):
            found = truth(setting, objectives, about, given.requests, given.seed)
            told = f"{found.capacity:.3f} req/s ± {found.error:.2%}, {found.requests:.0f} requests a point of a grid"
            print(f"{name}: {', '.join(objectives)}: {told}", flush=True)


if __name__ == "__main__":
    main()
