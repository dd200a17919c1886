"""Profiles of a real llama.cpp server: counts and times equal its own, by every door; failures are told apart."""

from pathlib import Path

import pytest

from latency_profile.records import NONE, Status, TokenSource
from tests.real_profile import Profiled, check_refused, metric, profile, send_bodies

REQUESTS = 4  # two after each other in each of two slots
INPUT = 24
OUTPUT = 12
MS = 1_000_000
DOORS = ["completion", "completions", "chat"]


def measure(
    server: str, tokenizer: Path, folder: Path, door: str, *flags: str, stream: bool, backend: str = "llamacpp"
) -> Profiled:
    return profile(
        folder,
        f"--url={server}",
        f"--backend={backend}",
        f"--endpoint={door}",
        f"--tokenizer={tokenizer}",
        f"--input-len={INPUT}",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--concurrencies=2",
        *(["--stream-request"] if stream else []),
        *flags,
        timeout=300,
    )


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("stream", [True, False])
def test_tokens_and_times_equal_the_servers_own(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path, door: str, stream: bool
) -> None:
    before = metric(f"{llamacpp_server}/metrics", "llamacpp:tokens_predicted_total")
    uncached = '--extra-body={"cache_prompt": false}'
    profiled = measure(
        llamacpp_server, smollm2_tokenizer, tmp_path, door, "--ignore-eos", "--temperature=0", uncached, stream=stream
    )
    rows, point = profiled.rows, profiled.point
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (rows["token_source"] == TokenSource.USAGE).all()
    assert (rows["output_tokens"] == OUTPUT).all()
    predicted = metric(f"{llamacpp_server}/metrics", "llamacpp:tokens_predicted_total") - before
    assert predicted == rows["output_tokens"].sum()
    if door == "chat":  # a chat template adds the same tokens to each
        assert len(set((rows["server_input_tokens"] - rows["input_tokens"]).tolist())) == 1
    else:
        assert (rows["server_input_tokens"] == rows["input_tokens"]).all()
        assert (rows["input_tokens"] == INPUT).all()

    prefill, decode = rows["server_prefill_ns"], rows["server_decode_ns"]
    assert (prefill > 0).all()
    assert (decode > 0).all()
    assert (prefill + decode < rows["end_ns"] - rows["sent_ns"] + MS).all()  # the server's clock has its own start
    if stream:
        assert (prefill < rows["first_token_ns"] - rows["sent_ns"] + MS).all()
        assert profiled.tokens_by_events == [OUTPUT] * REQUESTS
        assert point["tokens"]["tokens_per_event"]["mean"] == pytest.approx(1.0, abs=0.1)
        assert point["metrics"]["median_TTFT_ms"] < point["metrics"]["median_latency_ms"]
    else:
        assert (rows["first_token_ns"] == NONE).all()


@pytest.mark.parametrize("door", ["completions", "chat"])
def test_the_openai_backend_counts_the_same(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path, door: str
) -> None:
    before = metric(f"{llamacpp_server}/metrics", "llamacpp:tokens_predicted_total")
    profiled = measure(
        llamacpp_server,
        smollm2_tokenizer,
        tmp_path,
        door,
        '--extra-body={"ignore_eos": true}',
        stream=True,
        backend="openai",
    )
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (profiled.rows["output_tokens"] == OUTPUT).all()
    assert metric(f"{llamacpp_server}/metrics", "llamacpp:tokens_predicted_total") - before == REQUESTS * OUTPUT


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_that_is_too_long_is_refused(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path, door: str, stream: bool
) -> None:
    profiled = measure(
        llamacpp_server, smollm2_tokenizer, tmp_path, door, "--input-len=2100", "--num-prompts=2", stream=stream
    )
    check_refused(profiled, Status.HTTP_CLIENT_ERROR, 400, "exceeds the available context size")


@pytest.mark.parametrize(
    ("door", "flag", "status", "http_status", "words"),
    [
        ("completion", '--extra-body={"n_predict": "x"}', Status.HTTP_CLIENT_ERROR, 400, "n_predict"),
        ("completions", '--extra-body={"max_tokens": "x"}', Status.HTTP_CLIENT_ERROR, 400, "max_tokens"),
        ("completions", '--extra-body={"prompt": 7}', Status.HTTP_CLIENT_ERROR, 400, "prompt"),
        ("chat", '--extra-body={"messages": "x"}', Status.HTTP_CLIENT_ERROR, 400, "messages"),
        ("completions=/nope", "--no-stream-request", Status.HTTP_CLIENT_ERROR, 404, "File Not Found"),
    ],
    ids=["native-type", "type", "prompt", "messages", "path"],
)
def test_refusals_are_told_apart(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path,
    door: str, flag: str, status: Status, http_status: int, words: str,
) -> None:  # fmt: skip
    profiled = measure(llamacpp_server, smollm2_tokenizer, tmp_path, door, flag, "--num-prompts=2", stream=False)
    check_refused(profiled, status, http_status, words)


@pytest.mark.parametrize(
    ("door", "path"),
    [("completion", "/completion"), ("completions", "/v1/completions"), ("chat", "/v1/chat/completions")],
)
def test_a_body_that_is_no_request_is_refused(llamacpp_server: str, tmp_path: Path, door: str, path: str) -> None:
    driven = send_bodies(llamacpp_server, tmp_path, "llamacpp", door, path, b'{"prompt":', b"{}")
    assert driven.statuses == [Status.HTTP_CLIENT_ERROR] * 2
    assert driven.records["http_status"].tolist() == [400, 400]
    said = driven.collected[0].errors["HTTP_CLIENT_ERROR"]
    assert any("unexpected end of input" in line for line in said)
    assert any("prompt" in line or "messages" in line for line in said)


def test_a_rate_on_a_server_that_closes_after_each_stream(
    llamacpp_server: str, smollm2_tokenizer: Path, tmp_path: Path
) -> None:
    profiled = profile(
        tmp_path,
        f"--url={llamacpp_server}",
        "--backend=llamacpp",
        f"--tokenizer={smollm2_tokenizer}",
        "--input-len=20",
        "--output-len=4",
        "--request-rate=3",
        "--num-prompts=8",
        "--stream-request",
        timeout=300,
    )
    assert profiled.statuses == {Status.OK: 8}, profiled.messages
    assert profiled.point["client"]["connections_opened"] >= 8
