"""Any OpenAI-compatible server: POST /v1/completions and /v1/chat/completions.

Source: OpenAI's API reference (completions, chat), and what compatible servers really send (tests/data). Tokens are
counted from `usage`; a stream is asked for it with `stream_options.include_usage`. The length is asked for with
`max_tokens`, which all compatible servers take; OpenAI's own reasoning models refuse it and want
`max_completion_tokens`: that is the door `reasoning`.
"""

import dataclasses
from typing import Any, ClassVar

import msgspec

from backends.base import Backend, BadAnswer, Options, Piece, Request, Traits, Unsupported
from backends.json_door import Count, JsonDoor, decode, error_text

END_MARK = b"[DONE]"
BAD_FINISHES = ("error", "abort")  # reasons by which servers say that an answer failed


class _Usage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: Any = None  # {"cached_tokens": …}; of any form, so that no answer fails for it


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Message | None = None
    message: _Message | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    message: str | None = None
    detail: Any = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_events = msgspec.json.Decoder(_Event)
_models = msgspec.json.Decoder(_Models)


def read_event(payload: bytes) -> Piece:
    """One event of a stream, or the whole body of an answer that is not streamed. Raises BadAnswer."""
    if payload == END_MARK:
        return Piece(last=True)
    event = decode(_events, payload, "a completion object")
    if event.error is not None or event.object == "error":
        return Piece(error=error_text(event.message if event.error is None else event.error))
    usage = event.usage
    total = usage.completion_tokens if usage else None
    prompt = usage.prompt_tokens if usage else None
    cached = _cached(usage.prompt_tokens_details) if usage and usage.prompt_tokens_details is not None else None
    if not event.choices:
        if event.detail is not None:  # FastAPI's own errors
            return Piece(error=error_text(event.detail))
        if usage is None and event.object is None:
            raise BadAnswer("neither choices nor usage nor error in it")
        return Piece(total_output=total, input_tokens=prompt, cached_tokens=cached)
    if len(event.choices) > 1:
        total = None  # it is of all of them together, and the first, the best, is what was asked for
    choice = event.choices[0]
    message = choice.delta or choice.message
    if message is None:
        text, visible = choice.text or "", True
    else:
        seen = (message.refusal or "") + (message.content or "")
        text, visible = _unseen(message) + seen, bool(seen)
    finish = choice.finish_reason
    return Piece(  # by position: this runs once a token
        text,
        True,
        len(choice.token_ids) if choice.token_ids else 0,
        total,
        prompt,
        finish,
        f"finish_reason {finish}" if finish in BAD_FINISHES else None,
        False,
        not visible and text != "",
        False,
        None,
        cached,
    )


def _cached(details: Any) -> int | None:
    """Prompt tokens out of the cache, where the usage's details tell a count that can be one."""
    told = details.get("cached_tokens") if isinstance(details, dict) else None
    return told if type(told) is int and 0 <= told < 1 << 31 else None


def _unseen(message: _Message) -> str:
    """What the model produced beside the answer: reasoning and tool calls are tokens as much as content is."""
    unseen = message.reasoning_content or message.reasoning or ""
    for call in message.tool_calls or ():
        if call.function is not None:
            unseen += (call.function.name or "") + (call.function.arguments or "")
    return unseen


class CompletionsDoor(JsonDoor):
    """POST /v1/completions."""

    path: ClassVar[str] = "/v1/completions"
    names_model: ClassVar[bool] = True
    length_field: ClassVar[str] = "max_tokens"
    traits: ClassVar[Traits] = Traits(
        settings=frozenset({"best_of", "temperature"}),
        counts="usage, tokenizer",
        verified="recorded bytes of llama.cpp, vLLM 0.32 and transformers serve",
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._common = self.settings(options)

    def settings(self, options: Options) -> dict[str, Any]:
        """What every request has beside model, prompt and length. Only what the door's traits list comes here."""
        common: dict[str, Any] = {}
        if options.temperature is not None:
            common["temperature"] = options.temperature
        if options.top_k is not None:
            common["top_k"] = options.top_k
        if options.ignore_eos:
            common["ignore_eos"] = True
        if options.best_of != 1:
            if options.stream:  # "Results cannot be streamed": which one is best is known at the end
                raise Unsupported("best_of", f"a stream of {self.path}")
            common["best_of"] = options.best_of
        if options.stream:
            common["stream"] = True
            common["stream_options"] = {"include_usage": True}
        return common

    def fields(self, request: Request) -> dict[str, Any]:
        asked = {"model": request.model, **self.asked(request.prompt), self.length_field: request.output_length}
        return asked | self._common

    def asked(self, prompt: str) -> dict[str, Any]:
        """The prompt, where this door has it."""
        return {"prompt": prompt}

    def read(self, payload: bytes) -> Piece:
        return read_event(payload)


class ChatDoor(CompletionsDoor):
    """POST /v1/chat/completions: the prompt is the one user message."""

    path = "/v1/chat/completions"
    traits = dataclasses.replace(CompletionsDoor.traits, settings=frozenset({"temperature"}), chat=True)

    def asked(self, prompt: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": prompt}]}


class ReasoningDoor(ChatDoor):
    """POST /v1/chat/completions of OpenAI's reasoning models; the length is that of reasoning and answer together."""

    length_field = "max_completion_tokens"
    traits = dataclasses.replace(ChatDoor.traits, verified="specification (OpenAI's API reference)")


def served_models(body: bytes) -> list[str]:
    """Names in the answer of GET /v1/models. Raises BadAnswer."""
    return [model.id for model in decode(_models, body, "a list of models").data]


BACKEND = Backend(
    name="openai",
    title="any OpenAI-compatible server",
    doors={"completions": CompletionsDoor, "chat": ChatDoor, "reasoning": ReasoningDoor},
    models_path="/v1/models",
    read_models=served_models,
)
