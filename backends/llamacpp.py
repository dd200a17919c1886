"""llama.cpp's server: its native POST /completion (default), and its OpenAI doors.

Source: llama.cpp's tools/server, and what it really sends (tests/data/llamacpp). Every event of the native stream has
`tokens_predicted`, the count up to now. Its list `tokens` is not counted: a token that ends inside a character comes
with no event of its own, and its id is in none. The last event has the server's own times, in every door. There is no
end mark: `stop` is.
"""

import dataclasses
from typing import Any, ClassVar

import msgspec

from backends import openai
from backends.base import Backend, BadAnswer, Options, Piece, Request, Times, Traits, json_field
from backends.json_door import Count, JsonDoor, Milliseconds, decode, error_text, ns

_MILLISECOND = 1_000_000
_TRAITS = Traits(
    settings=frozenset({"ignore_eos", "top_k", "temperature"}),
    exact_length=True,
    counts="usage, tokenizer",
    verified="llama.cpp (xllamacpp 2026.10.11549)",
)


class _Timings(msgspec.Struct):
    prompt_ms: Milliseconds | None = None
    predicted_ms: Milliseconds | None = None
    predicted_n: Count | None = None
    cache_n: Count | None = None


class _Event(msgspec.Struct):
    content: str | None = None
    stop: bool = False
    stop_type: str | None = None
    tokens_predicted: Count | None = None
    tokens_evaluated: Count | None = None
    timings: _Timings | None = None
    error: Any = None


class _Timed(msgspec.Struct):
    timings: _Timings | None = None


_events = msgspec.json.Decoder(_Event)
_timed = msgspec.json.Decoder(_Timed)


def _times(timings: _Timings) -> Times:
    return Times(
        prefill_ns=ns(timings.prompt_ms, _MILLISECOND),
        decode_ns=ns(timings.predicted_ms, _MILLISECOND),
    )


class CompletionDoor(JsonDoor):
    """POST /completion."""

    path: ClassVar[str] = "/completion"
    traits: ClassVar[Traits] = dataclasses.replace(_TRAITS, counts="tokens_predicted on every event, tokenizer")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._common: dict[str, Any] = {}
        if options.temperature is not None:
            self._common["temperature"] = options.temperature
        if options.top_k is not None:
            self._common["top_k"] = options.top_k
        if options.ignore_eos:
            self._common["ignore_eos"] = True
        if options.stream:
            self._common["stream"] = True

    def fields(self, request: Request) -> dict[str, Any]:
        # a server with one model passes over its name; one that routes to several goes by it
        asked = {"model": request.model, "prompt": request.prompt, "n_predict": request.output_length}
        return asked | self._common

    def read(self, payload: bytes) -> Piece:
        event = decode(_events, payload, "an answer of llama.cpp")
        if event.error is not None:
            return Piece(error=error_text(event.error))
        if event.content is None:
            raise BadAnswer("neither content nor error in it")
        total, timings = event.tokens_predicted, event.timings
        if total is None and timings is not None:
            total = timings.predicted_n
        return Piece(  # by position: this runs once a token
            event.content,
            True,
            0,
            total,
            event.tokens_evaluated,
            (event.stop_type or "stop") if event.stop else None,
            None,
            False,
            False,
            False,
            None if timings is None else _times(timings),
            None if timings is None else timings.cache_n,
        )


def _with_times(piece: Piece, payload: bytes) -> Piece:
    """The piece and the server's times, which stand beside the usage. Inside a text the quotes would be escaped."""
    if b'"timings":' not in payload or piece.error is not None:
        return piece
    timings = decode(_timed, payload, "timings of llama.cpp").timings
    if timings is None:
        return piece
    cached = timings.cache_n if piece.cached_tokens is None else piece.cached_tokens
    return piece._replace(times=_times(timings), cached_tokens=cached)


class CompletionsDoor(openai.CompletionsDoor):
    """POST /v1/completions of llama.cpp."""

    traits: ClassVar[Traits] = _TRAITS

    def read(self, payload: bytes) -> Piece:
        return _with_times(super().read(payload), payload)


class ChatDoor(openai.ChatDoor):
    """POST /v1/chat/completions of llama.cpp."""

    traits: ClassVar[Traits] = dataclasses.replace(_TRAITS, chat=True)

    def read(self, payload: bytes) -> Piece:
        return _with_times(super().read(payload), payload)


# No cache_reset: erasing every slot (POST /slots/N?action=erase) leaves the cache in the host's memory, which is on by
# default, and the next request takes the prompt back from there.
BACKEND = Backend(
    name="llamacpp",
    title="llama.cpp",
    doors={"completion": CompletionDoor, "completions": CompletionsDoor, "chat": ChatDoor},
    models_path="/v1/models",
    read_models=openai.served_models,
    health_path="/health",
    version_path="/props",
    read_version=json_field("build_info"),
)
