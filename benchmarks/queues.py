"""Queues behind the wire: M/M/1, M/D/1 and M/M/4 at utilization 0.3, 0.6 and 0.9.

`python -m benchmarks.queues` prints a table and exits with 1 where a line fails. Each line is one profile of an
lean server that is nothing but a queue (`--slot-ms`), and is judged twice:

- Request by request. The response time (from due) of each request is compared with the recursion on the actual plan
  and the service times that the server really gave: Lindley's for one slot (1952, The theory of queues with a single
  server), Kiefer and Wolfowitz's for several (1955, On the theory of queues with many servers). The p99 of the
  differences must stay within `--limit-ms`.
- In the mean. A run is finite and begins with an empty server, and its response times depend on each other. So the same
  run is drawn many times in virtual time, with gaps and services as the theory has them: in 99.9 % of those runs the
  mean lies within the interval that is shown, and the measured mean must lie in it too. That what is drawn is what the
  theory speaks of is checked against the formulas with the response of each drawn run's last request: those are
  independent, so that the interval of their mean is the plain one.

An interval by regenerative cycles would need no drawing, but says too much: at utilization 0.9, of 3,375 requests (some
350 cycles), it misses the mean of M/M/1 in one run of ten where it claims one in a thousand. A few cycles have most of
the waiting, and a run that met none of those does not know.
"""

import argparse
import heapq
import math
import sys
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth import LEAN_SERVER, NS_PER_MS, Run, lindley, measure, table
from latency_profile.records import Status

CONFIDENCE = 0.999
UTILIZATIONS = (0.3, 0.6, 0.9)
SERVICE_MS = 20.0
# A busier server takes longer to show its mean: seconds of a run by its utilization.
SECONDS = {0.3: 25.0, 0.6: 40.0, 0.9: 65.0}
DRAWN_RUNS = 5000  # five of them lie outside the 99.9 % interval
# Drawn runs this long have forgotten the empty server; shorter ones are not held against the formulas.
FORGOTTEN = 5.0  # relaxation times


@dataclass(frozen=True)
class Queue:
    """`servers` equal slots before one queue, Poisson arrivals."""

    name: str
    service: Literal["exponential", "fixed"]
    servers: int

    def rate(self, utilization: float, service_s: float) -> float:
        """Arrivals a second."""
        return utilization * self.servers / service_s

    def mean_response(self, utilization: float, service_s: float) -> float:
        """The steady state's, in s: Pollaczek and Khinchine's formula, Erlang's C for several slots."""
        if self.service == "fixed":
            assert self.servers == 1
            return service_s * (1 + utilization / (2 * (1 - utilization)))
        waits = erlang_c(self.servers, utilization)
        return service_s * (1 + waits / (self.servers * (1 - utilization)))

    def relaxation(self, utilization: float, service_s: float) -> float:
        """The time, in s, in which what is left of the beginning falls to 1/e, or less: that of M/M/1 (Cohen 1982, The
        single server queue, III.3.2), whose service varies most."""
        return service_s / self.servers / (1 - math.sqrt(utilization)) ** 2


QUEUES = (Queue("M/M/1", "exponential", 1), Queue("M/D/1", "fixed", 1), Queue("M/M/4", "exponential", 4))


def erlang_c(servers: int, utilization: float) -> float:
    """The share of arrivals that have to wait in M/M/c."""
    offered = servers * utilization
    all_busy = offered**servers / math.factorial(servers) / (1 - utilization)
    return all_busy / (sum(offered**k / math.factorial(k) for k in range(servers)) + all_busy)


def kiefer_wolfowitz(due_ns: NDArray[np.int64], service_ns: NDArray[np.int64], servers: int) -> NDArray[np.int64]:
    """Waits before `servers` slots, first come, first served: each request takes the slot that is free first."""
    free = [0] * servers
    waits = np.zeros(len(due_ns), dtype=np.int64)
    for k, (due, service) in enumerate(zip(due_ns.tolist(), service_ns.tolist(), strict=True)):
        start = max(due, free[0])
        heapq.heapreplace(free, start + service)
        waits[k] = start - due
    return waits


@dataclass(frozen=True)
class Drawn:
    """What the runs that were drawn came to, in s."""

    means: NDArray[np.float64]  # of each run's response times
    last: NDArray[np.float64]  # the response time of each run's last request


