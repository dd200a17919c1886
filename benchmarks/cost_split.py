"""The methods that split the cost of tokens, against an engine whose prefill and decode times are known.

`python -m benchmarks.cost_split` drives the simulator's engine in virtual time (no sockets, no waiting: the same seed
gives the same tables on any machine), with closed loops of requests of several shapes, and open ones. Of each step of
the engine the truth is: where it carries both, prefill has the time that its tokens add (p · tokens, or the floor), and
decode the rest, the step's fixed part with it, since without prompts the step would have been so long; a step without
any decode is all prefill's. Shown are:

- each method's error at each of some shapes, as prefill's share of the machines' time less the true one; `phases` is
  that of an offline engine: the same requests with one output token each, against the full run;
- of `--runs` runs of eight points of drawn shapes, in how many the regression's interval holds the true time of
  prefill (of the run: what its average prefill token costs), and in how many (run, point) pairs the true share;
- how many of a tenth as many runs of one shape are refused, and at how many points the range by gaps holds the truth,
  to within 0.01 (in open loop 0.03).

Exit code 1 outside of the limits below.
"""

import argparse
import itertools
import math
import random
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.truth import table
from latency_profile.cost import Estimate, Work, phases, work
from latency_profile.cost.regression import Fit, Refusal, regress
from latency_profile.cost.split import convention, gaps_share, measured_share
from latency_profile.records import Records
from latency_profile.simulator.engine import Engine, EngineProfile, Step
from latency_profile.simulator.job import Job
from latency_profile.simulator.profiles import PROFILES
from latency_profile.statistics import NS_PER_S
from tests.make_records import make_records

COVERAGE_LIMIT = 0.93
REFUSED_LIMIT = 1.0
RANGE_LIMIT = 0.95
# A request's way to the engine is prefill's to a client that sees only when it was in flight; most where few are.
RANGE_SLACK = 0.01
OPEN_RANGE_SLACK = 0.03
GAPS_LIMIT = 0.1  # greatest error of a share; the regression has intervals
POINTS = 8  # of a run
TURNS = 3  # requests of a point, by its concurrency
SHAPES = ((128, 128), (512, 128), (2048, 128), (1024, 64), (256, 512), (1500, 300), (300, 40), (700, 256))


class TimedEngine(Engine):
    """An engine that keeps how long it computed prompts and how long it decoded, ns, and in how many steps."""

    prefill_ns = 0.0
    decode_ns = 0.0
    decode_steps = 0

    def begin_step(self, start_ns: int) -> Step:
        step = super().begin_step(start_ns)
        decodes = context = tokens = 0
        for sequence, computed in step.work:
            if computed == 1 and sequence.job.generated:
                decodes += 1
                context += sequence.computed + 1
            else:
                tokens += computed
        profile, length = self.profile, step.end_ns - step.start_ns
        base = profile.step_ns + profile.sequence_ns * decodes + profile.context_ns * context
        added = max(profile.prefill_floor_ns, profile.prefill_token_ns * tokens) if tokens else 0.0
        share = added / (base + added) if decodes else 1.0
        self.prefill_ns += share * length
        self.decode_ns += (1 - share) * length
        self.decode_steps += decodes > 0
        return step


@dataclass(frozen=True)
class Shape:
    """Requests whose lengths are drawn evenly from half to three halves of these, in a closed loop; with a rate as many
    in an open one, as a Poisson process."""

    inputs: int
    outputs: int
    concurrency: int
    rate: float | None = None  # requests/s

    @property
    def requests(self) -> int:
        return TURNS * self.concurrency


@dataclass(frozen=True)
class Point:
    """A point that was simulated. Times in s."""

    work: Work
    inputs: int
    outputs: int
    prefill_s: float  # the truth
    decode_s: float

    @property
    def share(self) -> float:
        return self.prefill_s / (self.prefill_s + self.decode_s)


def simulate(profile: EngineProfile, shape: Shape, seed: int, only_prefill: bool = False) -> Point:
    """One loop, from an idle engine until its last answer."""
    found, engine = run(profile, shape, seed, only_prefill)
    done = work(found, None)
    assert done is not None
    return Point(
        work=done,
        inputs=int(found["input_tokens"].sum()),
        outputs=int(found["output_tokens"].sum()),
        prefill_s=engine.prefill_ns / NS_PER_S,
        decode_s=engine.decode_ns / NS_PER_S,
    )


