"""The real servers as they are: fails when a release drifts from what the backends and other tests rely on."""

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.servers.http_exchange import Connection, exchange
from tests.servers.smollm2 import MODEL_NAME
from tests.servers.vllm_server import bench

TEXTS = [
    "The capital of France is",
    "In 1789 there were 28,000,000 people; 3.14159 is not 22/7.",
    "I'm sure they'll say we've won, isn't it? IT'S ODD.",
    "  two spaces, a\ttab,\n\n\n three newlines,   and an end   ",
    "def f(x):\n    return {'a': x ** 2}  # comment\n",
    "Grüße, señor! Καλημέρα, 日本語 и русский 🙂👩‍🚀 ½ ² ٣",
    "<|im_start|>user\nHi<|im_end|>\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 8,
]
PROMPT: dict[str, Any] = {"model": MODEL_NAME, "prompt": TEXTS[0], "temperature": 0, "max_tokens": 6}
CHAT: dict[str, Any] = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "Count to nine."}],
    "temperature": 0,
    "max_tokens": 6,
}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
USAGE = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


@pytest.fixture(scope="module")
def tokenizer(smollm2_tokenizer: Path) -> Tokenizer:
    return Tokenizer.from_file(str(smollm2_tokenizer / "tokenizer.json"))


def texts_of_random_ids(tokenizer: Tokenizer) -> list[str]:
    """Texts that no one would write: random tokens side by side."""
    draw = random.Random(7)
    ids = [[draw.randrange(17, tokenizer.get_vocab_size()) for _ in range(40)] for _ in range(50)]
    return [text.replace("\ufffd", "") for text in tokenizer.decode_batch(ids)]


def texts_of_choices(events: list[Any]) -> list[str]:
    return [event["choices"][0]["text"] for event in events if event["choices"]]


def test_tokenizer_folder_gives_the_ids_of_llamacpp(tokenizer: Tokenizer, llamacpp_server: str) -> None:
    with Connection(llamacpp_server) as connection:
        for text in TEXTS + texts_of_random_ids(tokenizer):
            theirs = connection.exchange("/tokenize", {"content": text}).json["tokens"]
            assert tokenizer.encode(text).ids == theirs, text
            assert tokenizer.decode(theirs, skip_special_tokens=False) == text


def test_tokenizer_folder_loads_in_transformers(tokenizer: Tokenizer, smollm2_tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(smollm2_tokenizer))
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    for text in TEXTS:
        assert loaded(text).input_ids == tokenizer.encode(text).ids


def test_llamacpp_closes_the_connection_after_a_stream_only(llamacpp_server: str) -> None:
    with Connection(llamacpp_server) as connection:
        whole = connection.exchange("/v1/completions", PROMPT)
        assert "content-length" in whole.headers
        assert not connection.closed_by_server(within_s=0.3)

        stream = connection.exchange("/v1/completions", PROMPT | STREAM)
        assert stream.headers["transfer-encoding"] == "chunked"
        assert "connection" not in stream.headers  # it does not announce what it does
        assert stream.headers["keep-alive"] == "timeout=5, max=100"
        assert connection.closed_by_server()


def test_llamacpp_puts_usage_on_the_last_of_tokens_and_one_events(llamacpp_server: str) -> None:
    answer = exchange(llamacpp_server, "/v1/completions", PROMPT | STREAM)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.data[-1] == b"[DONE]"
    *before, last = answer.events
    assert len(before) == 6
    assert not any("usage" in event for event in before)
    assert USAGE.items() <= last["usage"].items()
    assert texts_of_choices([last]) == [""]
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["timings"]["predicted_n"] == 6

    whole = exchange(llamacpp_server, "/v1/completions", PROMPT).json
    assert whole["choices"][0]["text"] == "".join(texts_of_choices(before))
    assert USAGE.items() <= whole["usage"].items()


def test_llamacpp_chat_begins_with_a_role_and_gives_usage_an_event(llamacpp_server: str) -> None:
    answer = exchange(llamacpp_server, "/v1/chat/completions", CHAT | STREAM)
    assert answer.data[-1] == b"[DONE]"
    role, *tokens, finish, usage = answer.events
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert all(event["choices"][0]["delta"]["content"] for event in tokens)
    assert len(tokens) == usage["usage"]["completion_tokens"] == 6
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert usage["choices"] == []


def test_llamacpp_native_stream_ends_with_timings_and_no_done(llamacpp_server: str) -> None:
    body = {"prompt": TEXTS[0], "n_predict": 6, "temperature": 0, "ignore_eos": True, "stream": True}
    answer = exchange(llamacpp_server, "/completion", body)
    *tokens, last = answer.events
    assert len(answer.events) == len(answer.data)
    assert [len(event["tokens"]) for event in tokens] == [1] * 6
    assert not any(event["stop"] for event in tokens)
    assert last["stop"]
    assert (last["tokens_evaluated"], last["tokens_predicted"]) == (5, 6)
    assert last["timings"]["prompt_ms"] > 0 < last["timings"]["predicted_ms"]


