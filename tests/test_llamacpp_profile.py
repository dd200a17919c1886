"""Profiles of a real llama.cpp server: token counts equal its own usage, streaming and not, by both doors."""

import re
from pathlib import Path

import pytest
import requests

from latency_profile import records
from latency_profile.records import Status
from tests.tool import benchmark, only_point

REQUESTS = 8
OUTPUT = 12


def generated(server: str) -> float:
    """Tokens that the server says it has generated so far."""
    text = requests.get(f"{server}/metrics", timeout=30).text
    found = re.search(r"^llamacpp:tokens_predicted_total (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize("door", ["completions", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_tokens_equal_the_servers_own(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path, door: str, stream: bool
) -> None:
    before = generated(llamacpp_server)
    done = benchmark(
        f"--url={llamacpp_server}",
        "--backend=openai",
        f"--endpoint={door}",
        f"--tokenizer={smollm2_tokenizer}",
        "--input-len=40",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--concurrencies=2",
        "--save-json-results",
        f"--output-dir={tmp_path}",
        '--extra-body={"ignore_eos": true, "cache_prompt": false}',
        *(["--stream-request"] if stream else []),
        timeout=300,
    )
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    [path] = tmp_path.glob("*.records.npz")
    rows = records.load(path)
    assert (rows["status"] == Status.OK).all(), point["client"]["error_samples"]
    assert point["tokens"]["sources"]["USAGE"] == REQUESTS
    assert (rows["output_tokens"] == OUTPUT).all()
    assert generated(llamacpp_server) - before == rows["output_tokens"].sum()
    if door == "completions":
        assert (rows["server_input_tokens"] == rows["input_tokens"]).all()
        assert (rows["input_tokens"] == 40).all()
    else:  # a chat template adds the same tokens to each
        assert len(set((rows["server_input_tokens"] - rows["input_tokens"]).tolist())) == 1
    if stream:
        assert (rows["first_token_ns"] > rows["sent_ns"]).all()
        assert point["tokens"]["tokens_per_event"]["mean"] == pytest.approx(1.0, abs=0.1)
        assert point["metrics"]["median_TTFT_ms"] < point["metrics"]["median_latency_ms"]
    else:
        assert (rows["first_token_ns"] == records.NONE).all()


def test_a_rate_on_a_server_that_closes_after_each_stream(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path
) -> None:
    done = benchmark(
        f"--url={llamacpp_server}",
        "--backend=openai",
        f"--tokenizer={smollm2_tokenizer}",
        "--input-len=20",
        "--output-len=4",
        "--request-rate=3",
        "--num-prompts=15",
        "--stream-request",
        "--save-json-results",
        f"--output-dir={tmp_path}",
        timeout=300,
    )
    assert done.returncode in (0, 4), done.stderr
    point = only_point(tmp_path)
    assert point["metrics"]["num_prompts_succeeded"] == 15, point["client"]["error_samples"]
    assert point["client"]["connections_opened"] >= 15