def run(profile: EngineProfile, shape: Shape, seed: int, only_prefill: bool = False) -> tuple[Records, TimedEngine]:
    """Its records, as a client beside the engine would have them, and the engine with the truth."""
    rng = random.Random(seed)
    engine = TimedEngine(profile, seed)
    jobs: list[Job] = []
    tokens: dict[Job, list[int]] = {}

    def send(now_ns: int) -> None:
        inputs, outputs = (max(2, round(length * rng.uniform(0.5, 1.5))) for length in (shape.inputs, shape.outputs))
        job = Job(now_ns, inputs, 1 if only_prefill else outputs)
        jobs.append(job)
        tokens[job] = []
        engine.admit(job)

    coming = _arrivals(shape, rng)
    while True:
        due = engine.next_due()
        if coming and (due is None or coming[0] <= due):
            send(coming.popleft())
        elif due is None:
            return _records(jobs, tokens, shape), engine
        else:
            for job, due_ns, _ in engine.run(due):
                tokens[job].append(due_ns)
                if shape.rate is None and len(tokens[job]) == job.output_tokens and len(jobs) < shape.requests:
                    send(due_ns)


def _arrivals(shape: Shape, rng: random.Random) -> deque[int]:
    """When requests come by themselves, ns."""
    if shape.rate is None:
        return deque([0] * shape.concurrency)
    gaps = [rng.expovariate(shape.rate) for _ in range(shape.requests)]
    return deque(round(at * NS_PER_S) for at in itertools.accumulate(gaps))


def _records(jobs: Sequence[Job], tokens: Mapping[Job, Sequence[int]], shape: Shape) -> Records:
    """With vLLM's times of each request: prefill from scheduled to the first token, decode from there to the last."""
    return make_records(
        np.full(len(jobs), -1.0),
        np.array([job.arrival_ns for job in jobs]) / NS_PER_S,
        [[at / NS_PER_S for at in tokens[job]] for job in jobs],
        columns={
            "input_tokens": [job.prompt_tokens for job in jobs],
            "wanted_tokens": [job.output_tokens for job in jobs],
            "server_prefill_ns": [tokens[job][0] - job.started_ns for job in jobs],
            "server_decode_ns": [tokens[job][-1] - tokens[job][0] for job in jobs],
        },
        request_rate=shape.rate,
        concurrency=shape.concurrency if shape.rate is None else None,
        duration_s=None,
    )


@dataclass(frozen=True)
class Errors:
    """Of prefill's share, at one shape; the methods' own."""

    truth: float
    measured: float
    gaps: float
    gaps_range: tuple[float, float]
    regression: float
    interval: tuple[float, float]
    convention: float
    phases: float

    @property
    def held(self) -> bool:
        return self.interval[0] <= self.truth <= self.interval[1]


def errors(profile: EngineProfile, concurrency: int, seed: int = 0) -> dict[tuple[int, int], Errors]:
    """Each method at each of SHAPES. Raises RuntimeError where the regression is refused."""
    shapes = [Shape(*lengths, concurrency) for lengths in SHAPES]
    points = [simulate(profile, shape, seed + k) for k, shape in enumerate(shapes)]
    prefilled = [simulate(profile, shape, seed + k, only_prefill=True) for k, shape in enumerate(shapes)]
    fit = regress([point.work for point in points])
    if isinstance(fit, Refusal):
        raise RuntimeError(fit.reason)
    found = {}
    for lengths, point, first in zip(SHAPES, points, prefilled, strict=True):
        measured, gaps = measured_share(point.work), gaps_share(point.work)
        share = fit.prefill_share(point.work)
        fixed = convention(1.0, point.inputs, point.outputs).prefill_share
        offline = phases(1.0, first.work.busy_s, point.work.busy_s, point.inputs, point.outputs).prefill_share
        assert isinstance(measured, Estimate) and isinstance(gaps, Estimate) and fixed and offline
        found[lengths] = Errors(
            truth=point.share,
            measured=measured.value - point.share,
            gaps=gaps.value - point.share,
            regression=share.value - point.share,
            gaps_range=_ends(gaps),
            interval=_ends(share),
            convention=fixed.value - point.share,
            phases=offline.value - point.share,
        )
    return found


@dataclass(frozen=True)
class Law:
    """How the points of a run are drawn. loads: of open loops, in requests/s of a closed loop of the concurrency."""

    name: str
    engine: str
    concurrencies: tuple[int, ...]
    loads: tuple[float, float] | None = None

    @property
    def range_slack(self) -> float:
        return RANGE_SLACK if self.loads is None else OPEN_RANGE_SLACK


LAWS = (
    Law("one concurrency", "h100-8b", (32,)),
    Law("batches that differ", "h100-8b", (8, 16, 32)),
    Law("on a CPU", "cpu-135m", (8,)),
    Law("open loop", "h100-8b", (16,), (0.1, 0.9)),
)


def draw(law: Law, rng: random.Random, one_shape: bool = False) -> list[Point]:
    """The points of one run: lengths evenly on a logarithmic scale."""

    def shape() -> Shape:
        inputs, outputs = (round(math.exp(rng.uniform(*map(math.log, of)))) for of in ((64, 1300), (16, 200)))
        return Shape(inputs, outputs, rng.choice(law.concurrencies))

    shapes = [shape() for _ in range(POINTS)]
    if one_shape:
        shapes = [replace(shapes[0], concurrency=each.concurrency) for each in shapes]
    profile = PROFILES[law.engine]
    if law.loads is not None:
        shapes = [replace(each, rate=rng.uniform(*law.loads) * _most(profile, each)) for each in shapes]
    return [simulate(profile, each, rng.getrandbits(32)) for each in shapes]