def test_llamacpp_serves_any_model_name(llamacpp_server: str) -> None:
    assert [model["id"] for model in exchange(llamacpp_server, "/v1/models").json["data"]] == [MODEL_NAME]
    assert exchange(llamacpp_server, "/v1/completions", PROMPT | {"model": "no-such-model"}).status == 200


def test_llamacpp_refuses_a_prompt_that_is_too_long(llamacpp_server: str) -> None:
    answer = exchange(llamacpp_server, "/v1/completions", PROMPT | STREAM | {"prompt": "word " * 2100})
    assert answer.status == 400
    assert answer.json["error"]["type"] == "exceed_context_size_error"


def test_llamacpp_counts_what_usage_says(llamacpp_server: str) -> None:
    def predicted() -> float:
        lines = exchange(llamacpp_server, "/metrics").body.decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("llamacpp:tokens_predicted_total")))

    before = predicted()
    usage = exchange(llamacpp_server, "/v1/completions", PROMPT).json["usage"]
    assert predicted() - before == usage["completion_tokens"] == 6


@pytest.mark.vllm
def test_vllm_keeps_the_connection_after_a_stream(vllm_server: str) -> None:
    with Connection(vllm_server) as connection:
        first = connection.exchange("/v1/completions", PROMPT | STREAM)
        assert first.headers["transfer-encoding"] == "chunked"
        assert not connection.closed_by_server(within_s=1.0)
        assert connection.exchange("/v1/completions", PROMPT | STREAM).status == 200


@pytest.mark.vllm
def test_vllm_sends_an_event_a_token_and_one_with_usage(vllm_server: str, tokenizer: Tokenizer) -> None:
    answer = exchange(vllm_server, "/v1/completions", PROMPT | STREAM | {"ignore_eos": True, "return_token_ids": True})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.data[-1] == b"[DONE]"
    *tokens, last = answer.events
    assert [len(event["choices"][0]["token_ids"]) for event in tokens] == [1] * 6
    assert tokens[0]["choices"][0]["prompt_token_ids"] == tokenizer.encode(TEXTS[0]).ids
    assert tokens[-1]["choices"][0]["finish_reason"] == "length"
    assert last["choices"] == []
    assert last["usage"] == USAGE

    whole = exchange(vllm_server, "/v1/completions", PROMPT | {"ignore_eos": True}).json
    assert whole["choices"][0]["text"] == "".join(texts_of_choices(tokens))
    assert USAGE.items() <= whole["usage"].items()


@pytest.mark.vllm
def test_vllm_tokenizes_as_the_folder_does(vllm_server: str, tokenizer: Tokenizer) -> None:
    with Connection(vllm_server) as connection:
        for text in TEXTS + texts_of_random_ids(tokenizer):
            assert connection.exchange("/tokenize", {"prompt": text}).json["tokens"] == tokenizer.encode(text).ids, text


@pytest.mark.vllm
def test_vllm_chat_begins_with_an_empty_role_event(vllm_server: str) -> None:
    role, *tokens, usage = exchange(vllm_server, "/v1/chat/completions", CHAT | STREAM | {"ignore_eos": True}).events
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(tokens) == usage["usage"]["completion_tokens"] == 6
    assert usage["choices"] == []


@pytest.mark.vllm
def test_vllm_refuses_before_it_streams(vllm_server: str) -> None:
    long = exchange(vllm_server, "/v1/completions", PROMPT | STREAM | {"prompt": "word " * 2100})
    assert (long.status, long.headers["content-type"]) == (400, "application/json")
    unknown = exchange(vllm_server, "/v1/completions", PROMPT | STREAM | {"model": "no-such-model"})
    assert (unknown.status, unknown.json["error"]["type"]) == (404, "NotFoundError")


@pytest.mark.vllm
def test_vllm_has_no_prefix_cache_and_the_metrics_in_their_new_names(vllm_server: str) -> None:
    long = PROMPT | {"prompt": " ".join(TEXTS) * 2}
    for _ in range(2):
        assert exchange(vllm_server, "/v1/completions", long).status == 200
    metrics = exchange(vllm_server, "/metrics").body.decode()
    values = {line.rsplit(" ", 1)[0].split("{")[0]: line.rsplit(" ", 1)[1] for line in metrics.splitlines()}
    assert float(values["vllm:prefix_cache_queries_total"]) == 0
    assert float(values["vllm:generation_tokens_total"]) >= 12
    for name in ("time_to_first_token", "inter_token_latency", "request_time_per_output_token", "e2e_request_latency"):
        assert f"vllm:{name}_seconds_bucket" in values
    assert {"vllm:kv_cache_usage_perc", "vllm:num_requests_running", "vllm:num_requests_waiting"} <= values.keys()


@pytest.mark.vllm
def test_vllm_bench_measures_every_token(vllm_server: str, tmp_path: Path) -> None:
    with bench(vllm_server, tmp_path / "bench.log") as client:
        result = client.measure(input_tokens=64, output_tokens=16, requests=4, seed=0, concurrency=1)
    assert result.completed == len(result.ttft_ms) == 4
    assert (result.total_input_tokens, result.total_output_tokens) == (4 * 64, 4 * 16)
    assert min(result.ttft_ms + result.tpot_ms) > 0
