"""TGI. No real one runs here: the answers are spelled as its router's source has them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backends
from backends.base import BadAnswer, Options, Piece, Times, Unsupported
from tests.backend_cases import PROMPT, body_of, door, read, text_of

STREAM = door("tgi", stream=True)
WHOLE = door("tgi")


def token(text: str, index: int = 1, special: bool = False, **end: Any) -> bytes:
    made = {"id": 28723, "text": text, "logprob": -0.61, "special": special}
    event = {"index": index, "token": made, "generated_text": None, "details": None} | end
    return b"data:" + json.dumps(event).encode() + b"\n\n"


def parameters(**asked: Any) -> Any:
    body = body_of("tgi", **asked)
    assert body.pop("inputs") == PROMPT
    made = body.pop("parameters")
    assert not body
    return made


def test_requests() -> None:
    common = {"max_new_tokens": 9, "details": True}
    assert parameters() == common | {"do_sample": True}
    assert parameters(stream=True, temperature=0.7, top_k=5) == common | {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 5,
    }
    assert parameters(best_of=3) == common | {"do_sample": True, "best_of": 3}


def test_a_temperature_of_0_is_greedy() -> None:
    """TGI refuses 0, and with top_k among the parameters it would sample all the same."""
    assert parameters(temperature=0.0, top_k=5) == {"max_new_tokens": 9, "details": True, "do_sample": False}
    for endpoint in ("completions", "chat"):
        assert body_of("tgi", endpoint, temperature=0.0)["temperature"] == 0.0, "these doors take 0 for greedy"


@pytest.mark.parametrize(
    ("endpoint", "options", "flag"),
    [
        ("generate", Options(ignore_eos=True), "--ignore-eos"),
        ("generate", Options(use_beam_search=True), "--use-beam-search"),
        ("generate", Options(best_of=2, stream=True), "--best-of"),
        ("generate", Options(best_of=2, temperature=0.0), "--best-of"),
        ("completions", Options(best_of=2), "--best-of"),
        ("completions", Options(top_k=2), "--top-k"),
        ("chat", Options(ignore_eos=True), "--ignore-eos"),
    ],
)
def test_what_it_has_no_word_for(endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("tgi", endpoint, options)


def test_streaming_has_a_path_of_its_own() -> None:
    assert (WHOLE.here, STREAM.here) == ("/generate", "/generate_stream")
    assert backends.load("tgi").choose("generate_stream", Options(stream=True)).name == "generate"
    with pytest.raises(Unsupported):
        backends.load("tgi").choose("generate_stream", Options())


def test_a_stream() -> None:
    details = {"finish_reason": "eos_token", "generated_tokens": 4, "seed": None, "input_length": 6}
    body = (
        token(" Paris")
        + b":\n\n"  # the router's sign of life after 15 s of silence
        + token("", 2)  # the first token of a character that takes two
        + token("é", 3)
        + token("</s>", 4, special=True, generated_text=" Parisé", details=details)
    )
    first, second, third, last = pieces = read(STREAM, body)
    assert first == Piece(" Paris", True, 1)
    assert second == Piece("", True, 1)
    assert third == Piece("é", True, 1)
    assert last == Piece(" Parisé", True, 1, 4, 6, "eos_token", so_far=True)
    assert sum(piece.token_ids for piece in pieces) == last.total_output
    assert text_of(pieces) == " Parisé"


def test_a_special_token_counts_and_has_no_text() -> None:
    [piece] = read(STREAM, token("<|im_start|>", special=True))
    assert piece == Piece("", True, 1)


def test_an_answer_without_the_details() -> None:
    [last] = read(STREAM, token(".", generated_text=" Paris."))
    assert last == Piece(" Paris.", True, 1, finish="unknown", so_far=True)
    assert WHOLE.read(b'{"generated_text":" Paris."}') == Piece(" Paris.", True, finish="unknown")


def test_an_answer_that_is_not_streamed() -> None:
    details = {
        "finish_reason": "length",
        "generated_tokens": 2,
        "seed": 42,
        "prefill": [],
        "tokens": [
            {"id": 7042, "text": " Paris", "logprob": -0.2, "special": False},
            {"id": 30, "text": ".", "logprob": -0.4, "special": False},
        ],
    }
    body = json.dumps({"generated_text": " Paris.", "details": details}).encode()
    assert read(WHOLE, body) == [Piece(" Paris.", True, 0, 2, None, "length")]


HEADERS = {
    b"content-type": b"application/json",
    b"x-compute-type": b"1-nvidia-h100",
    b"x-compute-time": b"0.812",
    b"x-total-time": b"812",
    b"x-validation-time": b"1",
    b"x-queue-time": b"40",
    b"x-inference-time": b"771",
    b"x-time-per-token": b"35",
    b"x-prompt-tokens": b"6",
    b"x-generated-tokens": b"22",
}


def test_the_headers_tell_counts_and_times() -> None:
    times = Times(queue_ns=40_000_000, total_ns=812_000_000)
    assert WHOLE.read_head(HEADERS) == Piece(total_output=22, input_tokens=6, times=times)
    assert STREAM.read_head({b"x-compute-type": b"1-nvidia-h100", b"x-compute-characters": b"20"}) is None


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"6 ", b"NaN", b"\xff", b"1234567890", "٣".encode()])
def test_a_header_that_is_no_number_is_as_if_it_were_not_there(value: bytes) -> None:
    piece = WHOLE.read_head(HEADERS | {b"x-prompt-tokens": value})
    assert piece is not None
    assert (piece.input_tokens, piece.total_output) == (None, 22)


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.binary(max_size=30)))
def test_any_headers(headers: dict[bytes, bytes]) -> None:
    piece = WHOLE.read_head(headers)
    assert piece is None or (piece.total_output or 0) < 1 << 31


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", "validation"),
        ("Model is overloaded", "overloaded"),
        ("Request failed during generation: CUDA out of memory", "generation"),
    ],
)
def test_errors(error: str, kind: str) -> None:
    body = json.dumps({"error": error, "error_type": kind}).encode()
    assert read(STREAM, b"data:" + body + b"\n\n") == [Piece(error=error)]
    assert read(WHOLE, body) == [Piece(error=error)]
    assert read(door("tgi", "chat", stream=True), b"data:" + body + b"\n\n") == [Piece(error=error)]


@pytest.mark.parametrize(
    "payload",
    [
        b'[{"generated_text":"a"}]',
        b'{"index":1}',
        b'{"token":{"id":1}}',
        b'{"token":{"text":"a"}}',
        b'{"token":{"id":"a","text":"a"}}',
        b'{"generated_text":5}',
        b'{"generated_text":"a","details":{"generated_tokens":-1}}',
        b'{"generated_text":"a","details":{"input_length":2147483648}}',
        b"[DONE]",
    ],
)
def test_what_is_not_in_this_protocol(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        STREAM.read(payload)


def test_what_it_says_of_itself() -> None:
    backend = backends.load("tgi")
    info = b'{"model_id":"HuggingFaceH4/zephyr-7b","max_concurrent_requests":128,"version":"3.3.6","sha":null}'
    assert backend.read_models is not None and backend.read_version is not None
    assert backend.read_models(info) == ["HuggingFaceH4/zephyr-7b"]
    assert backend.read_version(info) == "3.3.6"
    with pytest.raises(BadAnswer):
        backend.read_models(b'{"version":"3.3.6"}')
