"""TensorRT-LLM on Triton, on what a real Triton sent (2.51, tests/data/triton)."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backends
from backends.base import BadAnswer, Door, Options, Piece, Times, Unsupported
from tests.backend_cases import DATA, PROMPT, REQUEST, body_of, door, on_file, text_of

STREAM = door("tensorrt_llm_triton", stream=True)
WHOLE = door("tensorrt_llm_triton")
COMMON = {"text_input": PROMPT, "max_tokens": 9, "bad_words": "", "stop_words": "", "exclude_input_in_output": True}
COUNTED = {"return_num_input_tokens": True, "return_num_output_tokens": True}
TEXT = st.text(st.characters(blacklist_categories=["Cs"]))


def test_requests() -> None:
    assert body_of("tensorrt_llm_triton") == COMMON | COUNTED | {"stream": False}
    body = body_of("tensorrt_llm_triton", stream=True, ignore_eos=True, top_k=5, temperature=0.5)
    sampling = {"top_k": 5, "temperature": 0.5, "min_length": 9, "min_tokens": 9}
    assert body == COMMON | COUNTED | {"stream": True} | sampling


def test_the_count_of_a_beam_search_is_that_of_all_beams_and_not_asked_for() -> None:
    body = body_of("tensorrt_llm_triton", use_beam_search=True, best_of=4)
    assert body == COMMON | {"stream": False, "beam_width": 4}


@pytest.mark.parametrize(
    ("options", "flag"),
    [(Options(best_of=2), "--best-of"), (Options(use_beam_search=True, stream=True), "--use-beam-search")],
)
def test_what_it_has_no_word_for(options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("tensorrt_llm_triton", "generate", options)


def test_the_model_is_in_the_path() -> None:
    backend = backends.load("tensorrt_llm_triton")
    assert backend.default_model == "ensemble"
    assert backend.choose("generate", Options()).path_for("ensemble") == "/v2/models/ensemble/generate"
    streamed = backend.choose("generate", Options(stream=True))
    assert streamed.path_for("org/model") == "/v2/models/org%2Fmodel/generate_stream"
    either = backend.choose("/v2/models/llama/generate", Options(stream=True))
    assert (either.path_for("ensemble"), either.model) == ("/v2/models/llama/generate_stream", "llama")
    elsewhere = backend.choose("generate=/x/{model}/y", Options())
    assert (elsewhere.path_for("a b"), elsewhere.model) == ("/x/a%20b/y", None)
    chosen = backend.choose("v2/models/tensorrt_llm_bls/generate_stream", Options(stream=True))
    assert chosen.path_for("ensemble") == "/v2/models/tensorrt_llm_bls/generate_stream"


def test_a_stream_has_neither_count_nor_end() -> None:
    pieces = on_file(STREAM, "triton/generate_stream.body")
    assert pieces == [Piece(f" tok{place}", choice=True) for place in range(4)]
    assert text_of(pieces) == " tok0 tok1 tok2 tok3"
    assert not STREAM.marks_end


@pytest.mark.parametrize(
    ("made", "name", "tokens"),
    [(WHOLE, "generate", 5), (WHOLE, "generate_beam_width", 5), (STREAM, "generate_stream_nostreamflag", 4)],
)
def test_an_answer_that_begins_with_the_prompt(made: Door, name: str, tokens: int) -> None:
    [piece] = on_file(made, f"triton/{name}.body")
    assert piece == Piece("What is ML?" + "".join(f" tok{place}" for place in range(tokens)), choice=True)
    assert made.echoes
    request = made.body(replace(REQUEST, prompt="What is ML?"))
    assert made.own_text(request, piece.text) == piece.text.removeprefix("What is ML?")
    other = made.body(replace(REQUEST, prompt="What is it?"))
    assert made.own_text(other, piece.text) == piece.text


@given(prompt=TEXT, text=TEXT)
def test_an_echo_is_cut_off_once(prompt: str, text: str) -> None:
    body = WHOLE.body(replace(REQUEST, prompt=prompt))
    assert WHOLE.own_text(body, prompt + text) == text
    assert WHOLE.own_text(body, prompt + prompt + text) == prompt + text


def test_counts_are_of_a_response() -> None:
    """Of a stream each response tells its own, and of an answer in one that is all."""
    payload = b'{"num_input_tokens":3,"num_output_tokens":2,"output_log_probs":[0.0,0.0],"text_output":" the of"}'
    assert STREAM.read(payload) == Piece(" the of", True, 2, None, 3)
    assert WHOLE.read(payload) == Piece(" the of", True, 0, 2, 3)


def test_beams_come_as_a_list_the_best_first() -> None:
    assert WHOLE.read(b'{"text_output":["best","second"]}') == Piece("best", choice=True)
    assert WHOLE.read(b'{"text_output":[]}') == Piece("", choice=True)


CLOCKS = {
    "arrival_time_ns": 1_000,
    "first_scheduled_time_ns": 1_400,
    "first_token_time_ns": 2_000,
    "last_token_time_ns": 9_000,
}


def test_the_servers_own_times() -> None:
    answer = {"text_output": "a", **CLOCKS}
    assert WHOLE.read(json.dumps(answer).encode()).times == Times(400, 600, 7_000, 8_000)
    for wrong in ({"arrival_time_ns": None}, {"last_token_time_ns": 1_999}, dict.fromkeys(CLOCKS, 0)):
        assert WHOLE.read(json.dumps(answer | wrong).encode()).times is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("generate_multi_response_error", "generate expects model to produce exactly 1 response"),
        ("err_backend", "prompt too long"),
        ("err_bad_dtype", "attempt to access JSON non-signed-integer as signed-integer"),
        ("err_bad_model", "Request for unknown model: 'nope' is not found"),
        ("err_bad_model_stream", "Request for unknown model: 'nope' is not found"),
        ("err_malformed", "failed to parse the request JSON buffer"),
        ("err_missing_input", "missing required input(s) ['max_tokens']"),
    ],
)
def test_errors(name: str, message: str) -> None:
    """The first comes with status 200."""
    [piece] = on_file(WHOLE, f"triton/{name}.body")
    assert piece.error is not None and message in piece.error and not piece.choice


def test_an_error_as_an_event() -> None:
    assert on_file(STREAM, "triton/err_backend_stream.body") == [Piece(error="prompt too long")]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"text_output":5}',
        b'{"text_output":[5]}',
        b'{"model_name":"ensemble"}',
        b'{"text_output":"a","num_output_tokens":-1}',
        b'{"text_output":"a","num_output_tokens":[3]}',
        b'{"text_output":"a","arrival_time_ns":-1}',
        b"[DONE]",
    ],
)
def test_what_is_not_in_this_protocol(payload: bytes) -> None:
    for made in (STREAM, WHOLE):
        with pytest.raises(BadAnswer):
            made.read(payload)


def test_what_it_says_of_itself() -> None:
    backend = backends.load("tensorrt_llm_triton")
    assert backend.read_version is not None
    assert backend.read_version((DATA / "triton/server_meta.body").read_bytes()) == "2.51.0"


def test_a_request_that_the_user_has_made_his_own_is_no_error() -> None:
    made = backends.load("tensorrt_llm_triton").doors["generate"](Options(extra_body={"text_input": ["a"]}))
    assert made.own_text(made.body(REQUEST), "a b") == "a b"
