"""The simulator's bytes in each protocol that was recorded, against the recording (tests/data). vLLM's: `_wire`."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.servers.http_exchange import Answer, exchange
from tests.servers.simulator import DATA, captured, instant, post, raw_end, raw_exchange, shape

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
LLAMACPP = "smollm2-135m"
TSERVE = "models/smollm2-hf"
TRITON = "/v2/models/ensemble/"


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("llamacpp", tmp_path_factory, "--model", LLAMACPP)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("tensorrt_llm_triton", tmp_path_factory)


@pytest.fixture(scope="module")
def jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("jetstream", tmp_path_factory)


@pytest.fixture(scope="module")
def tserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("naive_transformers", tmp_path_factory, "--model", TSERVE)


def door(request: dict[str, Any], native: str) -> str:
    if "messages" in request:
        return CHAT
    return native if "model" not in request else COMPLETIONS


def loose(value: Any) -> Any:
    """The shape, with whole numbers and others alike: a simulated time may be 0.0 where the real one was 3."""
    return msgspec.json.decode(msgspec.json.encode(shape(value)).replace(b'"int"', b'"float"'))


# llama.cpp


@pytest.mark.parametrize("name", ["completion_native", "v1_completions", "v1_chat"])
def test_llamacpp_whole(llamacpp: str, name: str) -> None:
    request, expected = captured("llamacpp", name)
    answer = exchange(llamacpp, door(request, "/completion"), request)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["keep-alive"] == "timeout=5, max=100"
    assert loose(answer.json) == loose(msgspec.json.decode(expected))
    timings = answer.json["timings"]
    assert timings["predicted_n"] == request.get("max_tokens", request.get("n_predict"))
    assert 10 < timings["predicted_ms"] < 20  # 12 tokens, one a millisecond after the first
    assert timings["prompt_ms"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "completion_native_stream",
        "completion_native_stream_tokens_ignoreeos",
        "v1_completions_stream_usage",
        "v1_chat_stream_usage",
    ],
)
def test_llamacpp_streams(llamacpp: str, name: str) -> None:
    request, body = captured("llamacpp", name)
    expected = Answer(200, {}, body)
    answer = exchange(llamacpp, door(request, "/completion"), request)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"
    assert [loose(event) for event in answer.events] == [loose(event) for event in expected.events]
    assert [data for data in answer.data if data == b"[DONE]"] == [d for d in expected.data if d == b"[DONE]"]


def test_llamacpp_closes_after_a_stream_without_a_word(llamacpp: str) -> None:
    data, end = raw_end(llamacpp, post("/completion", {"prompt": "a b", "n_predict": 2, "stream": True}))
    assert end == "closed"
    assert data.endswith(b"0\r\n\r\n")
    assert b"keep-alive: timeout=5" in data and b"connection: close" not in data
    assert raw_end(llamacpp, post("/completion", {"prompt": "a b", "n_predict": 2}), 1.0)[1] == "silent"


def test_llamacpp_refuses(llamacpp: str) -> None:
    broken = (DATA / "llamacpp" / "err_malformed.request.json").read_bytes()
    data, end = raw_end(llamacpp, post(COMPLETIONS, broken))
    assert data.startswith(b"HTTP/1.1 400 ") and b"connection: close" in data and end == "closed"
    assert data.partition(b"\r\n\r\n")[2] == (DATA / "llamacpp" / "err_malformed.body").read_bytes()
    expected = msgspec.json.decode((DATA / "llamacpp" / "err_long_prompt.body").read_bytes())
    for stream in (False, True):
        answer = exchange(llamacpp, "/completion", {"prompt": [5] * 6001, "n_predict": 5, "stream": stream})
        assert (answer.status, answer.json) == (400, expected)
    assert exchange(llamacpp, "/nope").body == (DATA / "llamacpp" / "err_404.body").read_bytes()
    request, expected_body = captured("llamacpp", "err_bad_model")  # its name is ignored
    answer = exchange(llamacpp, COMPLETIONS, request)
    assert (answer.status, loose(answer.json)) == (200, loose(msgspec.json.decode(expected_body)))
    missing = exchange(llamacpp, "/completion", {"n_predict": 5})
    assert missing.status == 400 and "'prompt' not found" in missing.json["error"]["message"]


def test_llamacpp_small_doors(llamacpp: str) -> None:
    assert exchange(llamacpp, "/health").body == (DATA / "llamacpp" / "health.body").read_bytes()
    models = msgspec.json.decode((DATA / "llamacpp" / "models.body").read_bytes())
    assert shape(exchange(llamacpp, "/v1/models").json) == shape(models)
    assert exchange(llamacpp, "/props").json["default_generation_settings"]["n_ctx"] == 2048
    ours = exchange(llamacpp, "/metrics").body.decode().splitlines()
    theirs = (DATA / "telemetry" / "llamacpp.txt").read_text().splitlines()
    assert [line for line in ours if line.startswith("#")] == [line for line in theirs if line.startswith("#")]
    assert [line.split()[0] for line in ours] == [line.split()[0] for line in theirs]


# Triton


@pytest.mark.parametrize("name", ["generate", "generate_beam_width"])
def test_triton_whole(triton: str, name: str) -> None:
    request, expected = captured("triton", name)
    answer = exchange(triton, TRITON + "generate", request)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert shape(answer.json) == shape(msgspec.json.decode(expected))
    assert answer.json["text_output"].startswith("What is ML? ")
    assert len(answer.json["text_output"].split()) == 3 + 5


def test_triton_streams(triton: str) -> None:
    request, body = captured("triton", "generate_stream")
    answer = exchange(triton, TRITON + "generate_stream", request)
    expected = Answer(200, {}, body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [shape(event) for event in answer.events] == [shape(event) for event in expected.events]
    assert b"[DONE]" not in answer.body
    request, body = captured("triton", "generate_stream_nostreamflag")
    answer = exchange(triton, TRITON + "generate_stream", request)
    assert [shape(event) for event in answer.events] == [shape(event) for event in Answer(200, {}, body).events]
    assert len(answer.events) == 1 and answer.events[0]["text_output"].startswith("What is ML? ")


def test_triton_counts_where_it_is_asked(triton: str) -> None:
    request = {"text_input": "one two", "max_tokens": 7, "return_num_output_tokens": True}
    answer = exchange(triton, TRITON + "generate", {**request, "return_num_input_tokens": True}).json
    assert (answer["num_input_tokens"], answer["num_output_tokens"]) == (2, 7)
    assert list(answer) == sorted(answer)
    events = exchange(triton, TRITON + "generate_stream", {**request, "stream": True}).events
    assert [event["num_output_tokens"] for event in events] == [1] * 7
    bare = exchange(triton, TRITON + "generate", {**request, "exclude_input_in_output": True}).json
    assert len(bare["text_output"].split()) == 7


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("err_bad_model", "/v2/models/nope/generate", 404),
        ("err_bad_model_stream", "/v2/models/nope/generate_stream", 404),
        ("err_malformed", TRITON + "generate", 500),
        ("err_missing_input", TRITON + "generate", 400),
        ("err_bad_dtype", TRITON + "generate", 500),
        ("generate_multi_response_error", TRITON + "generate", 200),
    ],
)
def test_triton_refuses_byte_for_byte(triton: str, name: str, path: str, status: int) -> None:
    request = (DATA / "triton" / f"{name}.request.json").read_bytes()
    data = raw_exchange(triton, post(path, request, "Connection: close\r\n"))
    head, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        body = body.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert body == (DATA / "triton" / f"{name}.body").read_bytes()


def test_triton_refuses_a_long_prompt(triton: str) -> None:
    request = {"text_input": "word " * 3000, "max_tokens": 5}
    answer = exchange(triton, TRITON + "generate", request)
    assert answer.status == 400 and "exceeds maximum input length (2047)" in answer.json["error"]
    streamed = exchange(triton, TRITON + "generate_stream", {**request, "stream": True})
    assert streamed.status == 400 and list(streamed.events[0]) == ["error"]


def test_triton_small_doors(triton: str) -> None:
    for path in ("/v2/health/ready", "/v2/models/ensemble/ready"):
        assert (exchange(triton, path).status, exchange(triton, path).body) == (200, b"")
    for path, name in (("/v2", "server_meta"), ("/v2/models/ensemble", "model_meta")):
        expected = msgspec.json.decode((DATA / "triton" / f"{name}.body").read_bytes())
        assert shape(exchange(triton, path).json) == shape(expected)
    assert exchange(triton, "/v2/repository/index", {}).json == [{"name": "ensemble", "version": "1", "state": "READY"}]
    assert exchange(triton, "/v2/models/nope").status == 404


# JetStream


def blank(body: bytes) -> bytes:
    """Without texts and ids, which are another model's."""
    return re.sub(rb"\d+\n", b"0\n", re.sub(rb'"text": "[^"]*"', b'"text": ""', body))


