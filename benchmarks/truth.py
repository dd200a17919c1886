"""This tool's numbers against what the server really did.

`python -m benchmarks.truth` prints two tables:
- 150 to 1,000 requests/s of 100 tokens against the lean server of known timing (TTFT 50 ms ± 20 %, a token every 10 ms
  ± 20 %): each percentile as the client has it, minus the same percentile of the server's own log, over the window; and
  how the arrivals at the server compare with the plan, in rate and coefficient of variation;
- a queue of one slot at two utilizations: each request's wait, minus Lindley's recursion on the plan
  (Lindley 1952, The theory of queues with a single server).
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_profile import measures, records
from latency_profile.records import Records
from latency_profile.simulator.log import TruthLog, read_log
from latency_profile.verdict import judge

ROOT = Path(__file__).parent.parent
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Run:
    """One point, as the client recorded it and as the server logged it, request for request."""

    records: Records
    log: TruthLog
    rows: NDArray[np.intp]  # the log's row of each record


SIMULATOR = "latency_profile.simulator"
LEAN_SERVER = "latency_profile.calibration.server"
WARMUP_S = 2  # the ramp: connections are opened, and most of them at once


@contextmanager
def simulator(*flags: str, module: str = SIMULATOR) -> Iterator[int]:
    """The embedded server on a free port; ends, and so writes its log, with the block."""
    command = [sys.executable, "-m", module, *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        line = server.stdout.readline()
        try:
            yield int(line.rpartition(":")[2])
        finally:
            server.send_signal(signal.SIGTERM)


def measure(
    server_flags: list[str],
    profile_flags: list[str],
    module: str = SIMULATOR,
    join: Callable[[], None] | None = None,
) -> Run:
    """Profiles one point of a server and joins both sides by request id. `join` is called in the client's process
    before it begins."""
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log.npz"
        with simulator(*server_flags, "--log", str(log_path), module=module) as port:
            command = [sys.executable, "benchmark_serving.py", f"--port={port}", "--host=127.0.0.1"]
            command += ["--tokenizer=bundled", "--stream-request", "--ignore-eos", "--save-json-results"]
            command += [f"--output-dir={folder}", *profile_flags]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=join)
            if done.returncode not in (0, 4):  # 4: the verdict; it is this table that judges here
                raise RuntimeError(done.stderr)
        [path] = Path(folder).glob("*.records.npz")
        point = records.load(path)
        log = read_log(log_path)
    prefix = f"{point.context.nonce}-{point.context.point}-"
    place = {name: row for row, name in enumerate(log.request_id.tolist())}
    return Run(point, log, np.array([place[f"{prefix}{index}"] for index in point["index"]]))


def measure_lean(rate: float, tokens: int, seconds: float, *more: str, join: Callable[[], None] | None = None) -> Run:
    """One point of `tokens` tokens a request against the lean server."""
    flags = [f"--request-rate={rate:g}", f"--benchmark-time-seconds={seconds:g}", "--input-len=32"]
    return measure([], [*flags, f"--output-len={tokens}", *more], LEAN_SERVER, join)


def tokens_row(rate: float, tokens: int, seconds: float, seed: int) -> dict[str, float | str]:
    """One run at `rate` requests/s: differences client - server in ms, and arrivals against the plan."""
    run = measure_lean(rate, tokens, seconds + WARMUP_S, f"--warmup-seconds={WARMUP_S}", f"--seed={seed}")
    point, log, rows = run.records, run.log, run.rows
    inside = measures.window(point).rows & (point["status"] == 0)
    starts = log.event_start[rows]
    truth_ttft = (log.written_ns[starts] - log.arrival_ns[rows])[inside]
    our_ttft = (point["first_token_ns"] - point["sent_ns"])[inside]
    answers = np.flatnonzero(inside)
    truth_itl = np.concatenate([np.diff(log.written_ns[starts[k] : log.event_start[rows[k] + 1]]) for k in answers])
    our_itl = np.concatenate([np.diff(point.event_ns[slice(*point.event_start[k : k + 2])]) for k in answers])
    arrivals, due = np.sort(log.arrival_ns[rows][inside]), np.sort(point["due_ns"][inside])
    late = (point["sent_ns"] - point["due_ns"])[inside]
    return {
        "requests/s": rate,
        "requests": len(answers),
        "TTFT p50": _difference(our_ttft, truth_ttft, 50),
        "TTFT p99": _difference(our_ttft, truth_ttft, 99),
        "ITL p50": _difference(our_itl, truth_itl, 50),
        "ITL p99": _difference(our_itl, truth_itl, 99),
        "lateness p99": float(np.percentile(late, 99) / NS_PER_MS),
        "rate / plan - 1, %": float(np.ptp(due) / np.ptp(arrivals) - 1) * 100,
        "CV": _variation(arrivals),
        "plan's CV": _variation(due),
        "CPU µs/event": point.context.client["cpu_s"] / len(point.event_ns) * 1e6,
        "verdict": judge(point).verdict.value,
    }


def _variation(times: NDArray[np.int64]) -> float:
    """Coefficient of variation of the gaps: of a Poisson process 1."""
    gaps = np.diff(times)
    return float(gaps.std() / gaps.mean())


def queue_row(utilization: float, service_ms: float, requests: int) -> dict[str, float]:
    """|measured wait - Lindley's|, ms: percentiles over the requests of one run."""
    rate = utilization * 1000 / service_ms
    run = measure(
        ["--slot-ms", f"{service_ms}"],
        [f"--request-rate={rate}", f"--num-prompts={requests}", "--input-len=16", "--output-len=1"],
        LEAN_SERVER,
    )
    point = run.records
    service_ns = service_ms * NS_PER_MS
    measured = point["end_ns"] - point["due_ns"] - service_ns
    error = np.abs(measured - lindley(point["due_ns"], service_ns)) / NS_PER_MS
    return {
        "utilization": utilization,
        "requests": len(point),
        "wait p50": float(np.percentile(measured, 50) / NS_PER_MS),
        "wait p99": float(np.percentile(measured, 99) / NS_PER_MS),
        "error p50": float(np.percentile(error, 50)),
        "error p99": float(np.percentile(error, 99)),
    }


