"""The two doors of OpenAI's protocol, /v1/completions and /v1/chat/completions, which six of the servers have.

They differ in what they refuse and how they say it, and in the order of keys; each says so in its own file.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec

from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import (
    DONE,
    NO_BATCH,
    Ask,
    Refusal,
    ServerProtocol,
    Writer,
    json_fault,
    sse,
    wrong_field,
)
from latency_profile.simulator.text import Vocabulary

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

Decoded = TypeVar("Decoded")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _Common(msgspec.Struct, kw_only=True):
    """Fields of both doors that make a difference here; whether others are refused is the server's matter."""

    model: str | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    ignore_eos: bool = False
    return_token_ids: bool | None = None
    timings_per_token: bool = False
    n: int | None = 1
    best_of: int | None = None
    use_beam_search: bool = False
    echo: bool | None = False
    logprobs: bool | int | None = None


class Completion(_Common, kw_only=True):
    """A body of /v1/completions."""

    prompt: str | list[str | int | list[int]]


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class Chat(_Common, kw_only=True):
    """A body of /v1/chat/completions."""

    messages: list[_Message]
    max_completion_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIAsk(Ask):
    """A request at one of the two doors."""

    chat: bool
    include_usage: bool = False
    continuous_usage: bool = False
    return_token_ids: bool = False
    timings_per_token: bool = False
    reasoning_tokens: int = 0  # the first tokens of the answer that are reasoning