def _most(profile: EngineProfile, shape: Shape) -> float:
    """Requests/s of its closed loop."""
    return shape.requests / simulate(profile, shape, seed=0).work.busy_s


@dataclass(frozen=True)
class Coverage:
    """Shares of the runs (of their points) in which an interval held the truth; refused ones are in neither."""

    runs: int
    refused: int
    prefill: float
    share: float
    error_p50: float
    error_p99: float
    width_p50: float
    gaps: float  # of the range by gaps


def together(parts: Sequence[Work]) -> Work:
    """The work of points, one after the other."""
    sums = {name: sum(getattr(part, name) or 0 for part in parts) for name in Work.__struct_fields__}
    return Work(**sums)


def coverage(law: Law, runs: int, seed: int = 0) -> Coverage:
    rng = random.Random(seed)
    held: list[bool] = []
    shares: list[bool] = []
    ranges: list[bool] = []
    off: list[float] = []
    widths: list[float] = []
    refused = 0
    for _ in range(runs):
        points = draw(law, rng)
        fit = regress([point.work for point in points])
        if not isinstance(fit, Fit):
            refused += 1
            continue
        low, high = _ends(fit.prefill_s(together([point.work for point in points])))
        held.append(low <= sum(point.prefill_s for point in points) <= high)
        for point in points:
            found = fit.prefill_share(point.work)
            low, high = _ends(found)
            shares.append(low <= point.share <= high)
            off.append(abs(found.value - point.share))
            widths.append(high - low)
            gaps = gaps_share(point.work)
            if isinstance(gaps, Estimate):
                low, high = _ends(gaps)
                ranges.append(low - law.range_slack <= point.share <= high + law.range_slack)
    return Coverage(
        runs=runs,
        refused=refused,
        prefill=sum(held) / max(1, len(held)),
        share=sum(shares) / max(1, len(shares)),
        error_p50=float(np.quantile(off, 0.5)),
        error_p99=float(np.quantile(off, 0.99)),
        width_p50=float(np.quantile(widths, 0.5)),
        gaps=sum(ranges) / max(1, len(ranges)),
    )


def _ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None and found.high is not None
    return found.low, found.high


def refusals(law: Law, runs: int, seed: int = 0) -> float:
    """Share of the runs of one shape that are refused."""
    rng = random.Random(seed)
    found = [regress([point.work for point in draw(law, rng, one_shape=True)]) for _ in range(runs)]
    return sum(isinstance(each, Refusal) for each in found) / runs


def main() -> int:
    """Returns 1 where a figure is outside of its limit, else 0."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=200, help="of each law (default: 200)")
    flags.add_argument("--seed", type=int, default=1)
    given = flags.parse_args()
    bad = False
    for name, concurrency in (("h100-8b", 64), ("a100-8b", 64), ("cpu-135m", 8)):
        found = errors(PROFILES[name], concurrency, given.seed)
        bad |= any(abs(each.gaps) > GAPS_LIMIT for each in found.values())
        print(f"{name}, {concurrency} in flight: prefill's share of machine time, and each method's error\n")
        print(table([_row(lengths, each) for lengths, each in found.items()]), flush=True)
    rows: list[dict[str, float | str]] = []
    for law in LAWS:
        of = coverage(law, given.runs, given.seed)
        few = refusals(law, max(1, given.runs // 10), given.seed)
        failed = min(of.prefill, of.share) < COVERAGE_LIMIT or of.gaps < RANGE_LIMIT or few < REFUSED_LIMIT
        bad |= failed
        rows.append(
            {
                "points": law.name,
                "engine": law.engine,
                "runs": of.runs,
                "refused": of.refused,
                "holds prefill": of.prefill,
                "holds the share": of.share,
                "error p50": of.error_p50,
                "error p99": of.error_p99,
                "width p50": of.width_p50,
                "one shape refused": few,
                "range of gaps holds": of.gaps,
                "verdict": "outside" if failed else "ok",
            }
        )
        print(f"{law.name}: {rows[-1]['verdict']}", file=sys.stderr, flush=True)
    print(f"\nThe regression over {POINTS} points of drawn shapes\n")
    print(table(rows))
    return int(bad)


def _row(lengths: tuple[int, int], found: Errors) -> dict[str, float | str]:
    return {
        "in/out": "/".join(map(str, lengths)),
        "truth": found.truth,
        "measured": found.measured,
        "gaps": found.gaps,
        "its range": _told(found.gaps_range),
        "regression": found.regression,
        "its interval": _told(found.interval),
        "1:4": found.convention,
        "phases": found.phases,
    }


def _told(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


if __name__ == "__main__":
    sys.exit(main())