@pytest.mark.parametrize("name", ["http_generate_text", "http_generate_tokens"])
def test_jetstream_writes_objects_back_to_back(jetstream: str, name: str) -> None:
    request, expected = captured("jetstream", name)
    answer = exchange(jetstream, "/v1/generate", request)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert blank(answer.body) == blank(expected)
    assert len(set(re.findall(rb"(\d+)\n", answer.body))) == 3


def test_jetstream_refuses(jetstream: str) -> None:
    for name in ("http_err_extra", "http_err_malformed"):
        request = (DATA / "jetstream" / f"{name}.request.json").read_bytes()
        data = raw_exchange(jetstream, post("/v1/generate", request, "Connection: close\r\n"))
        assert data.startswith(b"HTTP/1.1 422 ")
        assert data.partition(b"\r\n\r\n")[2] == (DATA / "jetstream" / f"{name}.body").read_bytes()
    data, end = raw_end(jetstream, post("/v1/generate", {"max_tokens": 3}))
    assert data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"\r\n\r\n") and end == "closed"
    assert b"0\r\n\r\n" not in data  # a chunked body that never ends
    long = exchange(jetstream, "/v1/generate", {"max_tokens": 3, "text_content": {"text": "word " * 5000}})
    assert long.status == 200 and long.body.count(b"streamContent") == 2  # the prompt is cut: one token's room is left


