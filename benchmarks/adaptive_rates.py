"""Points of `--adaptive-rates` beside fixed lists of as many, against curves that are known.

`python -m benchmarks.adaptive_rates` drives the simulator's engine in virtual time (no sockets, no waiting: the same
tables on any machine), with Poisson arrivals for a minute a point. The truth of a setting is TTFT p50, TTFT p99 and
throughput at GRID rates, the mean logarithm of `--runs` runs. A list of points says of a rate between two of them what
a straight line says, logarithms over logarithms; its error is the mean distance to the truth, in logarithms (0.1: a
factor of 1.1), over rates in equal proportions and over rates at equal distances, both together. Shown is

- placed: the error were each point known exactly, so that only its place counts;
- measured: the error with what one run found there.

Exit code 1 where the chosen points are not nearer than both fixed lists, over all settings together.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth import table
from latency_profile.adaptive.chooser import middle, next_rate
from latency_profile.adaptive.measured import measured
from latency_profile.plan import offsets_ns
from latency_profile.records import Records
from latency_profile.results import PointResult, point_result
from latency_profile.simulator.engine import Engine, EngineProfile
from latency_profile.simulator.job import Job
from latency_profile.simulator.profiles import A100_8B, CPU_135M, H100_8B
from latency_profile.statistics import NS_PER_S
from tests.make_records import make_records

GRID = 40
SECONDS = 60.0
FIGURES = ("TTFT p50", "TTFT p99", "throughput")
TRUTH_SEED = 1000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """An engine, mean lengths of its requests in tokens (drawn evenly from half to one and a half of that), and the
    ends of the curve, requests/s."""

    engine: EngineProfile
    inputs: int
    outputs: int
    low: float
    high: float

    @property
    def name(self) -> str:
        return f"{self.engine.name} {self.low:g}–{self.high:g}"


SETTINGS = (  # the first five saturate within their ends
    Setting(CPU_135M, 64, 48, 0.5, 10),
    Setting(CPU_135M, 64, 48, 1, 40),
    Setting(H100_8B, 512, 128, 5, 100),
    Setting(A100_8B, 512, 128, 1, 60),
    Setting(H100_8B, 512, 128, 1, 40),
    Setting(A100_8B, 512, 128, 0.5, 15),
)


def run(setting: Setting, rate: float, seed: int, seconds: float = SECONDS) -> Records:
    """One point, as a client beside the engine would have recorded it."""
    due = offsets_ns(rate, duration_s=seconds, seed=seed, point=0).tolist()
    rng = random.Random(seed)
    engine = Engine(setting.engine, seed)
    jobs: list[Job] = []
    tokens: dict[Job, list[int]] = {}
    while True:
        step = engine.next_due()
        if len(jobs) < len(due) and (step is None or due[len(jobs)] <= step):
            means = (setting.inputs, setting.outputs)
            inputs, outputs = (max(2, round(mean * rng.uniform(0.5, 1.5))) for mean in means)
            job = Job(due[len(jobs)], inputs, outputs)
            jobs.append(job)
            tokens[job] = []
            engine.admit(job)
        elif step is None:
            break
        else:
            for job, at_ns, _ in engine.run(step):
                tokens[job].append(at_ns)
    times = [[at_ns / NS_PER_S for at_ns in tokens[job]] for job in jobs]
    settings = {"file_prefix": "benchmark", "find_warmup": False}
    return make_records(np.array(due) / NS_PER_S, None, times, request_rate=rate, duration_s=seconds, settings=settings)


def figures(records: Records) -> Values:
    """Logarithms of TTFT p50 and p99 in s, and of the completed requests/s of the point; shape (3,)."""
    waits = (records["first_token_ns"] - records["due_ns"]) / NS_PER_S
    over_ns = records.context.duration_s * NS_PER_S if records.context.duration_s else 0
    done = np.count_nonzero(records["end_ns"] <= over_ns) / (over_ns / NS_PER_S)
    return np.asarray(np.log([*np.quantile(waits, (0.5, 0.99)), done]))


def figures_of(result: PointResult) -> Values:
    """The same of a result; shape (3,)."""
    return np.log(np.array(measured(result).figures, dtype=np.float64))


@dataclass(frozen=True)
class Truth:
    """log_rates: shape (GRID,). values: logarithms, shape (GRID, 3)."""

    log_rates: Values
    values: Values

    def at(self, rates: Sequence[float]) -> Values:
        """Shape (rates, 3)."""
        return _between(np.log(rates), self.log_rates, self.values)

    def error(self, rates: Sequence[float], values: Values) -> Values:
        """Of straight lines through `values` at `rates` (ascending), of each figure; shape (3,)."""
        far = np.abs(_between(self.log_rates, np.log(rates), values) - self.values)
        equal = np.exp(self.log_rates)
        return np.asarray((far.mean(axis=0) + np.average(far, axis=0, weights=equal)) / 2)


def _between(wanted: Values, log_rates: Values, values: Values) -> Values:
    return np.stack([np.interp(wanted, log_rates, column) for column in values.T], axis=1)


def truth(setting: Setting, runs: int, grid: int = GRID) -> Truth:
    rates = np.geomspace(setting.low, setting.high, grid)
    seeds = range(TRUTH_SEED, TRUTH_SEED + runs)
    values = [np.mean([figures(run(setting, rate, seed)) for seed in seeds], axis=0) for rate in rates.tolist()]
    return Truth(np.log(rates), np.array(values))


Measure = Callable[[float], PointResult]
Points = Mapping[float, PointResult]


def chosen(setting: Setting, count: int, measure: Measure) -> Points:
    """As `--adaptive-rates` has them."""
    low, high = setting.low, setting.high
    points = {rate: measure(rate) for rate in (low, high, middle(low, high))}
    while len(points) < count:
        rate = next_rate(low, high, [measured(result) for result in points.values()])
        if rate is None:
            break
        points[rate] = measure(rate)
    return points


def in_proportion(setting: Setting, count: int, measure: Measure) -> Points:
    return {rate: measure(rate) for rate in np.geomspace(setting.low, setting.high, count).tolist()}


def at_equal_distances(setting: Setting, count: int, measure: Measure) -> Points:
    return {rate: measure(rate) for rate in np.linspace(setting.low, setting.high, count).tolist()}


WAYS: dict[str, Callable[[Setting, int, Measure], Points]] = {
    "chosen": chosen,
    "in proportion": in_proportion,
    "equal distances": at_equal_distances,
}


def errors(setting: Setting, known: Truth, count: int, runs: int) -> dict[str, Values]:
    """Of each way: placed and measured, by figure, the mean of the runs; shape (2, 3)."""
    found: dict[str, list[Values]] = {}
    for seed in range(runs):
        results: dict[float, PointResult] = {}  # each way's, of the same luck

        def measure(rate: float, seed: int = seed, results: dict[float, PointResult] = results) -> PointResult:
            if rate not in results:
                results[rate] = point_result(run(setting, rate, seed))
            return results[rate]

        for way, of in WAYS.items():
            points = sorted(of(setting, count, measure).items())
            rates = [rate for rate, _ in points]
            told = np.array([figures_of(result) for _, result in points])
            found.setdefault(way, []).append(np.array([known.error(rates, known.at(rates)), known.error(rates, told)]))
    return {way: np.mean(of, axis=0) for way, of in found.items()}


def _row(name: str, way: str, of: Values) -> dict[str, float | str]:
    row: dict[str, float | str] = {"setting": name, "points": way}
    for kind, values in zip(("placed", "measured"), of.tolist(), strict=True):
        row |= {f"{figure} {kind}": round(value, 3) for figure, value in zip(FIGURES, values, strict=True)}
    return row


def off(together: Mapping[str, Values]) -> Iterator[str]:
    """What is not as it should be of the mean over all settings."""
    for k, kind in enumerate(("placed", "measured")):
        best = min(float(of[k].sum()) for way, of in together.items() if way != "chosen")
        own = float(together["chosen"][k].sum())
        if own >= best:
            yield f"{kind}: the chosen points' errors sum to {own:.3f}, those of the better list to {best:.3f}"


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--points", type=int, default=8, help="of a list (default: 8)")
    flags.add_argument("--runs", type=int, default=3, help="of each point, and of each list (default: 3)")
    given = flags.parse_args()
    rows: list[dict[str, float | str]] = []
    all_of: dict[str, list[Values]] = {}
    for setting in SETTINGS:
        found = errors(setting, truth(setting, given.runs), given.points, given.runs)
        for way, of in found.items():
            rows.append(_row(setting.name, way, of))
            all_of.setdefault(way, []).append(of)
    together = {way: np.mean(of, axis=0) for way, of in all_of.items()}
    rows += [_row("all", way, of) for way, of in together.items()]
    print(table(rows))
    wrong = list(off(together))
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
