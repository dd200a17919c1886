"""The server of known timing, and what its log says about a run."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.tool import ROOT
from latency_profile.simulator.log import Finish, TruthLog, read_log

TTFT_MS, ITL_MS, JITTER = 50, 10, 0.2
_STOP_WITHIN_S = 30


@dataclass(frozen=True)
class Truth:
    """Of all requests that arrived and were answered to their end. Times of arrival are the kernel's."""

    answered: int
    arrived: int
    first_arrival_ns: int  # CLOCK_MONOTONIC
    ttft_p50_ms: float  # arrival to just before the write of the first token
    ttft_p99_ms: float
    requests_per_s: float  # from the first arrival to the last
    variation: float  # coefficient of variation of the gaps between arrivals
    events: int
    write_late_p99_ms: float  # the server's own lateness, which is in the truth


@contextmanager
def server(log: Path) -> Iterator[str]:
    """Its URL, on a free port; ends, and so writes its log, with the block. RuntimeError where it does not start."""
    command = [sys.executable, "-m", "latency_profile.calibration.server", "--log", str(log)]
    command += ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS), "--jitter", str(JITTER)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError("the server of known timing did not start")
        try:
            yield line.removeprefix("listening on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def read_truth(path: Path) -> Truth | None:
    """None where fewer than three requests were answered. ValueError where it is no log."""
    return truth_of(read_log(path))


def truth_of(log: TruthLog) -> Truth | None:
    """As above, of a log that has been read."""
    whole = (log.finish == Finish.LENGTH) & (np.diff(log.event_start) > 0)
    if whole.sum() < 3:
        return None
    ttft_ms = (log.written_ns[log.event_start[:-1][whole]] - log.arrival_ns[whole]) / 1e6
    arrivals = np.sort(log.arrival_ns)
    gaps = np.diff(arrivals)
    return Truth(
        answered=int(whole.sum()),
        arrived=len(log),
        first_arrival_ns=int(arrivals[0]),
        ttft_p50_ms=float(np.percentile(ttft_ms, 50)),
        ttft_p99_ms=float(np.percentile(ttft_ms, 99)),
        requests_per_s=len(gaps) / (float(gaps.sum()) / 1e9),
        variation=float(gaps.std() / gaps.mean()),
        events=len(log.written_ns),
        write_late_p99_ms=float(np.percentile(log.written_ns - log.scheduled_ns, 99) / 1e6),
    )
