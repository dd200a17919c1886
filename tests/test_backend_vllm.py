"""vLLM: its own words, and what a real one sent (0.32, tests/data/vllm)."""

import pytest

from backends.base import Options, Piece, Unsupported
from tests.backend_cases import body_of, door, on_file, text_of

STREAM = door("vllm", "completions", stream=True)
WHOLE = door("vllm", "completions")


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_what_only_vllm_has(endpoint: str) -> None:
    body = body_of("vllm", endpoint, stream=True, ignore_eos=True, top_k=5, temperature=0.0)
    assert body["ignore_eos"] is True
    assert (body["top_k"], body["temperature"]) == (5, 0.0)
    body = body_of("vllm", endpoint, use_beam_search=True, best_of=4)
    assert (body["use_beam_search"], body["n"]) == (True, 4)
    assert "best_of" not in body


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize(
    ("options", "flag"),
    [(Options(best_of=2), "--best-of"), (Options(use_beam_search=True, stream=True), "--use-beam-search")],
)
def test_what_vllm_has_no_word_for(endpoint: str, options: Options, flag: str) -> None:
    with pytest.raises(Unsupported, match=rf"^{flag} has no counterpart in .+"):
        door("vllm", endpoint, options)


def test_a_stream_with_usage_at_its_end() -> None:
    *told, usage, done = on_file(STREAM, "vllm/v1_completions_stream_usage.body")
    assert text_of(told) == " Paris.\n\nThe"
    assert all(piece.choice and piece.total_output is None and not piece.token_ids for piece in told)
    assert [piece.finish for piece in told] == [None, None, None, None, "length"]
    assert usage == Piece(total_output=5, input_tokens=5)
    assert done == Piece(last=True)


def test_a_stream_without_usage() -> None:
    *told, done = on_file(STREAM, "vllm/v1_completions_stream_no_usage.body")
    assert [piece.text for piece in told] == [" Paris", "."]
    assert told[-1].finish == "length" and done.last
    assert all(piece.total_output is None for piece in told)


def test_a_stream_with_continuous_usage_and_token_ids() -> None:
    *told, usage, done = on_file(STREAM, "vllm/v1_completions_stream_continuous_usage_tokids.body")
    assert [piece.total_output for piece in told] == [1, 2, 3, 4]
    assert [piece.token_ids for piece in told] == [1, 1, 1, 1]
    assert {piece.input_tokens for piece in told} == {5}
    assert (usage.total_output, usage.choice, done.last) == (4, False, True)


def test_a_stream_with_several_tokens_an_event() -> None:
    *told, usage, _ = on_file(STREAM, "vllm/stream_interval4.body")
    assert [piece.token_ids for piece in told] == [1, 4, 4, 1]
    assert sum(piece.token_ids for piece in told) == usage.total_output == 10
    assert text_of(told) == " Paris.\n\nThe answer is: 2"


def test_usage_that_was_not_asked_for() -> None:
    *told, usage, _ = on_file(STREAM, "vllm/forced_usage_stream.body")
    assert [piece.total_output for piece in (*told, usage)] == [1, 2, 2]


def test_a_chat_begins_with_a_role() -> None:
    role, *told, usage, done = on_file(door("vllm", "chat", stream=True), "vllm/v1_chat_stream_usage.body")
    assert role == Piece(choice=True)
    assert [piece.text for piece in told] == ["I", "'m", " glad", " to"]
    assert told[-1].finish == "length"
    assert (usage.total_output, usage.input_tokens) == (4, 32)
    assert done.last


def test_an_engine_that_was_killed_says_so_in_its_stream() -> None:
    *told, error, done = on_file(STREAM, "vllm/engine_killed_midstream.body")
    assert len(told) > 50 and told[-1].text == "th"
    assert all(piece.choice and piece.text and piece.error is None and piece.finish is None for piece in told)
    assert error == Piece(
        error="EngineCore encountered an issue. See stack trace (above) for the root cause.",
    )
    assert done == Piece(last=True)


@pytest.mark.parametrize(
    ("name", "text", "tokens", "prompt"),
    [
        ("v1_completions", " Paris.\n\nThe answer is: 201", 12, 5),
        ("v1_chat", "I'm glad to meet you. I'm here to help", 12, 32),
        ("v1_completions_token_ids", " Paris.\n\nThe answer", 6, 5),
        ("v1_completions_prompt_token_ids", " Paris.", 2, 5),
    ],
)
def test_answers_that_are_not_streamed(name: str, text: str, tokens: int, prompt: int) -> None:
    [piece] = on_file(WHOLE, f"vllm/{name}.body")
    ids = 6 if name.endswith("completions_token_ids") else 0
    assert piece == Piece(text, True, ids, tokens, prompt, "length")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("err_404", "Not Found"),
        ("err_bad_model", "The model `nope` does not exist. Valid aliases: smollm2-135m."),
        ("err_bad_model_stream", "The model `nope` does not exist. Valid aliases: smollm2-135m."),
        ("err_bad_type", "1 validation error:\n  {'type': 'int_parsing', "),
        ("err_long_prompt", "context length"),
        ("err_long_prompt_stream", "context length"),
        ("err_malformed", "JSON decode error"),
        ("err_max_tokens_over", "max_tokens=5000 cannot be greater than max_model_len=2048"),
    ],
)
def test_errors(name: str, message: str) -> None:
    [piece] = on_file(WHOLE, f"vllm/{name}.body")
    assert piece.error is not None and message in piece.error
    assert not piece.choice
