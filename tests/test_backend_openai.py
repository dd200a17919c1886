"""OpenAI's doors: what is asked, and what is made of the events of all servers that speak it."""

import json
from typing import Any

import pytest

from backends.base import BadAnswer, Options, Piece, Unsupported
from backends.openai import read_event, served_models
from tests.backend_cases import DATA, PROMPT, REQUEST, body_of, door

MESSAGES = [{"role": "user", "content": PROMPT}]


def test_the_plainest_requests() -> None:
    completions = {"model": "org/model", "prompt": PROMPT, "max_tokens": 9}
    chat = {"model": "org/model", "messages": MESSAGES, "max_tokens": 9}
    for backend in ("openai", "vllm", "sglang", "llamacpp", "tgi", "naive_transformers"):
        assert body_of(backend, "completions") == completions
        assert body_of(backend, "chat") == chat


def test_the_bytes_of_a_request() -> None:
    made = door("openai", "completions", stream=True, temperature=0.0)
    assert (
        made.body(REQUEST)
        == (
            '{"model":"org/model","prompt":"Say \\"é\\"\\n","max_tokens":9,"temperature":0.0,"stream":true,'
            '"stream_options":{"include_usage":true}}'
        ).encode()
    )


def test_reasoning_models_have_another_word_for_the_length() -> None:
    assert body_of("openai", "reasoning") == {
        "model": "org/model",
        "messages": MESSAGES,
        "max_completion_tokens": 9,
    }


def test_a_stream_is_asked_for_its_usage() -> None:
    usage = {"include_usage": True}
    for backend, wanted in (
        ("openai", usage),
        ("llamacpp", usage),
        ("tgi", usage),
        ("naive_transformers", usage),
        ("vllm", usage | {"continuous_usage_stats": True}),
        ("sglang", usage | {"continuous_usage_stats": True}),
    ):
        for endpoint in ("completions", "chat"):
            body = body_of(backend, endpoint, stream=True)
            assert body == body_of(backend, endpoint) | {"stream": True, "stream_options": wanted}


def test_what_openai_has() -> None:
    body = body_of("openai", "completions", best_of=3, temperature=0.5)
    assert (body["best_of"], body["temperature"]) == (3, 0.5)


@pytest.mark.parametrize(
    ("endpoint", "options", "flag"),
    [
        ("completions", Options(ignore_eos=True), "--ignore-eos"),
        ("completions", Options(use_beam_search=True), "--use-beam-search"),
        ("completions", Options(top_k=1), "--top-k"),
        ("completions", Options(best_of=2, stream=True), "--best-of"),
        ("chat", Options(best_of=2), "--best-of"),
        ("reasoning", Options(best_of=2), "--best-of"),
    ],
)
def test_what_openai_has_no_word_for(endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("openai", endpoint, options)


CHOICE = Piece(choice=True)
HIDDEN = Piece(choice=True, hidden=True)


def choice(**fields: Any) -> bytes:
    return json.dumps({"choices": [fields]}).encode()


@pytest.mark.parametrize(
    ("payload", "piece"),
    [
        (b'{"object":"text_completion","choices":[]}', Piece()),
        (b'{"choices":null,"usage":{"prompt_tokens":1,"completion_tokens":2}}', Piece(total_output=2, input_tokens=1)),
        (b'{"choices":[],"usage":null,"object":"chat.completion.chunk"}', Piece()),
        (b'{"choices":[],"object":"","prompt_filter_results":[{"prompt_index":0}]}', Piece()),
        (choice(delta=None, finish_reason=None), CHOICE),
        (choice(delta={}), CHOICE),
        (choice(delta={"role": "assistant", "content": ""}), CHOICE),
        (choice(delta={"content": None}, finish_reason="stop"), CHOICE._replace(finish="stop")),
        (choice(text="", token_ids=[7, 8]), CHOICE._replace(token_ids=2)),
        (choice(text="a", token_ids=[]), CHOICE._replace(text="a")),
        (choice(message={"content": "a", "role": "assistant"}), CHOICE._replace(text="a")),
        (b'{"error":null,"choices":[{"text":"a"}]}', CHOICE._replace(text="a")),
        (choice(delta={"reasoning_content": "hm"}), HIDDEN._replace(text="hm")),
        (choice(delta={"reasoning": "hm", "reasoning_content": "hm"}), HIDDEN._replace(text="hm")),
        (choice(delta={"reasoning": "hm", "content": ""}), HIDDEN._replace(text="hm")),
        (choice(delta={"reasoning": "", "content": None}), CHOICE),
        (choice(delta={"reasoning": "hm", "content": "a"}), CHOICE._replace(text="hma")),
        (choice(message={"reasoning_content": "hm", "content": "a"}), CHOICE._replace(text="hma")),
        (choice(delta={"refusal": "I can't"}), CHOICE._replace(text="I can't")),
        (choice(delta={"content": None, "refusal": None}), CHOICE),
        (choice(delta={"tool_calls": [{"index": 0, "id": "c"}]}), CHOICE),
        (
            choice(delta={"tool_calls": [{"function": {"name": "sum", "arguments": ""}}]}),
            HIDDEN._replace(text="sum"),
        ),
        (
            choice(delta={"tool_calls": [{"function": {"arguments": '{"a"'}}, {"function": {"arguments": ":1"}}]}),
            HIDDEN._replace(text='{"a":1'),
        ),
        (b'{"object":"error","message":"no","code":400}', Piece(error="no")),
        (b'{"detail":"Not Found"}', Piece(error="Not Found")),
        (b"[DONE]", Piece(last=True)),
    ],
)
def test_events(payload: bytes, piece: Piece) -> None:
    assert read_event(payload) == piece


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_finish_that_is_a_failure(reason: str) -> None:
    piece = read_event(choice(text="a", finish_reason=reason))
    assert (piece.text, piece.finish, piece.error) == ("a", reason, f"finish_reason {reason}")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"text":"a"}',
        b'{"choices":[{"text":5}]}',
        b'{"choices":[{"text":"\xff"}]}',
        b'{"choices":"a"}',
        b'{"choices":[{"delta":{"tool_calls":[5]}}]}',
        b'{"text":"not this protocol"}',
        b'{"choices":[],"usage":{"completion_tokens":-1}}',
        b'{"choices":[],"usage":{"completion_tokens":99999999999}}',
    ],
)
def test_what_is_not_in_this_protocol(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_event(payload)


def test_listings_of_models() -> None:
    assert served_models((DATA / "vllm/models.body").read_bytes()) == ["smollm2-135m"]
    assert served_models((DATA / "llamacpp/models.body").read_bytes()) == ["smollm2-135m"]
    assert served_models(b'{"data":[]}') == []
    bad = [(DATA / "tserve/models.body").read_bytes(), b"{}", b"[]", b'{"data":null}', b'{"data":[{"id":5}]}']
    bad += [b'{"data":{"a":1}}', b'{"data":[{"name":"a"}]}', b'{"data":[{"id":"\xff"}]}', b'{"data":["a"]}']
    for body in [*bad, b'{"data":' + b"[" * 100_000]:
        with pytest.raises(BadAnswer):
            served_models(body)