class OpenAIDoors(ServerProtocol):
    """Reads requests at the two doors. What a server judges in its own way is a method of its own."""

    known: ClassVar[tuple[frozenset[str], frozenset[str]] | None] = (
        None  # fields of the two doors; None: ignores others
    )

    def generates(self, path: str) -> bool:
        return path in (COMPLETIONS, CHAT)

    @abstractmethod
    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        """The body is no JSON from the character at `position` on."""

    @abstractmethod
    def refuse_invalid(self, place: str, message: str) -> Refusal:
        """A field is missing or of a wrong type. `place`: its name, "" for the body."""

    @abstractmethod
    def refuse_value(self, message: str, parameter: str) -> Refusal:
        """A value is not taken."""

    def shows(self, fault: str, ask: Ask) -> bool:
        if fault == "usage_off" and isinstance(ask, OpenAIAsk) and ask.stream:
            return ask.include_usage or self.counts_unasked(ask)
        return super().shows(fault, ask)

    def counts_unasked(self, ask: OpenAIAsk) -> bool:
        """Whether a stream has a usage even where nobody asked for it."""
        return False

    def refuse_unknown(self, fields: list[str]) -> Refusal:
        """Fields that the server doesn't know; only asked where `known` is set."""
        return self.refuse_value(f"unknown fields: {', '.join(fields)}", fields[0])

    def check_model(self, model: str | None) -> str:
        """The name of the model that answers. Raises Refusal."""
        return model if model is not None else self.served.models[0]

    @abstractmethod
    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        """How many tokens may be generated. Raises Refusal."""

    def decoded(self, decoder: msgspec.json.Decoder[Decoded], body: bytes) -> Decoded:
        """A body in its type. Raises Refusal."""
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            raise self.refuse_invalid(wrong_field(error), str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self.refuse_malformed(*json_fault(body)) from None

    def ask(self, path: str, body: bytes) -> OpenAIAsk:
        """Understands a body. Raises Refusal."""
        chat = path == CHAT
        if self.known is not None:
            unknown = sorted(self.decoded(_FIELDS, body).keys() - self.known[chat])
            if unknown:
                raise self.refuse_unknown(unknown)
        request: Any = self.decoded(_CHAT_DECODER, body) if chat else self.decoded(_COMPLETION_DECODER, body)
        model = self.check_model(request.model)
        self._refuse_unsimulated(request)
        prompt_ids = self._chat_ids(request) if chat else self._completion_ids(request.prompt)
        asked = request.max_tokens
        if chat and request.max_completion_tokens is not None:
            asked = request.max_completion_tokens
        max_tokens = self.limit(asked, len(prompt_ids), chat)
        if not 0 <= request.min_tokens <= max_tokens:
            raise self.refuse_value(
                f"min_tokens must be between 0 and max_tokens={max_tokens}, got {request.min_tokens}. "
                f"(parameter=min_tokens, value={request.min_tokens})",
                "min_tokens",
            )
        options = request.stream_options or _StreamOptions()
        drawn = self.drawn(prompt_ids, max_tokens, request.ignore_eos, request.min_tokens)
        return OpenAIAsk(
            door=path,
            chat=chat,
            model=model,
            stream=bool(request.stream),
            include_usage=bool(options.include_usage),
            continuous_usage=bool(options.include_usage and options.continuous_usage_stats),
            return_token_ids=bool(request.return_token_ids),
            timings_per_token=request.timings_per_token,
            reasoning_tokens=min(self.served.reasoning_tokens, drawn["output_tokens"]) if chat else 0,
            **drawn,
        )

    def _refuse_unsimulated(self, request: _Common) -> None:
        for name, refused in (
            ("n", request.n not in (None, 1)),
            ("best_of", request.best_of not in (None, 1)),
            ("use_beam_search", request.use_beam_search),
            ("echo", bool(request.echo)),
            ("logprobs", request.logprobs not in (None, False)),
        ):
            if refused:
                value = getattr(request, name)
                message = f"{name}={value} is not simulated: one sampled answer without log probabilities is."
                raise self.refuse_value(message, name)

    def _completion_ids(self, prompt: str | list[str | int | list[int]]) -> list[int]:
        try:
            ids = self.prompt_ids(prompt)
        except ValueError:
            if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
                raise self.refuse_value("Token id out of vocabulary", "prompt") from None
            raise self.refuse_value(NO_BATCH, "prompt") from None
        if not ids:
            raise self.refuse_value("The decoder prompt cannot be empty", "prompt")
        return ids

    def _chat_ids(self, request: Chat) -> list[int]:
        """A ChatML rendering: a tokenizer.json carries no chat template, and only the count matters here."""
        parts = []
        for message in request.messages:
            content = message.content or ""
            if isinstance(content, list):
                content = "".join(str(part.get("text", "")) for part in content)
            parts.append(f"<|im_start|>{message.role}\n{content}<|im_end|>\n")
        return self.served.vocabulary.encode("".join(parts) + "<|im_start|>assistant\n")


class OpenAIWriter(Writer):
    """The events of both doors in the order that all servers keep: role, tokens, finish, usage, [DONE]."""

    done: ClassVar[bool] = True  # whether the stream ends with [DONE]
    separate_finish: bool = False  # whether the reason for the end has an event of its own

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._ask = ask
        self._created = created
        self._fast_from = max(1, ask.reasoning_tokens)

    @abstractmethod
    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        """JSON of one event with text. `finish`: JSON of the reason; `hidden`: the text is reasoning."""

    def role_event(self) -> bytes | None:
        """JSON of the event before a chat's first token."""
        return None

    def finish_event(self) -> bytes:
        """JSON of the event that says why it ended, where it is separate."""
        return b""

    def usage_event(self) -> bytes | None:
        """JSON of the event that has the usage, where there is one."""
        return None

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        ask = self._ask
        if ask.chat and start == 0:
            role = self.role_event()
            if role is not None:
                yield sse(role)
        finish = b"null"
        if last and not self.separate_finish:
            finish = b'"stop"' if ask.stopped else b'"length"'
        hidden = max(0, min(ask.reasoning_tokens - start, count))
        if hidden:
            yield sse(
                self.token_event(self.text(start, hidden), start, hidden, self._if(hidden == count, finish), True)
            )
        rest = count - hidden
        text = self.text(start + hidden, rest)
        if text or (last and not self.separate_finish and (rest or not hidden)):
            yield sse(self.token_event(text, start + hidden, rest, finish, False))
        if last:
            if self.separate_finish:
                yield sse(self.finish_event())
            usage = self.usage_event()
            if usage is not None:
                yield sse(usage)
            if self.done:
                yield DONE

    @staticmethod
    def _if(condition: bool, finish: bytes) -> bytes:
        return finish if condition else b"null"

    def reasoning_and_text(self) -> tuple[str | None, str]:
        """The two parts of a whole answer; None where there is no reasoning."""
        text = self.whole_text()
        reasoning = self._vocabulary.answer_text(self._offset, 0, self._words(0, self._ask.reasoning_tokens))
        return (reasoning, text[len(reasoning) :]) if self._ask.reasoning_tokens else (None, text)

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(self.error(message))
        yield DONE

    @abstractmethod
    def error(self, message: str) -> bytes:
        """JSON of an error in mid-stream."""


def encoded(value: object) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_COMPLETION_DECODER = msgspec.json.Decoder(Completion)
_CHAT_DECODER = msgspec.json.Decoder(Chat)
