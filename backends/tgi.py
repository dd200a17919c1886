"""Text Generation Inference: its native POST /generate and /generate_stream (one door), and its OpenAI doors.

Source: TGI's router as of January 2026. A stream is `data:{…}` without a space, one event a token, always with status
200: refusals come as events. Its last event carries the whole text and, as it is asked for, the details. The headers of
an answer that is not streamed have the server's counts and times, in whole ms.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from backends import openai
from backends.base import Backend, BadAnswer, Options, Piece, Request, Times, Traits, Unsupported, json_field
from backends.json_door import Count, JsonDoor, decode, error_text, ns

_MILLISECOND = 1_000_000
_VERIFIED = "specification (the router's source, January 2026)"


class _Token(msgspec.Struct):
    id: int
    text: str
    special: bool = False


class _Details(msgspec.Struct):
    finish_reason: str | None = None
    generated_tokens: Count | None = None
    input_length: Count | None = None


class _Event(msgspec.Struct):
    token: _Token | None = None
    generated_text: str | None = None
    details: _Details | None = None
    error: Any = None


class _Info(msgspec.Struct):
    model_id: str


_events = msgspec.json.Decoder(_Event)
_info = msgspec.json.Decoder(_Info)
_NO_DETAILS = _Details()


class GenerateDoor(JsonDoor):
    """POST /generate and /generate_stream."""

    path: ClassVar[str] = "/generate"
    stream_path: ClassVar[str | None] = "/generate_stream"
    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"best_of", "top_k", "temperature"}),
        counts="details and headers, token events, tokenizer",
        verified=_VERIFIED,
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._sampling = _sampling(options)

    def fields(self, request: Request) -> dict[str, Any]:
        parameters = {"max_new_tokens": request.output_length, "details": True, **self._sampling}
        return {"inputs": request.prompt, "parameters": parameters}

    def read(self, payload: bytes) -> Piece:
        event = decode(_events, payload, "an answer of TGI")
        if event.error is not None:
            return Piece(error=error_text(event.error))
        token, text = event.token, event.generated_text
        if text is None:
            if token is None:
                raise BadAnswer("neither token nor generated_text nor error in it")
            return Piece("" if token.special else token.text, True, 1)
        details = event.details or _NO_DETAILS
        return Piece(
            text,
            choice=True,
            token_ids=0 if token is None else 1,
            total_output=details.generated_tokens,
            input_tokens=details.input_length,
            finish=details.finish_reason or "unknown",
            so_far=token is not None,  # the last event of a stream has the text of all of them
        )

    def read_head(self, headers: Mapping[bytes, bytes]) -> Piece | None:
        """The counts and times that are in the headers; one that is not a number is as if it were not there."""
        prompt, output, queue, total = (
            _whole_number(headers.get(name))
            for name in (b"x-prompt-tokens", b"x-generated-tokens", b"x-queue-time", b"x-total-time")
        )
        if prompt is output is queue is total is None:
            return None
        times = Times(queue_ns=ns(queue, _MILLISECOND), total_ns=ns(total, _MILLISECOND))
        return Piece(total_output=output, input_tokens=prompt, times=times)


def _sampling(options: Options) -> dict[str, Any]:
    """TGI samples unless do_sample is false; it refuses a temperature of 0, which means greedy, and best_of with it."""
    greedy = options.temperature == 0
    sampling: dict[str, Any] = {"do_sample": not greedy}
    if options.best_of != 1:
        if options.stream:
            raise Unsupported("best_of", "a stream of TGI")
        if greedy:
            raise Unsupported("best_of", "TGI at temperature 0")
        sampling["best_of"] = options.best_of
    if not greedy:  # with temperature or top_k among the parameters it would sample all the same
        if options.temperature is not None:
            sampling["temperature"] = options.temperature
        if options.top_k is not None:
            sampling["top_k"] = options.top_k
    return sampling


def _whole_number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 10 else None


class CompletionsDoor(openai.CompletionsDoor):
    """POST /v1/completions of TGI."""

    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"temperature"}), counts="usage, tokenizer", verified=_VERIFIED
    )


class ChatDoor(openai.ChatDoor):
    """POST /v1/chat/completions of TGI."""

    traits: ClassVar[Traits] = dataclasses.replace(CompletionsDoor.traits, chat=True)


def served_models(body: bytes) -> list[str]:
    """The one model in the answer of GET /info. Raises BadAnswer."""
    return [decode(_info, body, "TGI's info").model_id]


BACKEND = Backend(
    name="tgi",
    title="Text Generation Inference",
    doors={"generate": GenerateDoor, "completions": CompletionsDoor, "chat": ChatDoor},
    models_path="/info",
    read_models=served_models,
    health_path="/health",
    version_path="/info",
    read_version=json_field("version"),
)
