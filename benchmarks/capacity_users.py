"""The search for the capacity in users of a closed loop, in virtual time, against engines whose truth is known.

`python -m benchmarks.capacity_users` lets `capacity.users` find how many users keep the objectives, `--runs` times with
other seeds, for the engines of `benchmarks/capacity_model.py`. Shown are in how many runs the interval holds the truth
(a run without an interval holds nothing), how wide it is in users, and how many probes and requests it took. `--truth`
finds the truths anew: the mean scores (`capacity.scores`) at the capacity and one user more, of so many requests each.

Exit code 1 where fewer than COVERAGE_LIMIT of the runs of a row hold the truth.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from benchmarks.capacity import COVERAGE_LIMIT
from benchmarks.capacity_model import SETTINGS, Setting, seconds_of
from benchmarks.truth import table
from latency_profile.capacity.scores import Answers, scores
from latency_profile.capacity.structure import Capacity
from latency_profile.capacity.users import UsersSearch
from latency_profile.plan import NS
from latency_profile.simulator.engine import Engine
from latency_profile.simulator.job import Job
from latency_profile.slo.grammar import parse
from latency_profile.slo.structure import Outcome

HIGHEST = 1024
FIRST_LOOK = 50  # requests that have ended
BETWEEN_LOOKS = 1.3
TRANSIENT = 0.02  # of the requests of a long run
NOT_YET = -1
# The most users that keep all. Limits lie between what these and one more come to.
TRUTH: dict[str, tuple[tuple[tuple[str, ...], int], ...]] = {
    "cpu-135m": (
        (("ttft:p99<354ms", "errors<1%"), 14),
        (("e2e:mean<1.43s", "errors<1%"), 14),
        (("ttft:p95<1.85s", "tpot:p90<110ms"), 31),
    ),
    "h100-8b": (
        (("ttft:p99<230ms", "errors<1%"), 29),
        (("e2e:mean<810ms", "errors<1%"), 43),
        (("ttft:p95<300ms", "tpot:p90<51.3ms"), 44),
    ),
    "a100-8b": (
        (("ttft:p99<294ms", "errors<1%"), 26),
        (("e2e:mean<1.104s", "errors<1%"), 36),
        (("ttft:p95<294ms", "tpot:p90<100ms"), 34),
    ),
    "few slots": (
        (("ttft:p99<387ms", "errors<1%"), 25),
        (("e2e:mean<300ms", "errors<1%"), 13),
        (("ttft:p95<160ms", "tpot:p90<13ms"), 16),
    ),
    "small cache": (
        (("ttft:p99<463ms", "errors<1%"), 22),
        (("e2e:mean<661ms", "errors<1%"), 17),
        (("ttft:p95<400ms", "tpot:p90<24.8ms"), 14),
    ),
}


class Users:
    """A closed loop that begins at once, each of its users asking again as soon as the answer has ended."""

    def __init__(self, setting: Setting, users: int, requests: int, seed: int, point: int) -> None:
        drawn = np.random.default_rng((seed, point))
        self._inputs = drawn.integers(setting.inputs[0], setting.inputs[1] + 1, requests).tolist()
        self._outputs: list[int] = drawn.integers(setting.outputs[0], setting.outputs[1] + 1, requests).tolist()
        self._left = self._outputs.copy()
        self._sent: list[int] = []
        self._first, self._end = ([NOT_YET] * requests for _ in range(2))
        self._engine = Engine(setting.engine, seed=int(drawn.integers(1 << 32)))
        self._requests, self.now_ns, self.ended = requests, 0, 0
        for _ in range(users):
            self._ask(0)

    def until_ended(self, number: int) -> Answers:
        """What a client has seen when so many requests have ended, or none is left."""
        while self.ended < number and (due := self._engine.next_due()) is not None:
            self.now_ns = due
            for job, at, _ in self._engine.run(due):
                key = job.key
                if self._first[key] == NOT_YET:
                    self._first[key] = at
                self._left[key] -= 1
                if not self._left[key]:
                    self._end[key] = at
                    self.ended += 1
                    self._ask(at)
        sent = len(self._sent)
        return Answers(
            now_s=self.now_ns / NS,
            due_s=np.array(self._sent) / NS,
            first_s=seconds_of(self._first[:sent]),
            end_s=seconds_of(self._end[:sent]),
            tokens=np.array(self._outputs[:sent], dtype=np.float64),
            failed=np.zeros(sent, dtype=np.bool_),
        )

    def _ask(self, at_ns: int) -> None:
        key = len(self._sent)
        if key < self._requests:
            self._sent.append(at_ns)
            self._engine.admit(Job(at_ns, self._inputs[key], self._outputs[key], key=key))


def run(setting: Setting, objectives: Sequence[str], seed: int) -> Capacity:
    """One search."""
    of = UsersSearch([parse(name) for name in objectives], 1, HIGHEST)
    point = 0
    while not isinstance(asked := of.next(), Capacity):
        assert asked.requests is not None
        probe = Users(setting, round(asked.load), asked.requests, seed, point)
        number: float = max(FIRST_LOOK, asked.load)
        while (
            of.running().look(answers := probe.until_ended(math.ceil(number))) is Outcome.UNRESOLVED
            and number < asked.requests
        ):
            number *= BETWEEN_LOOKS
        of.told(answers)
        point += 1
    return asked


def mean_scores(setting: Setting, objectives: Sequence[str], requests: int, users: int) -> list[float]:
    """Of a long run."""
    answers = Users(setting, users, requests, 1001, users).until_ended(requests)
    start_s = float(answers.due_s[int(TRANSIENT * requests)])
    found = (scores(answers, parse(name)).after(start_s) for name in objectives)
    return [float(of.sums.sum() / of.weights.sum()) for of in found]


def _truths(requests: int, workers: int) -> None:
    for name, rows in TRUTH.items():
        for objectives, users in rows:
            with ProcessPoolExecutor(workers) as pool:
                found = pool.map(partial(mean_scores, SETTINGS[name], objectives, requests), (users, users + 1))
            told = "; ".join(", ".join(f"{score:.4f}" for score in each) for each in found)
            print(f"{name}, {', '.join(objectives)}: {users} users and one more: {told}", flush=True)


def main() -> int:
    """Returns 1 where a row is outside of its limit, else 0."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=100, help="of each setting and its objectives (default: 100)")
    flags.add_argument("--seed", type=int, default=0, help="of the first run (default: 0)")
    flags.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    flags.add_argument("--truth", type=int, metavar="REQUESTS", help="the truths, of runs of so many requests")
    given = flags.parse_args()
    if given.truth:
        _truths(given.truth, given.workers)
        return 0
    rows: list[dict[str, float | str]] = []
    bad = False
    seeds = range(given.seed, given.seed + given.runs)
    for name, cases in TRUTH.items():
        for objectives, users in cases:
            with ProcessPoolExecutor(given.workers) as pool:
                found = list(pool.map(partial(run, SETTINGS[name], objectives), seeds))
            known = [(each.low, each.high) for each in found if each.low is not None and each.high is not None]
            held = sum(low <= users <= high for low, high in known)
            bad |= held < COVERAGE_LIMIT * given.runs
            rows.append(
                {
                    "engine": name,
                    "objectives": ", ".join(objectives),
                    "truth, users": users,
                    "holds it": f"{held} of {given.runs}",
                    "beyond low, p50": float(np.median([high - low for low, high in known])),
                    "width p90": f"{np.quantile([(high - low) / low for low, high in known], 0.9):.1%}",
                    "probes": float(np.mean([each.probes for each in found])),
                    "requests": float(np.mean([each.requests for each in found])),
                }
            )
            print(f"{name}, {', '.join(objectives)}: {held} of {given.runs}", file=sys.stderr, flush=True)
    print(table(rows))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
