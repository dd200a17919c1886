"""llama.cpp: its own door and OpenAI's, on what a real one sent (tests/data/llamacpp)."""

import pytest

import backends
from backends.base import BadAnswer, Options, Piece, Times, Unsupported
from tests.backend_cases import PROMPT, body_of, door, on_file, text_of

STREAM = door("llamacpp", stream=True)
WHOLE = door("llamacpp")


def times(prefill_ns: int, decode_ns: int) -> Times:
    return Times(prefill_ns=prefill_ns, decode_ns=decode_ns)


def test_requests() -> None:
    assert body_of("llamacpp") == {"model": "org/model", "prompt": PROMPT, "n_predict": 9}
    assert body_of("llamacpp", stream=True, ignore_eos=True, top_k=5, temperature=0.0) == {
        "model": "org/model",
        "prompt": PROMPT,
        "n_predict": 9,
        "temperature": 0.0,
        "top_k": 5,
        "ignore_eos": True,
        "stream": True,
    }
    for endpoint in ("completions", "chat"):
        body = body_of("llamacpp", endpoint, ignore_eos=True, top_k=5, temperature=0.5)
        assert (body["ignore_eos"], body["top_k"], body["temperature"]) == (True, 5, 0.5)


@pytest.mark.parametrize("endpoint", ["completion", "completions", "chat"])
@pytest.mark.parametrize(
    ("options", "flag"), [(Options(best_of=2), "--best-of"), (Options(use_beam_search=True), "--use-beam-search")]
)
def test_what_it_has_no_word_for(endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("llamacpp", endpoint, options)


def test_the_native_stream() -> None:
    *told, end = on_file(STREAM, "llamacpp/completion_native_stream.body")
    assert [piece.text for piece in told] == [" Paris", ".", "\n", "\n", "The", " United"]
    assert told[1] == Piece(".", True, 0, 2, 5)
    assert [piece.total_output for piece in told] == [1, 2, 3, 4, 5, 6]
    assert end == Piece("", True, 0, 6, 5, "limit", times=times(18_608_000, 476_022_000), cached_tokens=4)


def test_the_native_stream_with_times_on_every_event() -> None:
    *told, end = on_file(STREAM, "llamacpp/completion_native_stream_tokens_ignoreeos.body")
    assert text_of([*told, end]) == " Paris.\n\nThe United"
    assert [piece.total_output for piece in told] == [1, 2, 3, 4, 5, 6]
    assert told[0].times == times(1_051_858_000, 1_000)
    assert (end.finish, end.times) == ("limit", times(1_051_858_000, 136_740_000))


def test_a_character_of_several_tokens_comes_with_one_id() -> None:
    """A real server's events for "🤯", three tokens: the ids of the first two are in no event."""
    begin = '{"index":0,"content":"🤯","tokens":[124],"stop":false,"id_slot":-1,"tokens_predicted":'
    counts = [STREAM.read((begin + f'{count},"tokens_evaluated":3}}').encode()).total_output for count in (3, 6)]
    assert counts == [3, 6]


def test_a_native_answer_that_is_not_streamed() -> None:
    [piece] = on_file(WHOLE, "llamacpp/completion_native.body")
    text = " Paris.\n\nThe United States has a population of approximately"
    assert piece == Piece(text, True, 0, 12, 5, "limit", times=times(2_865_873_000, 5_963_667_000), cached_tokens=0)


def test_usage_rides_on_the_last_text_event() -> None:
    made = door("llamacpp", "completions", stream=True)
    *told, done = on_file(made, "llamacpp/v1_completions_stream_usage.body")
    assert [piece.text for piece in told] == [" Paris", ".", "\n", "\n", "The", ""]
    assert [piece.total_output for piece in told] == [None] * 5 + [5]
    assert [piece.times for piece in told] == [None] * 5 + [times(30_322_000, 634_343_000)]
    assert told[-1].finish == "length" and done == Piece(last=True)


def test_usage_of_a_chat_comes_by_itself() -> None:
    role, *told, end, usage, done = on_file(door("llamacpp", "chat", stream=True), "llamacpp/v1_chat_stream_usage.body")
    assert role == Piece(choice=True), "its content is null"
    assert text_of(told) == "I'm glad you're"
    assert end == Piece(choice=True, finish="length")
    assert usage == Piece(total_output=5, input_tokens=32, times=times(7_387_000, 50_956_000), cached_tokens=31)
    assert done == Piece(last=True)


@pytest.mark.parametrize(
    ("endpoint", "name", "text", "tokens", "prompt", "cached", "took"),
    [
        (
            "completions",
            "v1_completions",
            " Paris.\n\nThe United States has a population of approximately",
            12,
            5,
            4,
            times(143_069_000, 4_816_718_000),
        ),
        ("chat", "v1_chat", "I'm glad you're here! I'm here to help", 12, 32, 0, times(468_291_000, 723_633_000)),
        ("completions", "err_bad_model", " the function", 2, 1, 0, times(11_210_000, 6_197_000)),
    ],
)
def test_answers_that_are_not_streamed(
    endpoint: str, name: str, text: str, tokens: int, prompt: int, cached: int, took: Times
) -> None:
    """A wrong model's name is no error to this server."""
    [piece] = on_file(door("llamacpp", endpoint), f"llamacpp/{name}.body")
    assert piece == Piece(text, True, 0, tokens, prompt, "length", times=took, cached_tokens=cached)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("err_404", "File Not Found"),
        ("err_long_prompt", "request (6001 tokens) exceeds the available context size (2048 tokens)"),
        ("err_long_prompt_stream", "request (6001 tokens) exceeds the available context size (2048 tokens)"),
        ("err_malformed", "parse error"),
    ],
)
@pytest.mark.parametrize("endpoint", ["completion", "completions", "chat"])
def test_errors(name: str, message: str, endpoint: str) -> None:
    [piece] = on_file(door("llamacpp", endpoint), f"llamacpp/{name}.body")
    assert piece.error is not None and message in piece.error


def test_a_text_that_speaks_of_timings() -> None:
    payload = rb'{"choices":[{"text":"\"timings\": {\"prompt_ms\":5}","finish_reason":null}]}'
    piece = door("llamacpp", "completions", stream=True).read(payload)
    assert (piece.text, piece.times) == ('"timings": {"prompt_ms":5}', None)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"content":5}',
        b'{"content":"a","tokens_predicted":-1}',
        b'{"content":"a","timings":{"prompt_ms":-1}}',
        b'{"content":"a","timings":{"predicted_ms":1e12}}',
        b'{"content":"a","timings":[]}',
        b'{"tokens":[1]}',
        b"[DONE]",
    ],
)
def test_what_is_not_in_its_protocol(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        STREAM.read(payload)


def test_broken_timings_beside_usage() -> None:
    with pytest.raises(BadAnswer):
        door("llamacpp", "completions").read(b'{"choices":[{"text":"a"}],"timings":{"prompt_ms":"soon"}}')


def test_what_it_says_of_itself() -> None:
    backend = backends.load("llamacpp")
    assert backend.read_version is not None and backend.read_models is not None
    assert backend.read_version(b'{"build_info":"b6123-abc","model_alias":"x"}') == "b6123-abc"
    assert backend.read_version(b"{}") is None
