"""What a run costs its machine: `python -m benchmarks.footprint` prints

- the time from the command to the first request's arrival at the server, with a cached data set (best of five);
- the memory of all the run's processes together, over one run of 100,000 requests (proportional set size, the peak).
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.truth import ROOT, simulator
from latency_profile.simulator.log import read_log

LOOK_S = 0.25
CONVERSATIONS = 5000


def write_dataset(path: Path) -> None:
    """A ShareGPT-like file of a few MB."""
    words = ["time", "year", "people", "way", "day", "man", "thing", "life", "child", "world", "school", "state"]
    draw = random.Random(0)
    text = [" ".join(draw.choices(words, k=draw.randrange(20, 300))) for _ in range(2 * CONVERSATIONS)]
    turns = zip(text[::2], text[1::2], strict=True)
    path.write_text(json.dumps([{"conversations": [{"value": a}, {"value": b}]} for a, b in turns]))


def time_to_first_request() -> float:
    """Seconds from the start of the command until the server had its first request."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data.json")
        best = float("inf")
        for attempt in range(6):
            log = folder / f"log-{attempt}.npz"
            with simulator("--fixed-timing", "5,1", "--log", str(log)) as port:
                command = [sys.executable, "benchmark_serving.py", "--host=127.0.0.1", f"--port={port}"]
                command += ["--tokenizer=bundled", f"--dataset={folder / 'data.json'}", "--num-prompts=200"]
                command += [f"--cache-dir={folder / 'cache'}", "--stream-request"]
                began = time.monotonic_ns()
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                if done.returncode not in (0, 4):
                    raise RuntimeError(done.stderr)
            if attempt:  # the first one fills the cache
                best = min(best, (int(read_log(log).arrival_ns.min()) - began) / 1e9)
        return best


def peak_memory_mb(requests: int) -> tuple[float, dict[str, float]]:
    """The peak of all processes of one run together, and each one's own peak, MB."""
    peak, peaks = 0.0, dict[str, float]()
    with tempfile.TemporaryDirectory() as name, simulator("--fixed-timing", "5,1") as port:
        command = [sys.executable, "benchmark_serving.py", "--host=127.0.0.1", f"--port={port}", "--save-json-results"]
        command += ["--tokenizer=bundled", "--input-len=32", "--output-len=8", "--ignore-eos", "--stream-request"]
        command += [f"--num-prompts={requests}", "--request-rate=1000", f"--output-dir={name}", "--workers=2"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
            while run.poll() is None:
                now = {who: _pss_mb(pid) for who, pid in _family(run.pid)}
                peak = max(peak, sum(now.values()))
                for who, size in now.items():
                    peaks[who] = max(peaks.get(who, 0.0), size)
                time.sleep(LOOK_S)
            assert run.stdout
            print(run.stdout.read())
    return peak, peaks


def _family(parent: int) -> list[tuple[str, int]]:
    """The process and its children."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        pids = [int(pid) for pid in children.read_text().split()]
    except OSError:
        pids = []
    return [("profile", parent), *((f"sender {number}", pid) for number, pid in enumerate(pids))]


def _pss_mb(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass  # it has just ended
    return 0.0


def main() -> None:
    print(f"machine: {os.cpu_count()} cores")
    print(f"first request: {time_to_first_request():.2f} s after the command")
    peak, peaks = peak_memory_mb(100_000)
    print(f"100,000 requests: {peak:.0f} MB at the peak, all processes together; each alone:")
    for who, size in sorted(peaks.items()):
        print(f"  {who}: {size:.0f} MB")


if __name__ == "__main__":
    main()
