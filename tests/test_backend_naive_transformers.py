"""Transformers without an engine: the predict door and its echoes; `transformers serve` on what a real one sent."""

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import backends
from backends.base import BadAnswer, Options, Piece, Unsupported
from tests.backend_cases import DATA, PROMPT, REQUEST, body_of, door, on_file, text_of

PREDICT = door("naive_transformers")
TEXT = st.text(st.characters(blacklist_categories=["Cs"]))
END = "\nOutput:\n"


def own(prompt: str, text: str) -> str:
    return PREDICT.own_text(PREDICT.body(replace(REQUEST, prompt=prompt)), text)


def test_requests() -> None:
    assert body_of("naive_transformers") == {"instances": [{"prompt": PROMPT, "max_length": 9}]}
    assert body_of("naive_transformers", top_k=5) == {"instances": [{"prompt": PROMPT, "max_length": 9, "top_k": 5}]}


@pytest.mark.parametrize(
    ("endpoint", "options", "flag"),
    [
        ("predict", Options(stream=True), "--stream-request"),
        ("predict", Options(ignore_eos=True), "--ignore-eos"),
        ("predict", Options(temperature=0.5), "--temperature"),
        ("completions", Options(ignore_eos=True), "--ignore-eos"),
        ("completions", Options(best_of=2), "--best-of"),
        ("chat", Options(top_k=2), "--top-k"),
    ],
)
def test_what_it_has_no_word_for(endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("naive_transformers", endpoint, options)


@pytest.mark.parametrize(
    "predictions", [[[{"generated_text": "a\nb"}]], [{"generated_text": "a\nb"}], ["a\nb"], ["a\nb", "c"]]
)
def test_predictions_come_in_several_forms(predictions: object) -> None:
    assert PREDICT.read(json.dumps({"predictions": predictions}).encode()) == Piece("a\nb", choice=True)


@pytest.mark.parametrize("predictions", [[], [[]], [""]])
def test_nothing_was_predicted(predictions: object) -> None:
    assert PREDICT.read(json.dumps({"predictions": predictions}).encode()) == Piece(choice=True)


@given(prompt=TEXT, text=TEXT)
@example(prompt="Output:", text="Output:")
@example(prompt=END, text=END)
@example(prompt="a" + END + "b", text="c" + END + "d")
@example(prompt="", text="")
@example(prompt="\nOutput:", text="\nOutput:\n")
@example(prompt="Prompt:\n", text="Prompt:\nPrompt:\n")
def test_an_echo_is_cut_off_once_and_exactly(prompt: str, text: str) -> None:
    assert own(prompt, f"Prompt:\n{prompt}{END}{text}") == text


@given(prompt=TEXT, text=TEXT)
@example(prompt="", text="One" + END + "two")
@example(prompt="One", text="One" + END + "two")
def test_a_text_without_an_echo_stays(prompt: str, text: str) -> None:
    if not text.startswith(f"Prompt:\n{prompt}"):
        assert own(prompt, text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Prompt:\nHi\nOutput:\nyes\nOutput:\nno", "yes\nOutput:\nno"),
        ("Prompt:\nHi there\nOutput:\nyes", "yes"),
        ("Prompt:\nHi", "Prompt:\nHi"),
        ("Prompt:\nHi\nOutput:", "Prompt:\nHi\nOutput:"),
        ("Prompt:\nHi\nOutput:\n", ""),
        ("Prompt:\nHo\nOutput:\nyes", "Prompt:\nHo\nOutput:\nyes"),
    ],
)
def test_echoes(text: str, left: str) -> None:
    assert PREDICT.echoes
    assert own("Hi", text) == left


def test_errors_of_a_predict_server() -> None:
    torchserve = b'{"code":503,"type":"InternalServerException","message":"Prediction failed"}'
    assert PREDICT.read(torchserve) == Piece(error="Prediction failed")
    for payload in (b'{"predictions":{}}', b'{"predictions":[5]}', b'{"predictions":[{"text":"a"}]}', b'["a"]'):
        with pytest.raises(BadAnswer):
            PREDICT.read(payload)


@pytest.mark.parametrize(
    ("endpoint", "name", "texts", "prompt"),
    [
        ("completions", "v1_completions_stream", [" Paris", ".", "\n", "\n", "The", ""], 5),
        ("completions", "v1_completions_stream_min", [" Paris", ".", "\n", "\n", "The", ""], 5),
        ("chat", "v1_chat_stream", ["", "I", "'m", " glad", " to", ""], 32),
    ],
)
def test_a_stream_ends_without_a_mark_and_has_usage(endpoint: str, name: str, texts: list[str], prompt: int) -> None:
    *told, end = on_file(door("naive_transformers", endpoint, stream=True), f"tserve/{name}.body")
    assert told == [Piece(text, choice=True) for text in texts[:-1]]
    assert end == Piece("", True, 0, sum(map(bool, texts)), prompt, "length")
    assert text_of([*told, end]) == "".join(texts)


@pytest.mark.parametrize("name", ["v1_completions_stream", "v1_chat_stream"])
def test_it_takes_what_is_asked_of_a_stream(name: str) -> None:
    """A recorded request that it answered with 200 has all our fields; another one (`ignore_eos`) got 422."""
    recorded = json.loads((DATA / f"tserve/{name}.request.json").read_bytes())
    body = body_of("naive_transformers", "chat" if "chat" in name else "completions", stream=True)
    assert set(body) <= set(recorded)
    assert body["stream_options"] == recorded["stream_options"]


@pytest.mark.parametrize(
    ("endpoint", "name", "text", "tokens", "prompt"),
    [
        ("completions", "v1_completions", " Paris.\n\nThe answer is: 201", 12, 5),
        ("completions", "err_long_prompt", "1\n", 2, 9001),
        ("chat", "v1_chat", "I'm glad to meet you. I'm here to help", 12, 32),
    ],
)
def test_answers_that_are_not_streamed(endpoint: str, name: str, text: str, tokens: int, prompt: int) -> None:
    """A prompt beyond the model's context is no error to this server."""
    [piece] = on_file(door("naive_transformers", endpoint), f"tserve/{name}.body")
    assert piece == Piece(text, True, 0, tokens, prompt, "length")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("err_bad_model", "Server is pinned to 'models/smollm2-hf'; requested 'nope'."),
        ("err_malformed", "JSON decode error"),
        ("err_unknown_field", "Unexpected fields in the request: {'ignore_eos'}"),
    ],
)
def test_errors_of_transformers_serve(name: str, message: str) -> None:
    [piece] = on_file(door("naive_transformers", "completions"), f"tserve/{name}.body")
    assert piece.error is not None and message in piece.error


def test_each_kind_of_server_has_its_own_health() -> None:
    backend = backends.load("naive_transformers")
    assert {name: make.health_path or backend.health_path for name, make in backend.doors.items()} == {
        "predict": "/ping",
        "completions": "/health",
        "chat": "/health",
    }


def test_a_request_that_the_user_has_made_his_own_is_no_error() -> None:
    made = backends.load("naive_transformers").doors["predict"](Options(extra_body={"instances": "hello"}))
    assert made.own_text(made.body(REQUEST), "Prompt:\nhello\nOutput:\nx") == "Prompt:\nhello\nOutput:\nx"
    assert made.own_text(b"", "x") == "x"
