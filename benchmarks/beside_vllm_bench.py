"""One profile, and `vllm bench serve` after each of its points at the same rate, on the same server; prints Markdown.

`python -m benchmarks.beside_vllm_bench --url URL --model NAME --tokenizer DIR --python PYTHON_WITH_VLLM --output DIR`:
ours is one run of `benchmark_serving.py` that pauses after each point, and theirs has the pause. Both send random
prompts that nobody sent before, at Poisson times; a rate of `inf` is a burst of --burst requests. Flags behind `--` go
to `benchmark_serving.py`. All is left in --output: our files, theirs, `comparison.json`, `comparison.md`.

Throughput is completed requests a second from the start of the plan to the last answer, as `vllm bench` has it. Two
draws of Poisson arrivals differ in how long they take: the ratio is of each client's rate divided by the rate at which
its requests were due. A percentile of both agrees where the 95 % interval of its difference holds 0, made of both
intervals: Zou and Donner, Statistics in Medicine 27 (2008) 1693, "MOVER". Ends with 1 where throughput is further apart
than 3 % at some rate.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.vllm_bench.client import BenchClient, BenchResult, bench_client
from latency_profile import records
from latency_profile.outcome import Status
from latency_profile.records import Records
from latency_profile.statistics import Percentile, Sample, describe

ROOT = Path(__file__).parents[1]
SETTLE_S = 1.0  # after our last answer, before theirs is sent
ROOM_S = 6.0  # of a pause, beyond what theirs is due to take
THROUGHPUT_LIMIT = 0.03
LEVELS = ("p50", "p90", "p99")


class Side(msgspec.Struct, frozen=True):
    """What one client found at one rate. offered: at which its requests were due, None of a burst."""

    requests: int
    completed: int
    offered_per_s: float | None
    requests_per_s: float
    output_tokens_per_s: float
    ttft: dict[str, Percentile]
    tpot: dict[str, Percentile]


class Pair(msgspec.Struct, frozen=True):
    """Both at one rate."""

    rate: str
    verdict: str
    ours: Side
    theirs: Side

    @property
    def throughput_ratio(self) -> float:
        """Ours to theirs, each by its own offered rate."""
        ours, theirs = (side.requests_per_s / (side.offered_per_s or 1.0) for side in (self.ours, self.theirs))
        return ours / theirs


def difference_ms(ours: Percentile, theirs: Percentile) -> tuple[float, float, float] | None:
    """Ours less theirs in ms, with the ends of its interval; None where one of them has none."""
    a, la, ua = ours.value_s, ours.low_s, ours.high_s
    b, lb, ub = theirs.value_s, theirs.low_s, theirs.high_s
    if a is None or la is None or ua is None or b is None or lb is None or ub is None:
        return None
    low, high = math.hypot(a - la, ub - b), math.hypot(ua - a, b - lb)
    return 1e3 * (a - b), 1e3 * (a - b - low), 1e3 * (a - b + high)


def of_records(point: Records) -> Side:
    """All requests of ours, as `vllm bench` takes all of its own."""
    done = point["status"] == Status.OK
    due, sent, end = (point[name][done] for name in ("due_ns", "sent_ns", "end_ns"))
    first, last, tokens = (point[name][done] for name in ("first_token_ns", "last_token_ns", "output_tokens"))
    span_s = float(end.max()) / 1e9
    order = np.argsort(due, kind="stable")
    burst = point.context.request_rate is None
    return Side(
        requests=len(done),
        completed=int(done.sum()),
        offered_per_s=None if burst else len(done) / (float(point["due_ns"].max()) / 1e9),
        requests_per_s=int(done.sum()) / span_s,
        output_tokens_per_s=float(tokens.sum()) / span_s,
        ttft=_percentiles((first - sent)[order]),
        tpot=_percentiles(((last - first) / np.maximum(1, tokens - 1.0))[order]),
    )


def of_bench(result: BenchResult, rate: float) -> Side:
    """Its own figures, with our intervals. Raises RuntimeError where a request failed: it has 0 among its latencies."""
    if result.completed < len(result.ttfts):
        raise RuntimeError(f"vllm bench: {len(result.ttfts) - result.completed} of {len(result.ttfts)} requests failed")
    return Side(
        requests=len(result.ttfts),
        completed=result.completed,
        offered_per_s=None if math.isinf(rate) else rate,
        requests_per_s=result.requests_per_s,
        output_tokens_per_s=result.total_output_tokens / result.duration,
        ttft=_percentiles(np.array(result.ttft_ms) * 1e6),
        tpot=_percentiles(np.array(result.tpot_ms) * 1e6),
    )


def _percentiles(values: np.ndarray) -> dict[str, Percentile]:
    found = describe(Sample(values))
    return {level: getattr(found, level) for level in LEVELS}


def measure(given: argparse.Namespace, rates: Sequence[float], client: BenchClient) -> list[BenchResult]:
    """Runs ours, and theirs in its pauses. Raises RuntimeError where theirs did not fit into one, or ours failed."""
    counts = [given.burst if math.isinf(rate) else max(1, round(rate * given.seconds)) for rate in rates]
    longest_s = max(given.seconds, given.burst_seconds if math.inf in rates else 0.0)
    pause_s = SETTLE_S + longest_s + given.answer_seconds + ROOM_S
    command = [
        *(sys.executable, str(ROOT / "benchmark_serving.py"), "--backend=vllm", "--endpoint=/v1/completions"),
        *(f"--url={given.url}", f"--models={given.model}", f"--tokenizer={given.tokenizer}", "--stream-request"),
        *("--ignore-eos", "--temperature=0", f"--input-len={given.input_len}", f"--output-len={given.output_len}"),
        *("--request-rates=" + ",".join(f"{rate:g}" for rate in rates), f"--sleep-seconds={pause_s:g}"),
        *(f"--benchmark-time-seconds={given.seconds:g}", f"--num-prompts={given.burst}"),
        *("--scrape-server-metrics", "--save-json-results"),
        *(f"--output-dir={given.output / 'ours'}", *given.flags),
    ]
    theirs: list[BenchResult] = []
    with (given.output / "profile.txt").open("w") as table, subprocess.Popen(
        command, stdout=table, stderr=subprocess.PIPE, text=True
    ) as ours:  # fmt: skip
        assert ours.stderr
        for line in ours.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            if " ok, " not in line:
                continue
            time.sleep(SETTLE_S)
            place = len(theirs)
            start_s = time.monotonic()
            theirs.append(
                client.measure(
                    input_tokens=given.input_len,
                    output_tokens=given.output_len,
                    requests=counts[place],
                    seed=given.seed + place,
                    rate=rates[place],
                )
            )
            took_s = time.monotonic() - start_s
            print(f"vllm bench at {rates[place]:g}: {theirs[-1].requests_per_s:.2f}/s", file=sys.stderr, flush=True)
            if took_s > pause_s - SETTLE_S and place + 1 < len(rates):
                ours.terminate()
                raise RuntimeError(f"vllm bench took {took_s:.0f} s, and the pause has {pause_s:.0f}: --answer-seconds")
    if ours.returncode not in (0, 4):
        raise RuntimeError(f"benchmark_serving.py ended with exit code {ours.returncode}")
    return theirs


def table(pairs: Sequence[Pair]) -> list[str]:
    """Two tables: throughput; latencies with the interval of their difference."""
    said = [
        "| req/s | requests | ours: req/s | vllm bench: req/s | ratio, each by its offered rate | output tokens/s | "
        "verdict of ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        ours, theirs = pair.ours, pair.theirs
        said.append(
            f"| {pair.rate} | {ours.completed} / {theirs.completed} | {ours.requests_per_s:.3f} | "
            f"{theirs.requests_per_s:.3f} | {pair.throughput_ratio:.3f} | {ours.output_tokens_per_s:,.0f} / "
            f"{theirs.output_tokens_per_s:,.0f} | {pair.verdict} |"
        )
    said += [
        "",
        "| req/s | latency | ours, ms | vllm bench, ms | ours less theirs, ms | agree |",
        "|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        for name in ("ttft", "tpot"):
            for level in LEVELS:
                ours, theirs = (getattr(side, name)[level] for side in (pair.ours, pair.theirs))
                apart = difference_ms(ours, theirs)
                if apart is None:
                    continue
                agrees = "yes" if apart[1] <= 0 <= apart[2] else "no"
                said.append(
                    f"| {pair.rate} | {name.upper()} {level} | {_shown(ours)} | {_shown(theirs)} | "
                    f"{apart[0]:+.2f} ({apart[1]:+.2f} to {apart[2]:+.2f}) | {agrees} |"
                )
    return said


def _shown(of: Percentile) -> str:
    assert of.value_s is not None
    assert of.low_s is not None
    assert of.high_s is not None
    return f"{1e3 * of.value_s:.2f} ({1e3 * of.low_s:.2f} to {1e3 * of.high_s:.2f})"


def _arguments() -> argparse.Namespace:
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True, help="as the server calls it")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the model's, a folder")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="one that has vLLM")
    parser.add_argument("--rates", default="2,4,8,16,32,inf")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a point of either (default: %(default)s)")
    parser.add_argument("--burst", type=int, default=1000, help="requests of an unlimited rate (default: %(default)s)")
    parser.add_argument("--burst-seconds", type=float, default=30.0, help="what a burst takes (default: %(default)s)")
    parser.add_argument("--answer-seconds", type=float, default=4.0, help="what an answer takes (default: %(default)s)")
    parser.add_argument("--input-len", type=int, default=512)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of vllm bench; the place of a rate is added")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(words[:at])
    given.flags = words[at + 1 :]
    return given


def main() -> int:
    given = _arguments()
    rates = [float(rate) for rate in given.rates.split(",")]
    given.output.mkdir(parents=True, exist_ok=True)
    log = given.output / "vllm-bench.log"
    with bench_client(given.url, log, given.python, given.model, given.tokenizer) as client:
        theirs = measure(given, rates, client)
    paths = sorted((given.output / "ours").glob("*.records.npz"))
    points = sorted(map(records.load, paths), key=lambda point: point.context.point)
    verdicts = _verdicts(given.output / "ours")
    pairs = [
        Pair(f"{rate:g}", verdict, of_records(point), of_bench(bench, rate))
        for rate, point, bench, verdict in zip(rates, points, theirs, verdicts, strict=True)
    ]
    lines = table(pairs)
    print("\n".join(lines))
    (given.output / "comparison.md").write_text("\n".join(lines) + "\n")
    (given.output / "comparison.json").write_bytes(msgspec.json.format(msgspec.json.encode(pairs), indent=1))
    (given.output / "vllm-bench.json").write_bytes(msgspec.json.encode(theirs))
    worst = max(pairs, key=lambda pair: abs(math.log(pair.throughput_ratio)))
    print(f"\nThroughput is furthest apart at {worst.rate}: {worst.throughput_ratio:.4f} times.")
    return int(abs(worst.throughput_ratio - 1) > THROUGHPUT_LIMIT)


def _verdicts(folder: Path) -> list[str]:
    """Of our points, in their order."""
    (path,) = folder.glob("*-profile-*.json")
    return [point["verdict"]["verdict"] for point in msgspec.json.decode(path.read_bytes())["points"]]


if __name__ == "__main__":
    sys.exit(main())
