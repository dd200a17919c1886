"""The search for the capacity, in virtual time, against an engine whose true capacity is known.

`python -m benchmarks.capacity` lets `capacity.search` find the capacity of five settings of the simulator's engine for
three sets of objectives each, `--runs` times with other seeds (no sockets, no waiting: the same seed gives the same
table on any machine). The truth comes from long simulations (`benchmarks/capacity_model.py`). Shown are in how many
runs the interval holds the truth (a run without an interval holds nothing), its relative width, how many probes it took
and how many request-seconds: the sum over the probes of rate × seconds, as far as each was sent.

These stand beside a grid of the same resolution: rates GRID_STEP apart over a factor of GRID_FACTOR (a user who knows
the capacity to within a factor of 1.4 to each side), so that its best answer, between two neighbours of the capacity,
is as wide as the search's interval may be; each for as many requests as tell a rate GRID_STEP from the capacity from it
(`capacity_model`). The search's own bracket, by doubling from far below, is among its request-seconds.

Exit code 1 outside of the limits below.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.capacity_model import GRID_STEP, OBJECTIVES, SETTINGS, TRUTH, Probe, Setting, Truth
from benchmarks.truth import table
from latency_profile.capacity import search
from latency_profile.capacity.structure import Capacity
from latency_profile.slo.grammar import parse
from latency_profile.slo.structure import Outcome

COVERAGE_LIMIT = 0.9
WIDTH_LIMIT = 0.06
SHARE_LIMIT = 1 / 3
GRID_FACTOR = 2.0
RATES_OF_GRID = math.ceil(math.log(GRID_FACTOR) / math.log1p(GRID_STEP))
HIGHEST = 100.0  # times the lowest rate: --max-rate
FIRST_LOOK = 50  # requests
BETWEEN_LOOKS = 1.3  # of the time until the last


def run(
    setting: Setting, objectives: Sequence[str], seed: int, told: Callable[[float], None] | None = None
) -> Capacity:
    """One search. told: hears the rate of each probe."""
    of = search.Search([parse(name) for name in objectives], setting.lowest, HIGHEST * setting.lowest)
    point = 0
    while not isinstance(asked := of.next(), Capacity):
        if told:
            told(asked.load)
        probe = Probe(setting, asked.load, asked.seconds, seed, point)
        now_s = min(asked.seconds, FIRST_LOOK / asked.load)
        while of.look(answers := probe.until(now_s)) is Outcome.UNRESOLVED and now_s < asked.seconds:
            now_s = min(asked.seconds, BETWEEN_LOOKS * now_s)
        of.told(answers)
        point += 1
    return asked


@dataclass(frozen=True)
class Study:
    """Searches of one setting and its objectives. Shape (runs,)."""

    held: list[bool]
    widths: list[float]  # relative; inf without an interval
    requests: list[float]
    probes: list[int]
    of_grid: float  # mean request-seconds, as a share of the grid's

    @property
    def ok(self) -> bool:
        narrow = float(np.median(self.widths)) <= WIDTH_LIMIT
        return sum(self.held) >= COVERAGE_LIMIT * len(self.held) and narrow and self.of_grid <= SHARE_LIMIT


def study(setting: Setting, objectives: Sequence[str], truth: Truth, seeds: Sequence[int], workers: int = 1) -> Study:
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(partial(run, setting, objectives), seeds))
    requests = [each.requests for each in found]
    return Study(
        held=[_holds(each, truth.capacity) for each in found],
        widths=[_width(each) for each in found],
        requests=requests,
        probes=[each.probes for each in found],
        of_grid=float(np.mean(requests)) / (RATES_OF_GRID * truth.requests),
    )


def _holds(found: Capacity, capacity: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= capacity <= found.high


def _width(found: Capacity) -> float:
    if found.low is None or found.high is None or found.estimate is None:
        return math.inf
    return (found.high - found.low) / found.estimate


def main() -> int:
    """Returns 1 where a figure is outside of its limit, else 0."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=100, help="of each setting and its objectives (default: 100)")
    flags.add_argument("--seed", type=int, default=0, help="of the first run (default: 0)")
    flags.add_argument(
        "--workers", type=int, default=1, help="processes (default: 1; the whole takes two hours of one)"
    )
    flags.add_argument("--setting", choices=SETTINGS, help="this one only")
    given = flags.parse_args()
    rows: list[dict[str, float | str]] = []
    bad = False
    for name, setting in SETTINGS.items():
        if given.setting not in (None, name):
            continue
        for objectives, truth in zip(OBJECTIVES[name], TRUTH[name], strict=True):
            found = study(setting, objectives, truth, range(given.seed, given.seed + given.runs), given.workers)
            bad |= not found.ok
            rows.append(
                {
                    "engine": name,
                    "objectives": ", ".join(objectives),
                    "truth, req/s": truth.capacity,
                    "holds it": f"{sum(found.held)} of {given.runs}",
                    "width p50": f"{np.median(found.widths):.1%}",
                    "within 6 %": f"{sum(width <= WIDTH_LIMIT for width in found.widths)} of {given.runs}",
                    "probes": float(np.mean(found.probes)),
                    "request-seconds": float(np.mean(found.requests)),
                    "of a grid's": f"{found.of_grid:.1%}",
                    "verdict": "ok" if found.ok else "outside",
                }
            )
            print(f"{name}, {', '.join(objectives)}: {rows[-1]['verdict']}", file=sys.stderr, flush=True)
    print(table(rows))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
