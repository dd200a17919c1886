"""Any OpenAI-compatible server: POST /v1/completions and /v1/chat/completions.

Source: OpenAI's API reference (completions, chat), and what compatible servers really send (tests/data). Tokens are
counted from `usage`; a stream is asked for it with `stream_options.include_usage`.
"""

from typing import Annotated, Any, ClassVar

import msgspec

from backends.base import Backend, BadAnswer, Framing, Options, Piece, Request, Unsupported

END_MARK = b"[DONE]"
BAD_FINISHES = ("error", "abort")  # reasons by which servers say that an answer failed


_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


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


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_decoder = msgspec.json.Decoder(_Event)


def read_event(payload: bytes) -> Piece:
    """One event of a stream, or the whole body of an answer that is not streamed. Raises BadAnswer."""
    if payload == END_MARK:
        return Piece(last=True)
    try:
        event = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"not a completion object: {error}") from error
    if event.error is not None or event.object == "error":
        return Piece(error=_message_of(event))
    usage = event.usage
    total = usage.completion_tokens if usage else None
    prompt = usage.prompt_tokens if usage else None
    if not event.choices:
        if usage is None and event.object is None:
            raise BadAnswer("neither choices nor usage nor error in it")
        return Piece(total_output=total, input_tokens=prompt)
    choice = event.choices[0]
    message = choice.delta or choice.message
    text = choice.text if message is None else _visible(message)
    finish = choice.finish_reason
    return Piece(  # by position: this runs once a token
        text or "",
        True,
        len(choice.token_ids) if choice.token_ids else 0,
        total,
        prompt,
        finish,
        f"finish_reason {finish}" if finish in BAD_FINISHES else None,
    )


def _visible(message: _Message) -> str:
    """All that the model produced: reasoning and tool calls are tokens as much as content is."""
    calls = msgspec.json.encode(message.tool_calls).decode() if message.tool_calls else ""
    return (message.reasoning_content or message.reasoning or "") + (message.content or "") + calls


def _message_of(event: _Event) -> str:
    error = event.error
    if isinstance(error, dict):
        error = error.get("message", error)
    return str(error if error is not None else event.message)


class CompletionsDoor:
    """POST /v1/completions."""

    path: ClassVar[str] = "/v1/completions"
    takes: ClassVar[frozenset[str]] = frozenset({"best_of", "temperature"})

    def __init__(self, options: Options) -> None:
        self.framing: Framing = "sse" if options.stream else "json"
        refuse(self.path, self.takes, options)
        self._common = self.settings(options) | dict(options.extra_body)

    def settings(self, options: Options) -> dict[str, Any]:
        """What every request's body has beside model, prompt and length."""
        common: dict[str, Any] = {}
        if options.temperature is not None:
            common["temperature"] = options.temperature
        if options.best_of != 1:
            if options.stream:  # "Results cannot be streamed": which one is best is known at the end
                raise Unsupported("best_of", f"a stream of {self.path}")
            common["best_of"] = options.best_of
        if options.stream:
            common["stream"] = True
            common["stream_options"] = {"include_usage": True}
        return common

    def body(self, request: Request) -> bytes:
        return msgspec.json.encode(self._wanted(request) | self._common)

    def _wanted(self, request: Request) -> dict[str, Any]:
        return {"model": request.model, "prompt": request.prompt, "max_tokens": request.output_length}

    def read(self, payload: bytes) -> Piece:
        return read_event(payload)


class ChatDoor(CompletionsDoor):
    """POST /v1/chat/completions: the prompt is the one user message."""

    path = "/v1/chat/completions"
    takes = frozenset({"temperature"})

    def _wanted(self, request: Request) -> dict[str, Any]:
        messages = [{"role": "user", "content": request.prompt}]
        return {"model": request.model, "messages": messages, "max_tokens": request.output_length}


def refuse(door: str, takes: frozenset[str], options: Options) -> None:
    """Raises Unsupported for a setting that this door has no word for: to drop it would measure something else."""
    wanted = {
        "ignore_eos": options.ignore_eos,
        "best_of": options.best_of != 1,
        "use_beam_search": options.use_beam_search,
        "top_k": options.top_k is not None,
        "temperature": options.temperature is not None,
    }
    for name, is_set in wanted.items():
        if is_set and name not in takes:
            raise Unsupported(name, door)


def served_models(body: bytes) -> list[str]:
    """Names in the answer of GET /v1/models. Raises BadAnswer."""
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not a list of models: {error}") from error


BACKEND = Backend(
    name="openai",
    doors={"completions": CompletionsDoor, "chat": ChatDoor},
    models_path="/v1/models",
    read_models=served_models,
)
