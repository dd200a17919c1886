"""SGLang: its native POST /generate (default), and its OpenAI doors.

Source: SGLang 0.5 (entrypoints/http_server.py, managers/io_struct.py, managers/tokenizer_manager.py). A streamed event
of /generate carries the whole text up to now; `meta_info.completion_tokens` is the count up to now on every event, and
is right also where a server started with --incremental-streaming-output sends only what is new.
"""

import dataclasses
from typing import Any, ClassVar

import msgspec

from backends import openai
from backends.base import Backend, BadAnswer, CacheReset, Options, Piece, Request, Times, Traits, json_field
from backends.json_door import Count, JsonDoor, Seconds, decode, error_text, ns

_SECOND = 1_000_000_000
_TRAITS = Traits(
    settings=frozenset({"ignore_eos", "top_k", "temperature"}),
    exact_length=True,
    counts="usage on every event, tokenizer",
    verified="specification (SGLang 0.5's source)",
)


class _Finish(msgspec.Struct):
    type: str = ""
    message: str | None = None


class _Meta(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    finish_reason: _Finish | str | None = None
    e2e_latency: Seconds | None = None
    cached_tokens: Count | None = None


class _Event(msgspec.Struct):
    text: str | None = None
    output_ids: list[int] | None = None
    meta_info: _Meta | None = None
    error: Any = None
    object: str | None = None
    message: str | None = None


_events = msgspec.json.Decoder(_Event)
_NO_META = _Meta()


class GenerateDoor(JsonDoor):
    """POST /generate: one sample of one prompt."""

    path: ClassVar[str] = "/generate"
    traits: ClassVar[Traits] = dataclasses.replace(_TRAITS, counts="meta_info on every event, token ids, tokenizer")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._sampling: dict[str, Any] = {}
        if options.temperature is not None:
            self._sampling["temperature"] = options.temperature
        if options.top_k is not None:
            self._sampling["top_k"] = options.top_k
        if options.ignore_eos:
            self._sampling["ignore_eos"] = True

    def fields(self, request: Request) -> dict[str, Any]:
        sampling = {"max_new_tokens": request.output_length, **self._sampling}
        fields: dict[str, Any] = {"text": request.prompt, "sampling_params": sampling}
        return fields | {"stream": True} if self.stream else fields

    def read(self, payload: bytes) -> Piece:
        if payload == openai.END_MARK:
            return Piece(last=True)
        event = decode(_events, payload, "an answer of SGLang")
        if event.error is not None or event.object == "error":
            return Piece(error=error_text(event.message if event.error is None else event.error))
        if event.text is None and event.output_ids is None:
            raise BadAnswer("neither text nor output_ids nor error in it")
        meta = event.meta_info or _NO_META
        finish, error = _ended(meta.finish_reason) if meta.finish_reason is not None else (None, None)
        return Piece(  # by position: this runs once a token
            event.text or "",
            True,
            # in a stream the ids are those up to now, or only the new ones, as the server was started
            len(event.output_ids) if event.output_ids and not self.stream else 0,
            meta.completion_tokens,
            meta.prompt_tokens,
            finish,
            error,
            False,
            False,
            self.stream,
            None if meta.e2e_latency is None else Times(total_ns=ns(meta.e2e_latency, _SECOND)),
            meta.cached_tokens,
        )


def _ended(reason: _Finish | str) -> tuple[str, str | None]:
    """Why the answer ended, and the error if that is one. Older versions send the bare type."""
    finish, message = (reason, None) if isinstance(reason, str) else (reason.type, reason.message)
    return finish, (message or f"finish_reason {finish}") if finish in openai.BAD_FINISHES else None


class CompletionsDoor(openai.CompletionsDoor):
    """POST /v1/completions of SGLang."""

    traits: ClassVar[Traits] = _TRAITS

    def settings(self, options: Options) -> dict[str, Any]:
        return _usage_on_every_event(super().settings(options))


class ChatDoor(openai.ChatDoor):
    """POST /v1/chat/completions of SGLang."""

    traits: ClassVar[Traits] = dataclasses.replace(_TRAITS, chat=True)

    def settings(self, options: Options) -> dict[str, Any]:
        return _usage_on_every_event(super().settings(options))


def _usage_on_every_event(common: dict[str, Any]) -> dict[str, Any]:
    if "stream_options" in common:  # it tells how many tokens an event carried; older servers pass over the word
        common["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return common


BACKEND = Backend(
    name="sglang",
    title="SGLang",
    doors={"generate": GenerateDoor, "completions": CompletionsDoor, "chat": ChatDoor},
    models_path="/v1/models",
    read_models=openai.served_models,
    health_path="/health",
    version_path="/get_server_info",
    read_version=json_field("version"),
    # 400 while requests run or wait
    cache_reset=CacheReset("/flush_cache", "SGLang has it, behind its --admin-api-key where one is set"),
)
