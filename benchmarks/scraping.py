"""What it costs a measurement to read the server's metrics meanwhile: TTFT p99 with and without, at 20,000 tokens/s.

`python -m benchmarks.scraping`: points of one plan against the embedded server on a fixed timeline, in turn without
reading, with the server's own /metrics read once a second, and, where Debian's `prometheus` is installed, with a
Prometheus that scrapes it once a second and is asked at the point's end. The difference of TTFT p99 is set against the
95 % interval that one point gives it. Ends with 1 where the median difference lies beyond.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.servers.prometheus import prometheus
from tests.servers.simulator import simulator

TIMING = ("--fixed-timing", "20,5")  # ms to the first token, and between two
TOKENS = 64


@dataclass(frozen=True)
class Point:
    """One point's TTFT p99 with the ends of its interval, ms."""

    p99: float
    low: float
    high: float
    verdict: str
    looks: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens-per-s", type=float, default=20_000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=5, help="of each kind, in turn")
    wanted = parser.parse_args()
    found: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as over:
        server = over.enter_context(simulator(Path(folder), *TIMING))
        kinds = {"none": [], "direct": ["--scrape-server-metrics"]}
        if shutil.which("prometheus"):
            port = urlsplit(server.url).port or 0
            url = over.enter_context(prometheus(Path(folder) / "prometheus", [port], interval="1s"))
            kinds["direct and Prometheus"] = ["--scrape-server-metrics", f"--prometheus-url={url}"]
        for run in range(wanted.runs):
            for kind, flags in kinds.items():
                place = Path(folder) / f"{kind.split()[-1]}-{run}"
                place.mkdir()
                rate = wanted.tokens_per_s / TOKENS
                found.setdefault(kind, []).append(measure(server.url, rate, wanted.seconds, place, flags))
    print("| read | run | TTFT p99, ms | 95 % interval | verdict | looks |\n|---|---|---|---|---|---|")
    for row in rows(found):
        print(f"| {' | '.join(row)} |")
    return judge(found)


def measure(url: str, rate: float, seconds: float, folder: Path, flags: list[str]) -> Point:
    """One point. Raises CalledProcessError where it does not run."""
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
    if not p99["resolved"]:
        raise SystemExit("too few requests for an interval of p99: more --seconds or --tokens-per-s")
    looks = [reading["series"]["times_s"] for reading in point["server"]["readings"] if reading["source"] == "direct"]
    return Point(
        p99["value_s"] * 1e3,
        p99["low_s"] * 1e3,
        p99["high_s"] * 1e3,
        point["verdict"]["verdict"],
        len(looks[0]) if looks else 0,
    )


def rows(found: dict[str, list[Point]]) -> Iterator[list[str]]:
    for kind, points in found.items():
        for run, point in enumerate(points, 1):
            bounds = f"{point.low:.3f} to {point.high:.3f}"
            yield [kind, str(run), f"{point.p99:.3f}", bounds, point.verdict, str(point.looks)]


def judge(found: dict[str, list[Point]]) -> int:
    """Prints each kind's median difference against the interval's median half width; 1 where one is larger."""
    code = 0
    plain = found.pop("none")
    limit = statistics.median((point.high - point.low) / 2 for point in plain)
    for kind, points in found.items():
        differences = [point.p99 - other.p99 for point, other in zip(points, plain, strict=True)]
        middle = statistics.median(differences)
        within = abs(middle) <= limit
        code |= not within
        spread = f"{min(differences):+.3f} to {max(differences):+.3f}"
        print(
            f"{kind}: {middle:+.3f} ms ({spread}); the interval's half width is {limit:.3f} ms: "
            f"{'no change beyond it' if within else 'BEYOND IT'}"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
