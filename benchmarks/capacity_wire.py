"""The search for the capacity on the wire, against queues whose capacity a formula gives.

`python -m benchmarks.capacity_wire` lets `--find-capacity` search at a lean server that is nothing but a queue
(`--slot-ms`), as a user would, and holds the interval against the rate at which the steady state's response time is the
limit: the mean by the formulas of `benchmarks.queues`, and of M/M/1, whose response time is exponential, any percentile
(Kleinrock 1975, Queueing systems I, 3.2). What the wire takes, some tenths of a millisecond, is not taken off.

Exit code 1 where an interval does not hold the formula's rate; one in twenty may miss.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.queues import QUEUES, Queue
from benchmarks.truth import LEAN_SERVER, ROOT, simulator, table

SERVICE_MS = 5.0
UTILIZATION = 0.8  # at the capacity
PERCENTILE = 0.9
LOWEST, HIGHEST = 20, 640  # requests/s


def limit_ms(queue: Queue, level: float | None) -> float:
    """The response time at UTILIZATION in the steady state: its mean, or of M/M/1 its quantile at `level`."""
    mean_ms = 1000 * queue.mean_response(UTILIZATION, SERVICE_MS / 1000)
    return mean_ms if level is None else -math.log(1 - level) * mean_ms


def searched(queue: Queue, objective: str, max_duration: float, seed: int) -> dict[str, Any]:
    """The `capacity` of a profile that searched for it. Raises RuntimeError where there is none."""
    server = [f"--slot-ms={SERVICE_MS:g}", f"--slots={queue.servers}", f"--service={queue.service}", f"--seed={seed}"]
    with tempfile.TemporaryDirectory() as folder, simulator(*server, module=LEAN_SERVER) as port:
        command = [sys.executable, "benchmark_serving.py", "--host=127.0.0.1", f"--port={port}", "--tokenizer=bundled"]
        command += ["--input-len=16", "--output-len=1", "--ignore-eos", "--stream-request", "--find-capacity"]
        command += [f"--slo={objective}", f"--request-rate={LOWEST}", f"--max-rate={HIGHEST}", f"--seed={seed}"]
        command += [f"--max-duration={max_duration:g}", "--save-json-results", f"--output-dir={folder}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found = list(Path(folder).glob("*-profile-*.json"))
        if not found:
            raise RuntimeError(done.stderr)
        print(done.stdout.splitlines()[-1], file=sys.stderr, flush=True)
        capacity: dict[str, Any] = msgspec.json.decode(found[0].read_bytes())["capacity"]
    return capacity


def line(queue: Queue, level: float | None, max_duration: float, seed: int) -> dict[str, float | str]:
    statistic = "mean" if level is None else f"p{100 * level:g}"
    objective = f"e2e:{statistic}<{limit_ms(queue, level):.4g}ms"
    truth = queue.rate(UTILIZATION, SERVICE_MS / 1000)
    found = searched(queue, objective, max_duration, seed)
    low, high = found["low"], found["high"]
    held = low is not None and high is not None and low <= truth <= high
    return {
        "queue": queue.name,
        "objective": objective,
        "formula, req/s": truth,
        "found": _known(found["estimate"]),
        "from": _known(low),
        "to": _known(high),
        "width, %": _known(None if low is None or high is None else 100 * (high - low) / found["estimate"]),
        "probes": found["probes"],
        "requests": round(found["requests"]),
        "sent, s": found["seconds"],
        "ended": found["ended"],
        "holds it": "yes" if held else "no",
    }


def _known(value: float | None) -> float | str:
    return "none" if value is None else value


def main() -> int:
    """Returns 1 where an interval does not hold the formula's rate, else 0."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--max-duration", type=float, default=420.0, help="of each search, s (default: 420)")
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    of_name = {queue.name: queue for queue in QUEUES}
    asked = [("M/D/1", None), ("M/M/1", None), ("M/M/1", PERCENTILE)]
    lines = [line(of_name[name], level, given.max_duration, given.seed) for name, level in asked]
    print(table(lines))
    return int(any(found["holds it"] != "yes" for found in lines))


if __name__ == "__main__":
    sys.exit(main())
