"""SGLang: its own door. No real one runs here: the answers are spelled as its source has them."""

import json
from typing import Any

import pytest

from backends.base import BadAnswer, Options, Piece, Times, Unsupported
from tests.backend_cases import PROMPT, body_of, door, read, text_of

STREAM = door("sglang", stream=True)
WHOLE = door("sglang")
LENGTH = {"type": "length", "length": 4}


def event(text: str, count: int, finish: Any = None, **meta: Any) -> bytes:
    ids = list(range(count))
    meta_info = {"id": "7f", "finish_reason": finish, "prompt_tokens": 6, "completion_tokens": count, **meta}
    return json.dumps({"text": text, "output_ids": ids, "meta_info": meta_info}).encode()


def test_requests() -> None:
    assert body_of("sglang") == {"text": PROMPT, "sampling_params": {"max_new_tokens": 9}}
    assert body_of("sglang", stream=True, ignore_eos=True, top_k=5, temperature=0.0) == {
        "text": PROMPT,
        "sampling_params": {"max_new_tokens": 9, "temperature": 0.0, "top_k": 5, "ignore_eos": True},
        "stream": True,
    }
    body = body_of("sglang", extra_body={"sampling_params": {"min_p": 0.1}})
    assert body["sampling_params"] == {"max_new_tokens": 9, "min_p": 0.1}


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_openai_doors_have_its_words_too(endpoint: str) -> None:
    body = body_of("sglang", endpoint, ignore_eos=True, top_k=5, temperature=0.5)
    assert (body["ignore_eos"], body["top_k"], body["temperature"]) == (True, 5, 0.5)


@pytest.mark.parametrize("endpoint", ["generate", "completions", "chat"])
@pytest.mark.parametrize(
    ("options", "flag"), [(Options(best_of=2), "--best-of"), (Options(use_beam_search=True), "--use-beam-search")]
)
def test_what_it_has_no_word_for(endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("sglang", endpoint, options)


def test_a_stream_has_the_text_up_to_now() -> None:
    payloads = [event(" Par", 1), event(" Paris.", 3), event(" Paris.\n", 4, LENGTH, e2e_latency=0.25), b"[DONE]"]
    body = b"".join(b"data: " + payload + b"\n\n" for payload in payloads)
    first, second, last, done = read(STREAM, body)
    assert first == Piece(" Par", True, 0, 1, 6, so_far=True)
    assert (second.total_output, second.so_far) == (3, True)
    assert last == Piece(" Paris.\n", True, 0, 4, 6, "length", so_far=True, times=Times(total_ns=250_000_000))
    assert done == Piece(last=True)
    assert text_of([first, second, last, done]) == " Paris.\n"


def test_an_answer_that_is_not_streamed() -> None:
    [piece] = read(WHOLE, event(" Paris.\n", 4, {"type": "stop", "matched": 2}, e2e_latency=0.031))
    assert piece == Piece(" Paris.\n", True, 4, 4, 6, "stop", times=Times(total_ns=31_000_000))


def test_older_versions_have_a_bare_finish_reason_and_no_ids() -> None:
    payload = b'{"text":"a","meta_info":{"prompt_tokens":6,"completion_tokens":1,"finish_reason":"length"}}'
    assert WHOLE.read(payload) == Piece("a", True, 0, 1, 6, "length")


def test_a_server_without_a_tokenizer_sends_ids_only() -> None:
    payload = b'{"output_ids":[5,6],"meta_info":{"prompt_tokens":6,"completion_tokens":2,"finish_reason":null}}'
    assert WHOLE.read(payload) == Piece("", True, 2, 2, 6)


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        ({"type": "abort", "message": "Aborted by the scheduler", "status_code": 503}, "Aborted by the scheduler"),
        ({"type": "abort"}, "finish_reason abort"),
        ("abort", "finish_reason abort"),
    ],
)
def test_an_abort_is_an_error(finish: Any, message: str) -> None:
    piece = STREAM.read(event("a", 1, finish))
    assert (piece.finish, piece.error) == ("abort", message)


def test_errors() -> None:
    assert STREAM.read(b'{"error":{"message":"The input (9000 tokens) is longer"}}').error == (
        "The input (9000 tokens) is longer"
    )
    assert WHOLE.read(b'{"object":"error","message":"no","code":400}').error == "no"


@pytest.mark.parametrize(
    "payload",
    [
        b'[{"text":"a"}]',
        b'{"meta_info":{}}',
        b'{"text":5}',
        b'{"text":"a","output_ids":["a"]}',
        b'{"text":"a","meta_info":{"completion_tokens":-1}}',
        b'{"text":"a","meta_info":{"prompt_tokens":4294967296}}',
        b'{"text":"a","meta_info":{"e2e_latency":-0.1}}',
        b'{"text":"a","meta_info":{"e2e_latency":1e300}}',
        b'{"text":"a","meta_info":{"finish_reason":5}}',
    ],
)
def test_what_is_not_in_this_protocol(payload: bytes) -> None:
    for made in (STREAM, WHOLE):
        with pytest.raises(BadAnswer):
            made.read(payload)
