"""Profiles of a real vLLM on the CPU: token counts equal its own, latencies agree with vLLM's own client."""

import re
import statistics
from pathlib import Path

import pytest
import requests

from latency_profile import records
from latency_profile.records import Status
from tests.servers.vllm_bench import bench_serve
from tests.servers.vllm_server import MODEL
from tests.tool import benchmark, only_point

pytestmark = pytest.mark.vllm

PAIRS = 5
INPUT, OUTPUT, REQUESTS = 128, 32, 12
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


def ours(server: str, folder: Path, seed: int) -> None:
    profile(
        server,
        folder,
        "--stream-request",
        f"--input-len={INPUT}",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--concurrencies=1",
        f"--seed={seed}",
    )


def test_latencies_agree_with_vllms_own_client(vllm_server: str, tmp_path: Path) -> None:
    """Five alternating pairs at concurrency 1, without a prefix cache: the median ratio is within 5 %."""
    ttft, tpot = [], []
    for pair in range(PAIRS):
        folder = tmp_path / str(pair)
        if pair % 2:  # who goes first alternates, so that a machine that slows down favours neither
            ours(vllm_server, folder, pair)
        theirs = bench_serve(
            vllm_server, tmp_path, input_tokens=INPUT, output_tokens=OUTPUT, requests=REQUESTS, seed=pair
        )
        if not pair % 2:
            ours(vllm_server, folder, pair)
        metrics = only_point(folder)["metrics"]
        assert theirs.completed == metrics["num_prompts_succeeded"] == REQUESTS
        assert theirs.total_output_tokens == metrics["total_output_token"]
        ttft.append(metrics["median_TTFT_ms"] / theirs.median_ttft_ms)
        tpot.append(metrics["median_TPOT_ms"] / theirs.median_tpot_ms)
        print(
            f"pair {pair}: TTFT {metrics['median_TTFT_ms']:.1f} / {theirs.median_ttft_ms:.1f} ms, "
            f"TPOT {metrics['median_TPOT_ms']:.2f} / {theirs.median_tpot_ms:.2f} ms"
        )
    print(f"median ratio of {PAIRS} pairs: TTFT {statistics.median(ttft):.3f}, TPOT {statistics.median(tpot):.3f}")
    assert statistics.median(ttft) == pytest.approx(1, abs=TOLERANCE)
    assert statistics.median(tpot) == pytest.approx(1, abs=TOLERANCE)
