"""The simulator's protocols of which there is no recording: SGLang, TGI, OpenAI, SAX, the predict door.

What must hold follows from those servers' sources and references.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.servers.http_exchange import Answer, exchange
from tests.servers.simulator import instant, post, raw_end, raw_exchange

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
PROMPT = "How many roads must a man walk down?"
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def sglang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("sglang", tmp_path_factory)


@pytest.fixture(scope="module")
def tgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("tgi", tmp_path_factory)


@pytest.fixture(scope="module")
def openai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("openai", tmp_path_factory)


@pytest.fixture(scope="module")
def sax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("sax", tmp_path_factory)


@pytest.fixture(scope="module")
def predict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from instant("naive_transformers", tmp_path_factory, "--model", "gemma")


# SGLang


def test_sglang_whole(sglang: str) -> None:
    request = {"text": PROMPT, "sampling_params": {"max_new_tokens": 12, "temperature": 0, "ignore_eos": True}}
    answer = exchange(sglang, "/generate", request).json
    assert list(answer) == ["text", "output_ids", "meta_info"]
    assert len(answer["output_ids"]) == len(answer["text"].split()) == 12
    meta = answer["meta_info"]
    assert meta["finish_reason"] == {"type": "length", "length": 12}
    assert (meta["completion_tokens"], meta["cached_tokens"]) == (12, 0)
    assert 0.011 < meta["e2e_latency"] < 0.02  # twelve steps of 1 ms


def test_sglang_stream_repeats_the_whole_text(sglang: str) -> None:
    request = {"text": PROMPT, "sampling_params": {"max_new_tokens": 5}, "stream": True}
    answer = exchange(sglang, "/generate", request)
    whole = exchange(sglang, "/generate", {**request, "stream": False}).json
    assert answer.data[-1] == b"[DONE]"
    assert [event["meta_info"]["completion_tokens"] for event in answer.events] == [1, 2, 3, 4, 5]
    assert [len(event["output_ids"]) for event in answer.events] == [1, 2, 3, 4, 5]
    for event in answer.events:
        assert whole["text"].startswith(event["text"]) and len(event["text"].split()) == len(event["output_ids"])
    assert answer.events[-1]["text"] == whole["text"]
    assert [event["meta_info"]["finish_reason"] is None for event in answer.events] == [True] * 4 + [False]
    assert [("e2e_latency" in event["meta_info"]) for event in answer.events] == [False] * 4 + [True]


def test_sglang_refuses(sglang: str) -> None:
    long = {"input_ids": [5] * 2048, "sampling_params": {"max_new_tokens": 5}}
    answer = exchange(sglang, "/generate", long)
    message = "The input (2048 tokens) is longer than the model's context length (2048 tokens)."
    assert (answer.status, answer.json) == (400, {"error": {"message": message}})
    streamed = exchange(sglang, "/generate", {**long, "stream": True})  # the head is out by then
    assert (streamed.status, streamed.events) == (200, [{"error": {"message": message}}])
    over = exchange(sglang, "/generate", {"input_ids": [5] * 2000, "sampling_params": {"max_new_tokens": 100}})
    assert over.status == 400 and "You requested a total of 2100 tokens" in over.json["error"]["message"]
    assert exchange(sglang, "/generate", {"sampling_params": {}}).status == 400
    malformed = raw_exchange(sglang, post("/generate", b'{"text":', "Connection: close\r\n"))
    assert malformed.startswith(b"HTTP/1.1 400 ")
    chat = exchange(sglang, CHAT, {"messages": [{"role": "user", "content": "word " * 3000}]})
    assert chat.status == 400 and chat.json["object"] == "error" and chat.json["code"] == 400


def test_sglang_openai_doors(sglang: str) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, **USAGE}
    role, first, *_, finish, usage = exchange(sglang, CHAT, chat).events
    assert role["choices"][0]["delta"]["role"] == "assistant"
    choice = first["choices"][0]
    assert list(choice) == ["index", "delta", "logprobs", "finish_reason", "matched_stop"]
    assert list(choice["delta"]) == ["role", "content", "reasoning_content", "tool_calls"]
    assert finish["choices"][0]["finish_reason"] == "length" and finish["choices"][0]["delta"]["content"] is None
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3
    text = exchange(sglang, COMPLETIONS, {"prompt": "hi", "max_tokens": 3, **USAGE}).events
    assert [event["choices"][0]["finish_reason"] for event in text[:-1]] == [None, None, "length"]
    assert "usage" in text[0] and text[0]["usage"] is None
    whole = exchange(sglang, COMPLETIONS, {"prompt": "hi", "max_tokens": 3}).json
    assert whole["metadata"] == {"weight_version": "default"} and whole["usage"]["completion_tokens"] == 3


def test_sglang_small_doors(sglang: str) -> None:
    assert exchange(sglang, "/health").status == exchange(sglang, "/health_generate").status == 200
    assert exchange(sglang, "/get_model_info").json["is_generation"] is True
    assert exchange(sglang, "/get_server_info").json["version"].endswith("+simulator")
    assert exchange(sglang, "/v1/models").json["data"][0]["max_model_len"] == 2048
    text = exchange(sglang, "/metrics").body.decode()
    for name in ("num_running_reqs", "token_usage", "generation_tokens_total", "time_to_first_token_seconds_bucket"):
        assert f"\nsglang:{name}{{" in text


# TGI


def events(answer: Answer) -> list[Any]:
    """TGI writes no space behind `data:`."""
    *parts, rest = answer.body.split(b"\n\n")
    assert rest == b"" and all(part.startswith(b"data:{") for part in parts)
    return [msgspec.json.decode(part.removeprefix(b"data:")) for part in parts]


def test_tgi_whole(tgi: str) -> None:
    request = {"inputs": PROMPT, "parameters": {"max_new_tokens": 6, "details": True}}
    answer = exchange(tgi, "/generate", request)
    assert list(answer.json) == ["generated_text", "details"]
    details = answer.json["details"]
    assert list(details) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert (details["finish_reason"], details["generated_tokens"], details["prefill"]) == ("length", 6, [])
    assert "".join(token["text"] for token in details["tokens"]) == answer.json["generated_text"]
    assert list(details["tokens"][0]) == ["id", "text", "logprob", "special"]
    times = {name: answer.headers[f"x-{name}"] for name in ("total-time", "inference-time", "generated-tokens")}
    assert times == {"total-time": "6", "inference-time": "6", "generated-tokens": "6"}
    for name in ("compute-type", "compute-time", "validation-time", "queue-time", "time-per-token", "prompt-tokens"):
        assert f"x-{name}" in answer.headers
    assert answer.headers["x-compute-characters"] == str(len(PROMPT))
    assert list(exchange(tgi, "/generate", {"inputs": PROMPT}).json) == ["generated_text"]


def test_tgi_stream(tgi: str) -> None:
    answer = exchange(tgi, "/generate_stream", {"inputs": PROMPT, "parameters": {"max_new_tokens": 4, "details": True}})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"
    *tokens, last = events(answer)
    assert [list(event) for event in (*tokens, last)] == [["index", "token", "generated_text", "details"]] * 4
    assert [event["index"] for event in (*tokens, last)] == [1, 2, 3, 4]
    assert all(event["generated_text"] is event["details"] is None for event in tokens)
    assert last["generated_text"] == "".join(event["token"]["text"] for event in (*tokens, last))
    assert last["details"]["finish_reason"] == "length" and last["details"]["generated_tokens"] == 4
    assert list(last["details"]) == ["finish_reason", "generated_tokens", "seed", "input_length"]
    plain = events(exchange(tgi, "/generate_stream", {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}}))
    assert plain[-1]["details"] is None and plain[-1]["generated_text"]


def test_tgi_refuses_in_a_stream_by_an_event(tgi: str) -> None:
    long = {"inputs": "word " * 1990, "parameters": {"max_new_tokens": 500}}
    answer = exchange(tgi, "/generate", long)
    assert answer.status == 422
    assert answer.json["error_type"] == "validation"
    assert answer.json["error"].startswith("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048")
    streamed = exchange(tgi, "/generate_stream", long)
    assert (streamed.status, events(streamed)) == (200, [answer.json])
    assert exchange(tgi, "/generate", {"inputs": ""}).json["error"].endswith("`inputs` cannot be empty")
    missing = exchange(tgi, "/generate", {"parameters": {}})
    assert missing.status == 422 and missing.headers["content-type"].startswith("text/plain")
    assert raw_exchange(tgi, post("/generate", b"{", "Connection: close\r\n")).startswith(b"HTTP/1.1 400 ")


def test_tgi_openai_doors(tgi: str) -> None:
    chat = exchange(tgi, CHAT, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, **USAGE})
    assert chat.body.endswith(b"data:[DONE]\n\n")
    body = Answer(200, {}, chat.body.removesuffix(b"data:[DONE]\n\n"))
    *tokens, usage = events(body)
    assert [event["choices"][0]["delta"]["role"] for event in tokens] == ["assistant"] * 3
    assert tokens[-1]["choices"][0]["finish_reason"] == "length" and tokens[-1]["choices"][0]["delta"]["content"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3
    text = exchange(tgi, COMPLETIONS, {"prompt": "hi", "max_tokens": 3, "stream": True})
    *tokens, last = events(Answer(200, {}, text.body.removesuffix(b"data:[DONE]\n\n")))
    assert [event["choices"][0]["finish_reason"] for event in (*tokens, last)] == ["", "", "length"]
    assert last["usage"]["completion_tokens"] == 3 and "usage" not in tokens[0]
    whole = exchange(tgi, COMPLETIONS, {"prompt": "hi", "max_tokens": 3}).json
    assert list(whole)[:2] == ["object", "id"] and whole["usage"]["total_tokens"] == 4


def test_tgi_small_doors(tgi: str) -> None:
    assert (exchange(tgi, "/health").status, exchange(tgi, "/health").body) == (200, b"")
    info = exchange(tgi, "/info").json
    assert (info["model_id"], info["max_total_tokens"]) == ("simulated", 2048)
    text = exchange(tgi, "/metrics").body.decode()
    assert "\ntgi_request_success " in text and 'tgi_request_queue_duration_bucket{le="0.00015"}' in text
    assert "tgi_batch_current_size 0" in text


# OpenAI


def test_openai_has_no_field_of_vllm(openai: str) -> None:
    request = {"model": "simulated", "prompt": PROMPT, "max_tokens": 4}
    whole = exchange(openai, COMPLETIONS, request).json
    assert list(whole) == ["id", "object", "created", "model", "choices", "usage"]
    assert list(whole["choices"][0]) == ["text", "index", "logprobs", "finish_reason"]
    options = {"include_usage": True, "continuous_usage_stats": True}  # the latter is ignored
    *tokens, finish, usage = exchange(
        openai, COMPLETIONS, {**request, "stream": True, "stream_options": options}
    ).events
    assert len(tokens) == 4 and all(event["usage"] is None for event in tokens)
    assert list(tokens[0]["choices"][0]) == ["text", "index", "logprobs", "finish_reason"]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 4)
    assert "usage" not in exchange(openai, COMPLETIONS, {**request, "stream": True}).events[0]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"ignore_eos": True}, 400, "Unrecognized request argument supplied: ignore_eos"),
        ({"top_k": 1, "min_tokens": 2}, 400, "Unrecognized request arguments supplied: min_tokens, top_k"),
        ({"model": "nope"}, 404, "The model `nope` does not exist or you do not have access to it."),
        ({"prompt": "word " * 3000}, 400, "This model's maximum context length is 2048 tokens. However, your prompt"),
        ({"prompt": None}, 400, "Invalid type for 'prompt'"),
        ({"max_tokens": 0}, 400, "Invalid 'max_tokens'"),
    ],
)
def test_openai_refuses(openai: str, change: dict[str, Any], status: int, message: str) -> None:
    answer = exchange(openai, COMPLETIONS, {"model": "simulated", "prompt": "a", "max_tokens": 4, **change})
    assert answer.status == status
    assert list(answer.json["error"]) == ["message", "type", "param", "code"]
    assert answer.json["error"]["message"].startswith(message)
    assert answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("backend", "key"), [("openai", "reasoning_content"), ("sglang", "reasoning_content"), ("vllm", "reasoning")]
)
def test_reasoning_comes_first(tmp_path_factory: pytest.TempPathFactory, backend: str, key: str) -> None:
    request = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **USAGE}
    for url in instant(backend, tmp_path_factory, "--reasoning-tokens", "3"):
        deltas = [event["choices"][0]["delta"] for event in exchange(url, CHAT, request).events if event["choices"]]
        hidden, shown = [delta.get(key) for delta in deltas], [delta.get("content") for delta in deltas]
        assert [bool(text) for text in hidden[1:6]] == [True, True, True, False, False]
        assert [bool(text) for text in shown[1:6]] == [False, False, False, True, True]
        whole = {**request, "stream": False, "stream_options": None}
        message = exchange(url, CHAT, whole).json["choices"][0]["message"]
        assert message[key] == "".join(text for text in hidden if text)
        assert message["content"] == "".join(text for text in shown if text)
        text = exchange(url, COMPLETIONS, {"model": "simulated", "prompt": "hi", "max_tokens": 5}).json
        assert len(text["choices"][0]["text"].split()) == 5


# SAX and the predict door

SAX = {
    "model": "simulated",
    "prompt": PROMPT,
    "n": 1,
    "best_of": 1,
    "use_beam_search": False,
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 32000,
    "max_tokens": 7,
    "stream": False,
}


def test_sax(sax: str) -> None:
    answer = exchange(sax, "/generate", SAX)
    assert answer.status == 200 and "usage" not in answer.json
    assert len(answer.json["choices"][0]["text"].split()) == 7
    for change, status in (({"model": "x"}, 404), ({"prompt": "word " * 3000}, 400), ({"stream": True}, 400)):
        assert exchange(sax, "/generate", {**SAX, **change}).status == status


def test_predict_door(predict: str) -> None:
    request = {"instances": [{"prompt": PROMPT, "max_length": 9, "top_k": 1}]}
    for path in ("/predict", "/predictions/gemma"):
        text = exchange(predict, path, request).json["predictions"][0][0]["generated_text"]
        head, middle, answer = text.partition("\nOutput:\n")
        assert (head, middle) == (f"Prompt:\n{PROMPT}", "\nOutput:\n") and len(answer.split()) == 9
    assert exchange(predict, "/predictions/nope", request).json["type"] == "ModelNotFoundException"
    assert exchange(predict, "/predict", {"instances": []}).status == 400
    assert exchange(predict, "/ping").json == {"status": "Healthy"}


def test_nothing_is_open_that_a_server_has_not(sax: str, tgi: str) -> None:
    assert exchange(sax, "/metrics").status == exchange(tgi, "/completion").status == 404
    get = b"GET /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw_end(tgi, get)[0].startswith(b"HTTP/1.1 405 ")
