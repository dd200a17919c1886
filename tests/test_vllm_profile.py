"""Profiles of a real vLLM on the CPU: token counts equal its own, latencies agree with vLLM's own client."""

import re
import statistics
import subprocess
import time
from pathlib import Path

import pytest
import requests

from latency_profile import records
from latency_profile.records import Status
from latency_profile.statistics import binomial_ranks
from tests.servers.vllm_bench import BenchResult, bench_client
from tests.servers.vllm_server import MODEL
from tests.tool import benchmark, command, environment

pytestmark = pytest.mark.vllm

PAIRS = 5
TURNS = 8
INPUT, OUTPUT, REQUESTS = 128, 16, 1
PAUSE_S = 6.0
SETTLE_S = 0.5
TOLERANCE = 0.05


def counter(server: str, name: str) -> float:
    """A counter of the server, summed over its labels."""
    text = requests.get(f"{server}/metrics", timeout=30).text
    return sum(float(value) for value in re.findall(rf"^{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE))


def profile(server: str, folder: Path, *more: str) -> None:
    done = benchmark(
        f"--url={server}",
        f"--tokenizer={MODEL}",
        f"--output-dir={folder}",
        "--save-json-results",
        "--ignore-eos",
        "--temperature=0",
        *more,
        timeout=600,
    )
    assert done.returncode in (0, 4), done.stderr


@pytest.mark.parametrize("door", ["completions", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_tokens_equal_the_servers_own(vllm_server: str, tmp_path: Path, door: str, stream: bool) -> None:
    before = counter(vllm_server, "vllm:generation_tokens_total"), counter(vllm_server, "vllm:prompt_tokens_total")
    more = ["--stream-request"] if stream else []
    profile(
        vllm_server,
        tmp_path,
        f"--endpoint={door}",
        "--input-len=48",
        "--output-len=16",
        "--num-prompts=12",
        "--concurrencies=4",
        *more,
    )
    [path] = tmp_path.glob("*.records.npz")
    rows = records.load(path)
    assert (rows["status"] == Status.OK).all()
    assert (rows["output_tokens"] == 16).all()
    assert counter(vllm_server, "vllm:generation_tokens_total") - before[0] == rows["output_tokens"].sum()
    assert counter(vllm_server, "vllm:prompt_tokens_total") - before[1] == rows["server_input_tokens"].sum()
    if door == "completions":
        assert (rows["server_input_tokens"] == rows["input_tokens"]).all()
    if stream:
        tokens = [
            rows.event_tokens[a:b].sum() for a, b in zip(rows.event_start[:-1], rows.event_start[1:], strict=True)
        ]
        assert tokens == rows["output_tokens"].tolist()


def test_latencies_agree_with_vllms_own_client(vllm_server: str, tmp_path: Path) -> None:
    """Five alternating pairs at concurrency 1, without a prefix cache: the median ratio is not provably over 5 % off.

    A shared machine has two speeds that change every few seconds (a token takes 55 ms, or 90 while a neighbour uses
    the other half of the core), and starting a Python process slows it too. So both clients are started once; within
    a pair they take turns, request by request, theirs in the pauses between the points of one profile of ours, and
    each ratio is of two neighbours. What noise is left is in the interval of the median, which the test goes by.
    """
    ours = command(
        f"--url={vllm_server}",
        f"--tokenizer={MODEL}",
        f"--output-dir={tmp_path}",
        "--save-json-results",
        "--ignore-eos",
        "--temperature=0",
        "--stream-request",
        f"--input-len={INPUT}",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        f"--concurrencies={','.join(['1'] * PAIRS * TURNS)}",
        f"--sleep-seconds={PAUSE_S}",
    )
    theirs: list[BenchResult] = []
    with (
        bench_client(vllm_server, tmp_path / "bench.log") as client,
        subprocess.Popen(ours, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()) as run,
    ):
        assert run.stderr
        for line in run.stderr:
            if " ok, " in line:  # a point of ours has ended
                time.sleep(SETTLE_S)
                began = time.monotonic()
                theirs.append(
                    client.measure(input_tokens=INPUT, output_tokens=OUTPUT, requests=REQUESTS, seed=len(theirs))
                )
                assert time.monotonic() - began < PAUSE_S - SETTLE_S, "our next point has begun"
    points = sorted(map(records.load, tmp_path.glob("*.records.npz")), key=lambda point: point.context.point)
    assert len(points) == len(theirs) == PAIRS * TURNS
    turns = list(zip(points, theirs, strict=True))
    ttft = [ttft_ms(point) / bench.ttft_ms[0] for point, bench in turns]
    tpot = [tpot_ms(point) / bench.tpot_ms[0] for point, bench in turns]
    for name, ratios in (("TTFT", ttft), ("TPOT", tpot)):
        of_pairs = [statistics.median(ratios[pair * TURNS : (pair + 1) * TURNS]) for pair in range(PAIRS)]
        low_rank, high_rank = binomial_ranks(len(ratios), 0.5)
        assert low_rank is not None
        assert high_rank is not None
        low, high = sorted(ratios)[low_rank - 1], sorted(ratios)[high_rank - 1]
        print(
            f"{name}, ours / theirs: median of {PAIRS} pairs {statistics.median(of_pairs):.3f} "
            f"({', '.join(f'{ratio:.3f}' for ratio in of_pairs)}); of all turns {statistics.median(ratios):.3f}, "
            f"95 % interval {low:.3f} to {high:.3f}"
        )
        assert low < 1 + TOLERANCE, f"{name} is more than 5 % above vLLM's own"
        assert high > 1 - TOLERANCE, f"{name} is more than 5 % below vLLM's own"


def ttft_ms(point: records.Records) -> float:
    assert (point["status"] == Status.OK).all()
    return float((point["first_token_ns"] - point["sent_ns"])[0]) / 1e6


def tpot_ms(point: records.Records) -> float:
    assert (point["output_tokens"] == OUTPUT).all()
    return float((point["last_token_ns"] - point["first_token_ns"])[0]) / 1e6 / (OUTPUT - 1)