def test_jetstream_sidecar(jetstream: str) -> None:
    answer = exchange(jetstream, "/generate", {"prompt": "a b", "max_tokens": 5})
    assert list(answer.json) == ["response"] and len(answer.json["response"].split()) == 5
    assert exchange(jetstream, "/generate", {"max_tokens": 5}).json["detail"][0]["loc"] == ["body", "prompt"]


def test_jetstream_small_doors(jetstream: str) -> None:
    for path, name in (("/", "http_root"), ("/v1/health", "http_health"), ("/metrics", "http_no_metrics")):
        assert exchange(jetstream, path).body == (DATA / "jetstream" / f"{name}.body").read_bytes()
    assert exchange(jetstream, "/health").status == 200


# transformers serve


@pytest.mark.parametrize("name", ["v1_completions", "v1_chat"])
def test_tserve_whole(tserve: str, name: str) -> None:
    request, expected = captured("tserve", name)
    answer = exchange(tserve, door(request, ""), request)
    assert shape(answer.json) == shape(msgspec.json.decode(expected))
    assert answer.json["usage"]["completion_tokens"] == request["max_tokens"]
    assert answer.json["model"] == f"{TSERVE}@main"


@pytest.mark.parametrize("name", ["v1_completions_stream", "v1_completions_stream_min", "v1_chat_stream"])
def test_tserve_streams(tserve: str, name: str) -> None:
    request, body = captured("tserve", name)
    answer = exchange(tserve, door(request, ""), request)
    assert [shape(event) for event in answer.events] == [shape(event) for event in Answer(200, {}, body).events]
    assert b"[DONE]" not in answer.body
    assert answer.headers["x-request-id"] == answer.events[0]["id"]


@pytest.mark.parametrize(
    ("name", "status"), [("err_bad_model", 400), ("err_malformed", 422), ("err_unknown_field", 422)]
)
def test_tserve_refuses(tserve: str, name: str, status: int) -> None:
    request = (DATA / "tserve" / f"{name}.request.json").read_bytes().replace(b',"best_of":1', b"")
    data = raw_exchange(tserve, post(COMPLETIONS, request, "Connection: close\r\n"))
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert data.partition(b"\r\n\r\n")[2] == (DATA / "tserve" / f"{name}.body").read_bytes()


def test_tserve_takes_any_prompt(tserve: str) -> None:
    answer = exchange(tserve, COMPLETIONS, {"model": TSERVE, "prompt": "word " * 3000, "max_tokens": 2})
    assert answer.status == 200
    assert answer.json["usage"]["prompt_tokens"] >= 3000
    assert exchange(tserve, "/health").body == (DATA / "tserve" / "health.body").read_bytes()
    assert exchange(tserve, "/v1/models").json == {"object": "list", "data": []}