def lindley(due_ns: NDArray[np.int64], service_ns: float | NDArray[np.int64]) -> NDArray[np.float64]:
    """Waits in a queue of one slot: W[k + 1] = max(0, W[k] + S[k] - (due[k + 1] - due[k])).

    service_ns: of all requests alike, or of each.
    """
    waits = np.zeros(len(due_ns))
    service = np.broadcast_to(service_ns, len(due_ns))
    for k in range(1, len(due_ns)):
        waits[k] = max(0.0, waits[k - 1] + service[k - 1] - (due_ns[k] - due_ns[k - 1]))
    return waits


def _difference(ours: NDArray[np.int64], truth: NDArray[np.int64], percent: float) -> float:
    return float((np.percentile(ours, percent) - np.percentile(truth, percent)) / NS_PER_MS)


def table(rows: Sequence[Mapping[str, float | str]]) -> str:
    """Rows of the same keys, as Markdown."""
    head = list(rows[0])
    cells = [[_cell(row[key]) for key in head] for row in rows]
    lines = [" | ".join(line) for line in (head, ["---"] * len(head), *cells)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=3)
    flags.add_argument("--rates", type=float, nargs="+", default=[150.0, 300.0, 600.0, 1000.0])
    flags.add_argument("--seconds", type=float, default=15)
    flags.add_argument("--no-queues", action="store_true", help="the first table only")
    given = flags.parse_args()
    print("client - server, ms\n")
    rows: list[dict[str, float | str]] = []
    for rate in given.rates:
        for seed in range(given.runs):
            rows.append(tokens_row(rate, 100, given.seconds, seed))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if given.no_queues:
        return
    print("\nwait against Lindley's recursion, ms\n")
    print(table([queue_row(utilization, 20, 500) for utilization in (0.5, 0.9) for _ in range(given.runs)]))


if __name__ == "__main__":
    main()
