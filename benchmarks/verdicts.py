"""Whether the verdict is right: `python -m benchmarks.verdicts --runs 10`.

Each run is one point, at 300 requests/s of 100 tokens, against the lean server of known timing: alone, with processes
beside it that do nothing but compute, and with the client under a CPU quota. Its verdict is held against what the
server's log shows. A point is bent by its client where one of these is over the limit that the verdict states:

- lateness, p99: when the server's kernel had the request, less when the plan wanted it there;
- TTFT, p50 and p99: the client's percentile, less the same percentile of the truth;
- events: the share that is stamped more than 1 ms after the server had written it.

The truth about an event is itself only known to lie between the stamps before and after its write: on a busy machine
the server loses its CPU between the two. Where the client's stamp lies between them, it is taken to be right; one that
lies outside is as wrong as it is away from the nearer one. What the server was late for, it says, and is no error.

Exit code 1 where any verdict was wrong. A scenario that this machine does not allow is named and left out.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.limits import NoLimits, cpu_limited
from benchmarks.truth import NS_PER_MS, Run, measure_lean, table
from latency_profile import measures
from latency_profile.answer_tokens import LATE_READ_NS
from latency_profile.client_health import client_health
from latency_profile.verdict import Kind, judge
from latency_profile.verdict.client import LATENESS_P99_LIMIT_MS, MERGED_SHARE_LIMIT, TTFT_ERROR_LIMIT_MS

RATE = 300
TOKENS = 100
QUOTA_CORES = 0.2
_SPIN = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"  # so that none outlives this process


class Scenario(NamedTuple):
    name: str
    busy: int = 0  # processes that compute beside it
    cores: float | None = None  # what the client may use


SCENARIOS = (
    Scenario("alone"),
    Scenario("1 busy", busy=1),
    Scenario("2 busy", busy=2),
    Scenario("4 busy", busy=4),
    Scenario(f"{QUOTA_CORES} cores", cores=QUOTA_CORES),
)


class Truth(NamedTuple):
    """Errors of the client, ms."""

    lateness_p99: float
    ttft_p50: float
    ttft_p99: float
    events_off: float = 0.0  # share of the events whose stamp is wrong by more than 1 ms

    @property
    def bent(self) -> bool:
        """Whether one of them is over the limit that the verdict states."""
        return (
            self.lateness_p99 > LATENESS_P99_LIMIT_MS
            or max(abs(self.ttft_p50), abs(self.ttft_p99)) > TTFT_ERROR_LIMIT_MS
            or self.events_off > MERGED_SHARE_LIMIT
        )


@contextmanager
def beside(number: int) -> Iterator[None]:
    """So many processes that never rest."""
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(number)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def measure(scenario: Scenario, seconds: float, seed: int) -> Run:
    """One point of the scenario, as the client recorded it and as the server logged it. Raises NoLimits."""
    with ExitStack() as stack:
        join = None if scenario.cores is None else stack.enter_context(cpu_limited(scenario.cores))
        stack.enter_context(beside(scenario.busy))
        return measure_lean(RATE, TOKENS, seconds, f"--seed={seed}", join=join)


def truth(run: Run) -> Truth:
    """The client's errors over the measured window, by the log."""
    point, log, rows = run.records, run.log, run.rows
    measured = measures.window(point).rows & (point["first_token_ns"] >= 0)
    start = point.context.started_monotonic_ns
    arrival = log.arrival_ns[rows] - start
    first = log.event_start[rows]
    before, after = log.written_ns[first] - start, log.wrote_ns[first] - start
    nearest = np.clip(point["first_token_ns"], before, after)
    ours, true = point["first_token_ns"] - point["sent_ns"], nearest - arrival
    return Truth(
        lateness_p99=_percentile((arrival - point["due_ns"])[measured], 99),
        ttft_p50=_percentile(ours[measured], 50) - _percentile(true[measured], 50),
        ttft_p99=_percentile(ours[measured], 99) - _percentile(true[measured], 99),
        events_off=_events_off(run, np.flatnonzero(measured), start),
    )


def _events_off(run: Run, chosen: NDArray[np.intp], start: int) -> float:
    """Of answers that came whole: the share of their events that are stamped too late by LATE_READ_NS or more."""
    point, log, off, events = run.records, run.log, 0, 0
    for row in chosen:
        ours = point.event_ns[point.event_start[row] : point.event_start[row + 1]] + start
        place = slice(log.event_start[run.rows[row]], log.event_start[run.rows[row] + 1])
        if len(ours) == len(log.wrote_ns[place]):
            off += int((ours - log.wrote_ns[place] > LATE_READ_NS).sum())
            events += len(ours)
    return off / events if events else 0.0


def row(scenario: Scenario, run: Run) -> dict[str, float | str]:
    """One line of the table; times in ms."""
    point = run.records
    known, found = truth(run), judge(point)
    health = client_health(point, measures.window(point))
    lateness = measures.lateness_ns(point, measures.window(point).rows)
    return {
        "scenario": scenario.name,
        "lateness p99, log": known.lateness_p99,
        "client": _percentile(lateness, 99),
        "TTFT p50 error, log": known.ttft_p50,
        "TTFT p99 error, log": known.ttft_p99,
        "client's estimate": (health.ttft_error_p99_s or 0.0) * 1e3,
        "events off, log": f"{known.events_off:.2%}",
        "client's count": f"{health.merged_events_share or 0:.2%}",
        "bent": "yes" if known.bent else "no",
        "verdict": found.verdict.value,
        "right": "yes" if right(known, found.verdict) else "NO",
    }


def right(known: Truth, verdict: Kind) -> bool:
    return known.bent == (verdict is Kind.CLIENT_LIMITED)


def _percentile(values: NDArray[np.int64], percent: float) -> float:
    return float(np.percentile(values, percent) / NS_PER_MS)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=10, help="of each scenario")
    flags.add_argument("--seconds", type=float, default=10)
    flags.add_argument("--scenarios", nargs="+", default=[scenario.name for scenario in SCENARIOS])
    flags.add_argument("--reasons", action="store_true", help="print each verdict's reasons too")
    given = flags.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the blocks that end what was started
    rows = []
    for scenario in SCENARIOS:
        if scenario.name not in given.scenarios:
            continue
        try:
            for number in range(given.runs):
                run = measure(scenario, given.seconds, seed=number)
                rows.append(row(scenario, run))
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
                if given.reasons:
                    print("\n".join(judge(run.records).reasons))
        except NoLimits as error:
            print(f"left out: {scenario.name}: {error}")
    if rows:
        print(table(rows))
    wrong = sum(line["right"] == "NO" for line in rows)
    print(f"\n{len(rows)} verdicts, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
