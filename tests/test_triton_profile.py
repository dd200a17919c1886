"""Profiles of a real Triton whose model has TensorRT-LLM's tensors: counts equal its own, failures are told apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_profile.records import NONE, Status, TokenSource
from tests.real_profile import Profiled, check_refused, metric, profile, send_bodies
from tests.servers import triton_server
from tests.servers.triton_server import DECOUPLED, WHOLE, Triton

REQUESTS = 6
OUTPUT = 7  # two tokens a response, so the last of a stream has one


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    triton_server.need()
    with triton_server.serve(tmp_path_factory.mktemp("triton") / "server") as server:
        yield server


def measure(server: Triton, tokenizer: Path, folder: Path, *flags: str, stream: bool = False) -> Profiled:
    """A profile of a few requests at concurrency 2."""
    return profile(
        folder,
        f"--url={server.url}",
        "--backend=tensorrt_llm_triton",
        f"--tokenizer={tokenizer}",
        "--input-len=30",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--concurrencies=2",
        *(["--stream-request"] if stream else []),
        *flags,
    )


@pytest.mark.parametrize("model", [DECOUPLED, WHOLE])
def test_tokens_equal_the_models_own_count(triton: Triton, smollm2_tokenizer: Path, tmp_path: Path, model: str) -> None:
    before = triton.generated(model)
    done = metric(triton.metrics_url, "nv_inference_request_success", f'"{model}"')
    profiled = measure(triton, smollm2_tokenizer, tmp_path, f"--models={model}", "--ignore-eos")
    rows = profiled.rows
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (rows["token_source"] == TokenSource.USAGE).all()
    assert (rows["output_tokens"] == OUTPUT).all()
    assert (rows["server_input_tokens"] > 0).all()
    assert (rows["first_token_ns"] == NONE).all()
    assert triton.generated(model) - before == REQUESTS * OUTPUT
    assert metric(triton.metrics_url, "nv_inference_request_success", f'"{model}"') - done == REQUESTS


def test_its_metrics_count_the_models_requests(triton: Triton, smollm2_tokenizer: Path, tmp_path: Path) -> None:
    flags = ("--scrape-server-metrics", f"--metrics-urls={triton.metrics_url}", f"--models={DECOUPLED}")
    profiled = measure(triton, smollm2_tokenizer, tmp_path, *flags)
    server = profiled.point["server"]
    (found,) = server["readings"]
    assert found["counters"]["requests"]["increase"] == REQUESTS
    assert found["counters"]["queue_seconds"]["increase"] > 0
    assert found["names"]["requests"] == ["nv_inference_request_success"]
    assert (server["reconciliation"]["requests"]["excess"], server["reconciliation"]["requests"]["lack"]) == (0, 0)


def test_a_streams_events_carry_two_tokens_each(triton: Triton, smollm2_tokenizer: Path, tmp_path: Path) -> None:
    before = triton.generated(DECOUPLED)
    profiled = measure(triton, smollm2_tokenizer, tmp_path, stream=True)  # the model's name is the backend's default
    rows = profiled.rows
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (rows["output_tokens"] == OUTPUT).all()
    assert rows.event_tokens.tolist() == [2, 2, 2, 1] * REQUESTS
    assert triton.generated(DECOUPLED) - before == REQUESTS * OUTPUT
    assert (rows["sent_ns"] < rows["first_token_ns"]).all()
    # A machine that pauses reads an answer's events at once: they share a stamp then.
    assert (rows["first_token_ns"] <= rows["last_token_ns"]).all()
    assert (rows["first_token_ns"] < rows["last_token_ns"]).any()


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_count_the_tokenizer_gives_the_same(
    triton: Triton, smollm2_tokenizer: Path, tmp_path: Path, stream: bool
) -> None:
    uncounted = '--extra-body={"return_num_output_tokens": false}'
    profiled = measure(triton, smollm2_tokenizer, tmp_path, uncounted, stream=stream)
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (profiled.rows["token_source"] == TokenSource.TOKENIZER).all()
    assert (profiled.rows["output_tokens"] == OUTPUT).all()


def test_a_prompt_that_comes_back_is_not_counted(triton: Triton, smollm2_tokenizer: Path, tmp_path: Path) -> None:
    echoed = '--extra-body={"return_num_output_tokens": false, "exclude_input_in_output": false}'
    profiled = measure(triton, smollm2_tokenizer, tmp_path, echoed)
    assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
    assert (profiled.rows["output_tokens"] == OUTPUT).all()


@pytest.mark.parametrize(
    ("flags", "stream", "status", "http_status", "words"),
    [
        (["--input-len=900"], False, Status.HTTP_CLIENT_ERROR, 400, "prompt too long"),
        (["--input-len=900"], True, Status.HTTP_CLIENT_ERROR, 400, "prompt too long"),
        (['--extra-body={"max_tokens": "x"}'], False, Status.HTTP_SERVER_ERROR, 500, "JSON non-signed-integer"),
        (["--models=no-such-model"], False, Status.HTTP_CLIENT_ERROR, 404, "Request for unknown model"),
        (["--models=no-such-model"], True, Status.HTTP_CLIENT_ERROR, 404, "Request for unknown model"),
        (['--extra-body={"stream": true}'], False, Status.ERROR_BODY, 200, "exactly 1 response"),
        ([f"--models={WHOLE}"], True, Status.HTTP_CLIENT_ERROR, 400, "only supported in decoupled mode"),
    ],
    ids=["long", "long-stream", "type", "model", "model-stream", "several-responses", "not-decoupled"],
)
def test_refusals_are_told_apart(
    triton: Triton, smollm2_tokenizer: Path, tmp_path: Path,
    flags: list[str], stream: bool, status: Status, http_status: int, words: str,
) -> None:  # fmt: skip
    profiled = measure(triton, smollm2_tokenizer, tmp_path, *flags, "--num-prompts=2", stream=stream)
    check_refused(profiled, status, http_status, words)


def test_a_body_that_is_no_request_is_refused(triton: Triton, tmp_path: Path) -> None:
    path = f"/v2/models/{DECOUPLED}/generate_stream"
    driven = send_bodies(
        triton.url, tmp_path, "tensorrt_llm_triton", "generate", path, b'{"text_input":', b'{"text_input": "x"}'
    )
    assert driven.statuses == [Status.HTTP_SERVER_ERROR, Status.HTTP_CLIENT_ERROR]
    assert driven.records["http_status"].tolist() == [500, 400]
    [part] = driven.collected
    assert "failed to parse the request JSON buffer" in part.errors["HTTP_SERVER_ERROR"][0]
    assert "missing required input(s) ['max_tokens']" in part.errors["HTTP_CLIENT_ERROR"][0]


def test_a_failure_in_mid_stream_comes_as_an_event(triton: Triton, smollm2_tokenizer: Path, tmp_path: Path) -> None:
    failing = '--extra-body={"bad_words": "<fail>"}'
    profiled = measure(triton, smollm2_tokenizer, tmp_path, failing, stream=True)
    assert profiled.statuses == {Status.ERROR_EVENT: REQUESTS}
    assert (profiled.rows["http_status"] == 200).all()
    assert "the engine failed" in profiled.messages
    assert profiled.tokens_by_events == [2] * REQUESTS  # it had begun, and is in no latency all the same
    assert profiled.point["metrics"]["num_prompts_succeeded"] == 0
    assert profiled.done.returncode == 4
