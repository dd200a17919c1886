"""What backends put on the wire, and what they make of what real servers sent (tests/data)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backends
from backends.base import BadAnswer, Options, Piece, Request, Unsupported
from backends.framing import sse_events
from backends.openai import read_event, served_models

DATA = Path(__file__).with_name("data")
REQUEST = Request(index=3, model="org/model", prompt='Say "é"\n', input_length=4, output_length=9)
STREAM = Options(stream=True)


def body_of(backend: str, endpoint: str, options: Options, request: Request = REQUEST) -> Any:
    _, door = backends.load(backend).door(endpoint, options)
    return json.loads(door.body(request))


def pieces_of(name: str) -> list[Piece]:
    return [read_event(payload) for _, payload in sse_events((DATA / name).read_bytes())]


def piece_of(name: str) -> Piece:
    return read_event((DATA / name).read_bytes())


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_plainest_request(backend: str) -> None:
    assert body_of(backend, "completions", Options()) == {"model": "org/model", "prompt": 'Say "é"\n', "max_tokens": 9}
    assert body_of(backend, "chat", Options()) == {
        "model": "org/model",
        "messages": [{"role": "user", "content": 'Say "é"\n'}],
        "max_tokens": 9,
    }


@pytest.mark.parametrize(
    ("backend", "wanted"),
    [("vllm", {"include_usage": True, "continuous_usage_stats": True}), ("openai", {"include_usage": True})],
)
@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_stream_is_asked_for_its_usage(backend: str, wanted: dict[str, bool], endpoint: str) -> None:
    body = body_of(backend, endpoint, STREAM)
    assert body["stream"] is True
    assert body["stream_options"] == wanted
    assert set(body) - set(body_of(backend, endpoint, Options())) == {"stream", "stream_options"}


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_what_only_vllm_has(endpoint: str) -> None:
    body = body_of("vllm", endpoint, replace(STREAM, ignore_eos=True, top_k=5, temperature=0.0))
    assert body["ignore_eos"] is True
    assert body["top_k"] == 5
    assert body["temperature"] == 0.0
    body = body_of("vllm", endpoint, Options(use_beam_search=True, best_of=4))
    assert (body["use_beam_search"], body["n"]) == (True, 4)
    assert "best_of" not in body


def test_what_openai_has() -> None:
    body = body_of("openai", "completions", Options(best_of=3, temperature=0.5))
    assert (body["best_of"], body["temperature"]) == (3, 0.5)


@pytest.mark.parametrize(
    ("backend", "endpoint", "options", "flag"),
    [
        ("openai", "completions", Options(ignore_eos=True), "--ignore-eos"),
        ("openai", "completions", Options(use_beam_search=True), "--use-beam-search"),
        ("openai", "completions", Options(top_k=1), "--top-k"),
        ("openai", "completions", Options(best_of=2, stream=True), "--best-of"),
        ("openai", "chat", Options(best_of=2), "--best-of"),
        ("vllm", "completions", Options(best_of=2), "--best-of"),
        ("vllm", "chat", Options(best_of=2), "--best-of"),
        ("vllm", "completions", Options(use_beam_search=True, stream=True), "--use-beam-search"),
        ("vllm", "chat", Options(use_beam_search=True, stream=True), "--use-beam-search"),
    ],
)
def test_a_setting_without_a_word_for_it_is_refused(backend: str, endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        backends.load(backend).door(endpoint, options)


@pytest.mark.parametrize("backend", backends.NAMES)
def test_extra_fields_go_into_every_body_and_win(backend: str) -> None:
    extra = {"min_tokens": 9, "stream_options": {"include_usage": False}, "logit_bias": {"50256": -100}}
    body = body_of(backend, "chat", replace(STREAM, extra_body=extra))
    assert {name: body[name] for name in extra} == extra
    assert body["stream"] is True


@given(st.text(st.characters(blacklist_categories=["Cs"])), st.integers(1, 1 << 20))
def test_any_prompt_survives_the_wire(prompt: str, length: int) -> None:
    request = replace(REQUEST, prompt=prompt, output_length=length)
    body = body_of("vllm", "completions", STREAM, request)
    assert (body["prompt"], body["max_tokens"]) == (prompt, length)
    assert body_of("vllm", "chat", STREAM, request)["messages"][0]["content"] == prompt


def test_doors_by_name_and_path() -> None:
    for backend in map(backends.load, backends.NAMES):
        for spelled in ("generate", "completions", "/v1/completions", "v1/completions", "/v1/completions/"):
            name, door = backend.door(spelled, STREAM)
            assert (name, door.path, door.framing) == ("completions", "/v1/completions", "sse")
        name, door = backend.door("/v1/chat/completions", Options())
        assert (name, door.path, door.framing) == ("chat", "/v1/chat/completions", "json")
        with pytest.raises(KeyError):
            backend.door("embeddings", Options())
    with pytest.raises(KeyError):
        backends.load("no-such-server")


# -- answers of real servers ------------------------------------------------------------------------------------------


def test_vllm_stream_with_usage_at_its_end() -> None:
    *told, usage, done = pieces_of("vllm/v1_completions_stream_usage.body")
    assert "".join(piece.text for piece in told) == " Paris.\n\nThe"
    assert all(piece.choice and piece.total_output is None and not piece.token_ids for piece in told)
    assert [piece.finish for piece in told] == [None, None, None, None, "length"]
    assert usage == Piece(total_output=5, input_tokens=5)
    assert done == Piece(last=True)


def test_vllm_stream_with_continuous_usage_and_token_ids() -> None:
    *told, usage, done = pieces_of("vllm/v1_completions_stream_continuous_usage_tokids.body")
    assert [piece.total_output for piece in told] == [1, 2, 3, 4]
    assert [piece.token_ids for piece in told] == [1, 1, 1, 1]
    assert {piece.input_tokens for piece in told} == {5}
    assert (usage.total_output, usage.choice, done.last) == (4, False, True)


def test_vllm_stream_with_several_tokens_an_event() -> None:
    *told, usage, _ = pieces_of("vllm/stream_interval4.body")
    assert [piece.token_ids for piece in told] == [1, 4, 4, 1]
    assert sum(piece.token_ids for piece in told) == usage.total_output == 10
    assert "".join(piece.text for piece in told) == " Paris.\n\nThe answer is: 2"


def test_vllm_usage_that_was_not_asked_for() -> None:
    *told, usage, _ = pieces_of("vllm/forced_usage_stream.body")
    assert [piece.total_output for piece in (*told, usage)] == [1, 2, 2]


def test_vllm_chat_begins_with_a_role() -> None:
    role, *told, usage, done = pieces_of("vllm/v1_chat_stream_usage.body")
    assert role == Piece(choice=True)
    assert [piece.text for piece in told] == ["I", "'m", " glad", " to"]
    assert told[-1].finish == "length"
    assert (usage.total_output, usage.input_tokens) == (4, 32)
    assert done.last


def test_the_killed_engine_of_vllm_says_so_in_its_stream() -> None:
    *told, error, done = pieces_of("vllm/engine_killed_midstream.body")
    assert all(piece.choice and piece.error is None and piece.finish is None for piece in told)
    assert error.error is not None and error.error.startswith("EngineCore encountered an issue.")
    assert done.last


def test_llamacpp_usage_rides_on_the_last_text_event() -> None:
    *told, done = pieces_of("llamacpp/v1_completions_stream_usage.body")
    assert [piece.text for piece in told] == [" Paris", ".", "\n", "\n", "The", ""]
    assert [piece.total_output for piece in told] == [None] * 5 + [5]
    assert told[-1].finish == "length" and done.last
    role, *told, end, usage, done = pieces_of("llamacpp/v1_chat_stream_usage.body")
    assert role == Piece(choice=True), "its content is null"
    assert "".join(piece.text for piece in told) == "I'm glad you're"
    assert (end.text, end.finish, usage.total_output, done.last) == ("", "length", 5, True)


def test_transformers_serve_has_no_end_mark() -> None:
    for name, tokens in (("v1_completions_stream", 5), ("v1_chat_stream", 4)):
        pieces = pieces_of(f"tserve/{name}.body")
        assert not any(piece.last for piece in pieces)
        assert pieces[-1].finish == "length"
        assert pieces[-1].total_output == tokens
        assert sum(bool(piece.text) for piece in pieces) == tokens
    assert pieces[0] == Piece(choice=True), "a role without content"


@pytest.mark.parametrize(
    ("name", "tokens", "prompt"),
    [
        ("vllm/v1_completions.body", 12, 5),
        ("vllm/v1_chat.body", 12, 32),
        ("llamacpp/v1_completions.body", 12, 5),
        ("llamacpp/v1_chat.body", 12, 32),
        ("tserve/v1_completions.body", 12, 5),
        ("tserve/v1_chat.body", 12, 32),
    ],
)
def test_answers_that_are_not_streamed(name: str, tokens: int, prompt: int) -> None:
    piece = piece_of(name)
    assert piece.text and piece.choice and piece.finish == "length"
    assert (piece.total_output, piece.input_tokens) == (tokens, prompt)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vllm/err_bad_model.body", "does not exist"),
        ("vllm/err_long_prompt.body", "context length"),
        ("llamacpp/err_404.body", "File Not Found"),
        ("llamacpp/err_long_prompt.body", "exceeds the available context size"),
    ],
)
def test_errors(name: str, words: str) -> None:
    error = piece_of(name).error
    assert error is not None and words in error


# -- other forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "piece"),
    [
        ('{"object":"text_completion","choices":[]}', Piece()),
        ('{"choices":null,"usage":{"prompt_tokens":1,"completion_tokens":2}}', Piece(total_output=2, input_tokens=1)),
        ('{"choices":[],"usage":null,"object":"chat.completion.chunk"}', Piece()),
        ('{"choices":[{"delta":null,"finish_reason":null}]}', Piece(choice=True)),
        ('{"choices":[{"delta":{}}],"usage":null}', Piece(choice=True)),
        ('{"choices":[{"delta":{"content":null},"finish_reason":"stop"}]}', Piece(choice=True, finish="stop")),
        ('{"choices":[{"text":"","token_ids":[7,8]}]}', Piece(choice=True, token_ids=2)),
        ('{"choices":[{"text":"a","token_ids":[]}]}', Piece(choice=True, text="a")),
        ('{"choices":[{"delta":{"reasoning_content":"hm"}}]}', Piece(choice=True, text="hm")),
        ('{"choices":[{"delta":{"reasoning":"hm","content":"a"}}]}', Piece(choice=True, text="hma")),
        ('{"choices":[{"message":{"content":"a","role":"assistant"}}]}', Piece(choice=True, text="a")),
        ('{"error":null,"choices":[{"text":"a"}]}', Piece(choice=True, text="a")),
        ('{"object":"error","message":"no","code":400}', Piece(error="no")),
        ('{"error":"no"}', Piece(error="no")),
        ('{"error":{"message":"no"}}', Piece(error="no")),
        ('{"error":{"code":7}}', Piece(error="{'code': 7}")),
        ("[DONE]", Piece(last=True)),
    ],
)
def test_events(payload: str, piece: Piece) -> None:
    assert read_event(payload.encode()) == piece


def test_tool_calls_are_tokens_too() -> None:
    piece = read_event(b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}')
    assert "arguments" in piece.text


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_finish_that_is_a_failure(reason: str) -> None:
    piece = read_event(b'{"choices":[{"text":"a","finish_reason":"%s"}]}' % reason.encode())
    assert piece.error == f"finish_reason {reason}"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b"{}",
        b'{"choices":[{"text":"a"}',
        b'{"choices":[{"text":5}]}',
        b'{"choices":[{"text":"\xff"}]}',
        b'{"choices":"a"}',
        b'{"text":"not this protocol"}',
        b'{"choices":[],"usage":{"completion_tokens":-1}}',
        b'{"choices":[],"usage":{"completion_tokens":99999999999}}',
    ],
)
def test_what_is_not_in_this_protocol(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_event(payload)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    for read in (read_event, served_models):
        try:
            read(payload)
        except BadAnswer:
            continue


def test_listings_of_models() -> None:
    assert served_models((DATA / "vllm/models.body").read_bytes()) == ["smollm2-135m"]
    assert served_models((DATA / "llamacpp/models.body").read_bytes()) == ["smollm2-135m"]
    assert served_models(b'{"data":[]}') == []
    bad = [(DATA / "tserve/models.body").read_bytes(), b"{}", b"[]", b'{"data":null}', b'{"data":[{"id":5}]}']
    for body in [*bad, b'{"data":{"a":1}}', b'{"data":[{"name":"a"}]}', b'{"data":[{"id":"\xff"}]}', b'{"data":["a"]}']:
        with pytest.raises(BadAnswer):
            served_models(body)
