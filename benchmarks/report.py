"""What a page costs: `python -m benchmarks.report` makes points of synthetic records (20 of 50,000 requests, 32 to 128
tokens each, unless flags say otherwise), and prints how long `latency-profile report` takes for them, the peak of its
memory, how large the page is, and how fast Chromium opens it. Making the points is not counted. Exit code 1 beyond the
limits below.
"""

import argparse
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.opening import opened, told
from latency_profile import results
from latency_profile.page.form import LIMIT_BYTES
from latency_profile.records import NONE, REQUEST_COLUMNS, PointContext, Records, Status, TokenSource
from latency_profile.telemetry.readings import Readings

SECOND = 1_000_000_000
RATE = 100.0  # requests/s
FAILED_SHARE = 0.01
LIMIT_S, LIMIT_MB = 20.0, 1000.0  # of 20 points; of more as much longer
LIMIT_OPENED_S = 2.0  # load event, and first screen


def synthetic(requests: int, seed: int) -> Records:
    """A point as a run would record it: Poisson arrivals, lognormal waits, tokens at their own pace, a few failures;
    the server tells of its queue and prefill, and its metrics were looked at once a second."""
    draw = np.random.default_rng(seed)
    due = np.cumsum(draw.exponential(SECOND / RATE, requests)).astype(np.int64)
    sent = due + (draw.exponential(1e5, requests)).astype(np.int64)
    queue = draw.lognormal(16.5, 0.8, requests).astype(np.int64)
    first = sent + queue + draw.lognormal(17.5, 0.2, requests).astype(np.int64)
    status = np.where(draw.random(requests) < FAILED_SHARE, Status.RESET, Status.OK)
    tokens = draw.integers(32, 129, requests)
    event_start = np.concatenate(([0], np.cumsum(tokens)))
    gaps = draw.gamma(20.0, 5e5, int(event_start[-1])).astype(np.int64)
    gaps[event_start[:-1]] = 0
    since = np.cumsum(gaps)
    event_ns = since - np.repeat(since[event_start[:-1]] - first, tokens)
    last = event_ns[event_start[1:] - 1]
    end = last + 100_000
    columns: dict[str, Any] = {
        "index": np.arange(requests),
        "due_ns": due,
        "sent_ns": sent,
        "send_ns": 20_000,
        "first_token_ns": first,
        "first_visible_ns": first,
        "last_token_ns": last,
        "end_ns": end,
        "input_tokens": draw.integers(16, 1024, requests),
        "wanted_tokens": tokens,
        "server_input_tokens": NONE,
        "cached_tokens": NONE,
        "output_tokens": np.where(status == Status.OK, tokens, NONE),
        "event_output_tokens": NONE,
        "text_tokens": NONE,
        "token_source": TokenSource.USAGE,
        "status": status,
        "http_status": 200,
        "read_delay_ns": 10_000,
        "answer_bytes": 10_000,
        "server_queue_ns": queue,
        "server_prefill_ns": np.maximum(first - sent - queue - 1_000_000, 0),
        "server_decode_ns": NONE,
        "server_total_ns": NONE,
    }
    filled = {
        name: np.broadcast_to(np.asarray(columns.get(name, 0)).astype(kind), requests).copy()
        for name, kind in REQUEST_COLUMNS.items()
    }
    measured = int(end.max())
    context = _context(requests, seed, measured, _looks(sent, end, measured))
    return Records(context, filled, event_start.astype(np.int64), event_ns, np.ones(len(event_ns), dtype=np.uint16))


def _looks(sent: NDArray[np.int64], end: NDArray[np.int64], measured: int) -> Readings:
    times = np.arange(0, measured, SECOND)
    running = np.searchsorted(np.sort(sent), times) - np.searchsorted(np.sort(end), times)
    return Readings(
        source="direct",
        start_s=0.0,
        end_s=measured / SECOND,
        names={},
        missing=[],
        replicas=[],
        models=["synthetic"],
        counters={},
        histograms={},
        times_s=(times / SECOND).tolist(),
        gauges={
            "running": running.astype(float).tolist(),
            "waiting": (running // 4).astype(float).tolist(),
            "kv_cache_use": np.minimum(running / 500, 1.0).tolist(),
        },
        totals={},
        at_least=None,
    )


def _context(requests: int, point: int, measured: int, looks: Readings) -> PointContext:
    return PointContext(
        settings={"file_prefix": "synthetic"},
        point=point,
        request_rate=RATE,
        concurrency=None,
        duration_s=requests / RATE,
        warmup_s=10.0,
        cooldown_s=0.0,
        models=["synthetic"],
        urls=["http://127.0.0.1:8000"],
        traffic_split=None,
        backend="vllm",
        endpoint="completions",
        streaming=True,
        tokenizer="bundled",
        date=f"20260101-{point:06d}",
        started_ns=1_767_225_600 * SECOND + point * 1_000 * SECOND,
        started_monotonic_ns=0,
        measured_ns=measured,
        nonce="synthetic",
        cut_short=None,
        client={},
        server_metrics={},
        provenance={},
        server_readings=[looks],
    )


def make(folder: Path, points: int, requests: int) -> None:
    for point in range(points):
        found = synthetic(requests, point)
        for name, data in results.point_files(found).items():
            (folder / name).write_bytes(data)
        found.save(folder / results.records_name(found.context))


def page(folder: Path, where: Path, points: int) -> bool:
    """Has the command make the page, and prints what that took. Whether it is within the limits."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "latency_profile", "report", str(folder), "-o", str(where)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_mb, size = used.ru_maxrss / 1024, where.stat().st_size  # the greatest child's, which may be the maker's
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.1f} s ({cpu_s:.1f} s of CPU), at most {peak_mb:.0f} MB at the peak, {size:,} bytes")
    return seconds <= LIMIT_S * max(1.0, points / 20) and peak_mb <= LIMIT_MB and size <= LIMIT_BYTES


def browsed(where: Path) -> bool:
    """Has Chromium open the page, and prints what that took. Whether it is within the limit."""
    found = opened(where)
    print(told(found))
    return max(found.load_s, found.first_screen_s) <= LIMIT_OPENED_S


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--points", type=int, default=20)
    flags.add_argument("--requests", type=int, default=50_000, help="of each point")
    given = flags.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "results"
        folder.mkdir()
        # By another process: a child's peak is never less than what its parent had when it was started.
        maker = multiprocessing.Process(target=make, args=(folder, given.points, given.requests))
        maker.start()
        maker.join()
        print(f"{given.points} points of {given.requests:,} requests", flush=True)
        where = Path(name) / "report.html"
        made = page(folder, where, given.points)
        return 0 if browsed(where) and made else 1


if __name__ == "__main__":
    sys.exit(main())
