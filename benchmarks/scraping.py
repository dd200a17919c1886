"""What it costs a measurement to read the server's metrics meanwhile: TTFT p99 with and without, at 20,000 tokens/s.

`python -m benchmarks.scraping`: points of one plan against the embedded server on a fixed timeline, in turn without
reading; with somebody else reading the server's /metrics once a second, which is what answering costs the server; with
this tool reading it; and, where Debian's `prometheus` is installed, with a Prometheus beside that scrapes it once a
second too and is asked at the point's end. Two estimates of what that changes: between points (Student's t over the
runs), and within them, where requests beside a look stand against all others (`benchmarks.looks`). Ends with 1 where
the 95 % interval of the first leaves out 0, or that of the second lies above what the points' own p99 is known to.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.looks import Change, change, mean_change
from latency_profile.outcome import Status
from latency_profile.records import NONE, Records, load
from latency_profile.statistics import mean_interval
from tests.servers.prometheus import prometheus
from tests.servers.simulator import simulator

TIMING = ("--fixed-timing", "20,5")  # ms to the first token, and between two
TOKENS = 64
NS = 1_000_000_000


@dataclass(frozen=True)
class Point:
    """One point's TTFT p99 with the ends of its interval, ms; None where the point does not resolve them."""

    p99: float
    low: float | None
    high: float | None
    verdict: str
    looks: int
    change: Change | None  # by the looks, within the point


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens-per-s", type=float, default=20_000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=5, help="of each kind, in turn")
    parser.add_argument("--kinds", help="only these, comma-separated; the first is what others are held against")
    wanted = parser.parse_args()
    kinds = ["none", "somebody else", "direct", *(["direct and Prometheus"] if shutil.which("prometheus") else [])]
    found: dict[str, list[Point]] = {}
    print("| read | run | TTFT p99, ms | 95 % interval | verdict | looks |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder, simulator(Path(folder), *TIMING) as server:
        for run in range(wanted.runs):
            for number, kind in enumerate(kinds if wanted.kinds is None else wanted.kinds.split(",")):
                place = Path(folder) / f"{run}-{number}"
                place.mkdir()
                rate = wanted.tokens_per_s / TOKENS
                with reading(kind, server.url, place) as flags:
                    point = measure(server.url, rate, wanted.seconds, place, flags)
                found.setdefault(kind, []).append(point)
                print(f"| {' | '.join(row(kind, run + 1, point))} |", flush=True)
    return judge(found)


@contextmanager
def reading(kind: str, url: str, folder: Path) -> Iterator[list[str]]:
    """Who reads the metrics meanwhile; gives the flags for it. Raises ValueError for a kind that does not exist."""
    with ExitStack() as over:
        if kind == "none":
            yield []
        elif kind == "somebody else":
            over.enter_context(somebody(f"{url}/metrics"))
            yield []
        elif kind == "direct":
            yield ["--scrape-server-metrics"]
        elif kind == "direct and Prometheus":
            there = over.enter_context(prometheus(folder / "prometheus", [urlsplit(url).port or 0], interval="1s"))
            yield ["--scrape-server-metrics", f"--prometheus-url={there}"]
        else:
            raise ValueError(f"no such kind: {kind}")


@contextmanager
def somebody(url: str) -> Iterator[None]:
    """Reads this once a second, and throws it away."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(1.0):
            urllib.request.urlopen(url).read()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(url: str, rate: float, seconds: float, folder: Path, flags: list[str]) -> Point:
    """One point, whatever its verdict. Raises ValueError where it left no result."""
    subprocess.run(
        [
            sys.executable, "benchmark_serving.py", f"--url={url}", "--tokenizer=bundled", "--input-len=32",
            f"--output-len={TOKENS}", "--ignore-eos", "--stream-request", f"--request-rate={rate}",
            f"--benchmark-time-seconds={seconds}", "--save-json-results", f"--output-dir={folder}", *flags,
        ],
        check=False, capture_output=True,
    )  # fmt: skip
    (path,) = folder.glob("*qps-*.json")
    point = json.loads(path.read_text())
    p99 = point["latency"]["service"]["ttft"]["p99"]
    (records_path,) = folder.glob("*.records.npz")
    records = load(records_path)
    looks = next((one.times_s for one in records.context.server_readings if one.source == "direct"), [])
    return Point(
        p99["value_s"] * 1e3,
        None if p99["low_s"] is None else p99["low_s"] * 1e3,
        None if p99["high_s"] is None else p99["high_s"] * 1e3,
        point["verdict"]["verdict"],
        len(looks),
        change_within(records, looks) if looks else None,
    )


def change_within(records: Records, looks_s: list[float]) -> Change:
    """Of all answers with a first token; looks at the edges of the point are among them."""
    done = (records["status"] == Status.OK) & (records["first_token_ns"] != NONE)
    due_ns, first_ns = records["due_ns"][done], records["first_token_ns"][done]
    return change(due_ns / NS, (first_ns - due_ns) / NS, looks_s, 0.99)


def row(kind: str, run: int, point: Point) -> list[str]:
    bounds = " to ".join("none" if end is None else f"{end:.3f}" for end in (point.low, point.high))
    return [kind, str(run), f"{point.p99:.3f}", bounds, point.verdict, str(point.looks)]


def judge(found: dict[str, list[Point]]) -> int:
    """Prints each kind's mean difference with its interval; 1 where one leaves out 0."""
    code = 0
    plain = found.pop(next(iter(found)))
    for kind, points in found.items():
        differences = np.array([point.p99 - other.p99 for point, other in zip(points, plain, strict=True)])
        mean = float(differences.mean())
        low, high = mean_interval(differences - mean, 1.0)
        within = mean + low <= 0 <= mean + high
        code |= not within
        print(
            f"{kind}: TTFT p99 {mean:+.3f} ms ({mean + low:+.3f} to {mean + high:+.3f}), of {plain[0].p99:.3f}: "
            f"{'no change beyond the interval' if within else 'A CHANGE'}"
        )
        code |= judge_within(kind, points)
    return code


def judge_within(kind: str, points: list[Point]) -> int:
    """Prints what the looks change within the points; 1 where that is beyond what their own p99 is known to."""
    changes = [point.change for point in points if point.change is not None]
    if not changes:
        return 0
    found_s, least_s, most_s = mean_change(changes)
    known = min((point.high - point.p99 for point in points if point.high is not None), default=None)
    beyond = known is not None and least_s * 1e3 > known
    own = "have no upper end" if known is None else f"end {known:.3f} ms above it or more"
    print(
        f"{kind}, beside the looks ({np.mean([one.beside for one in changes]):.1%} of the requests): TTFT p99 "
        f"{found_s * 1e3:+.3f} ms ({least_s * 1e3:+.3f} to {most_s * 1e3:+.3f}); the points' own intervals {own}: "
        f"{'BEYOND THEM' if beyond else 'within'}"
    )
    return int(beyond)


if __name__ == "__main__":
    sys.exit(main())