def draw(queue: Queue, utilization: float, service_s: float, requests: int, runs: int, seed: int) -> Drawn:
    """Runs of so many requests that begin with an empty server, all at once: one step a request."""
    rng = np.random.default_rng(seed)
    gap_s = 1 / queue.rate(utilization, service_s)
    # Kiefer and Wolfowitz's vector: how much work each slot still has at an arrival.
    left = np.zeros((runs, queue.servers))
    every = np.arange(runs)
    total = response = np.zeros(runs)
    for _ in range(requests):
        left -= rng.exponential(gap_s, runs)[:, None]
        np.maximum(left, 0, out=left)
        slot = left.argmin(axis=1)
        service = rng.exponential(service_s, runs) if queue.service == "exponential" else service_s
        left[every, slot] += service
        response = left[every, slot]
        total = total + response
    return Drawn(total / requests, response)


def responses_ns(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Response times from due, and the service times that the server gave, in the plan's order.

    The slots' timeline is in the log: an answer's one event is due when its service ends.
    """
    point, log, rows = run.records, run.log, run.rows
    if (point["status"] != Status.OK).any():
        raise RuntimeError(f"{int((point['status'] != Status.OK).sum())} requests failed")
    service = log.scheduled_ns[log.event_start[rows]] - log.started_ns[rows]
    return point["end_ns"] - point["due_ns"], service


def _server_late_ns(run: Run) -> NDArray[np.int64]:
    """How long after the end of its service each answer was written: the part of the error that is the server's own."""
    events = run.log.event_start[run.rows]
    return run.log.written_ns[events] - run.log.scheduled_ns[events]


def line(
    queue: Queue, utilization: float, *, seconds: float, limit_ms: float, runs: int = DRAWN_RUNS, seed: int = 0
) -> dict[str, float | str]:
    """One profile and what it came to, ms; `verdict` is "ok" or what failed."""
    service_s = SERVICE_MS / 1000
    rate = queue.rate(utilization, service_s)
    requests = round(rate * seconds)
    found = measure(
        [f"--slot-ms={SERVICE_MS}", f"--slots={queue.servers}", f"--service={queue.service}", f"--seed={seed}"],
        [f"--request-rate={rate}", f"--num-prompts={requests}", "--input-len=16", "--output-len=1", f"--seed={seed}"],
        LEAN_SERVER,
    )
    response, service = responses_ns(found)
    due = found.records["due_ns"]
    waits = lindley(due, service) if queue.servers == 1 else kiefer_wolfowitz(due, service, queue.servers)
    error = np.abs(response - waits - service) / NS_PER_MS
    drawn = draw(queue, utilization, service_s, requests, runs, seed)
    low, high = np.quantile(drawn.means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) * 1000
    measured = float(response.mean() / NS_PER_MS)
    theory = queue.mean_response(utilization, service_s)
    last, reach = float(drawn.last.mean()), _reach(drawn.last)
    forgotten = requests / rate >= FORGOTTEN * queue.relaxation(utilization, service_s)
    failures = [
        what
        for what, wrong in (
            ("not the recursion", np.percentile(error, 99) > limit_ms),
            ("mean outside", not low <= measured <= high),
            ("drawn otherwise than theory", forgotten and abs(last - theory) > reach),
        )
        if wrong
    ]
    return {
        "queue": queue.name,
        "utilization": utilization,
        "requests": requests,
        "error p50": float(np.percentile(error, 50)),
        "error p99": float(np.percentile(error, 99)),
        "sent late p99": float(np.percentile(found.records["sent_ns"] - due, 99) / NS_PER_MS),
        "server late p99": float(np.percentile(_server_late_ns(found), 99) / NS_PER_MS),
        "mean": measured,
        "99.9 % from": float(low),
        "to": float(high),
        "theory, steady": theory * 1000,
        "drawn, last": last * 1000,
        "± 99.9 %": reach * 1000,
        "verdict": ", ".join(failures) or "ok",
    }


def _reach(independent: NDArray[np.float64]) -> float:
    """Half the width of the interval of a mean of independent values (the central limit theorem's; there are many)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return z * float(independent.std(ddof=1)) / math.sqrt(len(independent))


def main() -> int:
    """Returns 1 where a line fails, else 0."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--share", type=float, default=1.0, help="of the full length of each run (default: 1)")
    flags.add_argument("--limit-ms", type=float, default=1.0, help="of the p99 of single errors (default: 1)")
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    lines = []
    for queue in QUEUES:
        for utilization in UTILIZATIONS:
            seconds = SECONDS[utilization] * given.share
            lines.append(line(queue, utilization, seconds=seconds, limit_ms=given.limit_ms, seed=given.seed))
            print(f"{queue.name} at {utilization}: {lines[-1]['verdict']}", file=sys.stderr, flush=True)
    print(f"Response time from due against theory, ms; service {SERVICE_MS:g} ms\n")
    print(table(lines))
    return int(any(found["verdict"] != "ok" for found in lines))


if __name__ == "__main__":
    sys.exit(main())
