"""Profiles of a real `transformers serve` on the CPU: counts equal its usage, failures are told apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_profile.records import NONE, Status, TokenSource
from tests.real_profile import Profiled, check_refused, profile, send_bodies
from tests.servers import transformers_serve
from tests.servers.http_exchange import exchange
from tests.servers.smollm2 import MODEL_NAME

pytestmark = pytest.mark.transformers_serve

REQUESTS = 4
OUTPUT = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not transformers_serve.installed():
        pytest.skip("no transformers serve here: `make test-transformers-serve` installs it")
    with transformers_serve.serve(tmp_path_factory.mktemp("transformers-serve") / "server.log") as url:
        yield url


def measure(server: str, folder: Path, door: str, *flags: str, stream: bool) -> Profiled:
    return profile(
        folder,
        f"--url={server}",
        "--backend=naive_transformers",
        f"--endpoint={door}",
        f"--models={MODEL_NAME}",
        f"--tokenizer={transformers_serve.MODEL}",
        "--input-len=24",
        f"--output-len={OUTPUT}",
        f"--num-prompts={REQUESTS}",
        "--concurrencies=2",
        *(["--stream-request"] if stream else []),
        *flags,
        timeout=300,
    )


@pytest.mark.parametrize("door", ["completions", "chat"])
def test_tokens_equal_its_usage_and_its_events(server: str, tmp_path: Path, door: str) -> None:
    """It has no counters: its usage is held against its events, and a stream against the same requests unstreamed."""
    streamed = measure(server, tmp_path / "stream", door, "--nonce=7e57", stream=True)
    whole = measure(server, tmp_path / "whole", door, "--nonce=7e57", stream=False)
    for profiled in (streamed, whole):
        rows = profiled.rows
        assert profiled.statuses == {Status.OK: REQUESTS}, profiled.messages
        assert (rows["token_source"] == TokenSource.USAGE).all()
        assert ((rows["output_tokens"] > 0) & (rows["output_tokens"] <= OUTPUT)).all()
    assert (streamed.rows["output_tokens"] == whole.rows["output_tokens"]).all()  # it takes the likeliest token
    assert (streamed.rows["server_input_tokens"] == whole.rows["server_input_tokens"]).all()
    assert streamed.tokens_by_events == streamed.rows["output_tokens"].tolist()
    assert (streamed.rows["first_token_ns"] > streamed.rows["sent_ns"]).all()
    assert (whole.rows["first_token_ns"] == NONE).all()
    if door == "completions":
        assert (whole.rows["server_input_tokens"] == whole.rows["input_tokens"]).all()
        asked = {"model": MODEL_NAME, "prompt": "The capital of France is", "max_tokens": OUTPUT}
        assert exchange(server, "/v1/completions", asked).json["usage"]["prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("flag", "status", "http_status", "words"),
    [
        ('--extra-body={"model": "nope"}', Status.HTTP_CLIENT_ERROR, 400, "requested 'nope'"),
        ('--extra-body={"ignore_eos": true}', Status.HTTP_CLIENT_ERROR, 422, "Unexpected fields"),
        ('--extra-body={"max_tokens": "x"}', Status.HTTP_SERVER_ERROR, 500, "Internal Server Error"),
        ("--endpoint=completions=/nope", Status.HTTP_CLIENT_ERROR, 404, "Not Found"),
    ],
    ids=["model", "field", "type", "path"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_refusals_are_told_apart(
    server: str, tmp_path: Path, flag: str, status: Status, http_status: int, words: str, stream: bool
) -> None:
    profiled = measure(server, tmp_path, "completions", flag, "--num-prompts=2", stream=stream)
    check_refused(profiled, status, http_status, words)


def test_a_body_that_is_no_request_is_refused(server: str, tmp_path: Path) -> None:
    driven = send_bodies(server, tmp_path, "naive_transformers", "completions", "/v1/completions", b'{"prompt":')
    assert driven.statuses == [Status.HTTP_CLIENT_ERROR]
    assert driven.records["http_status"].tolist() == [422]
    assert "JSON decode error" in driven.collected[0].errors["HTTP_CLIENT_ERROR"][0]


def test_a_prompt_beyond_the_models_context_is_answered(server: str, tmp_path: Path) -> None:
    """This server does not mind; the profile must not either."""
    long = ["--input-len=9000", "--output-len=1", "--num-prompts=1"]
    profiled = measure(server, tmp_path, "completions", *long, stream=False)
    assert profiled.statuses == {Status.OK: 1}, profiled.messages
    assert profiled.rows["server_input_tokens"].tolist() == [9000]
