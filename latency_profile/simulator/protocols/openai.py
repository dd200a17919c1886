"""OpenAI's own API, from its reference and the answers that people quote: what is not in the reference is refused."""

import secrets
import time
from collections.abc import Iterator, Mapping
from typing import ClassVar

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.protocols.base import Ask, Refusal, ServerProtocol, is_missing, json_reply, sse
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIDoors, OpenAIWriter, encoded
from latency_profile.simulator.text import Vocabulary

_FINGERPRINT = "fp_simulator"
_BOTH = {
    "model",
    "max_tokens",
    "n",
    "stream",
    "stream_options",
    "logprobs",
    "stop",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "user",
}
_COMPLETION = frozenset(_BOTH | {"prompt", "best_of", "echo", "suffix"})
_CHAT = frozenset(
    _BOTH
    | {
        "messages",
        "max_completion_tokens",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "reasoning_effort",
        "service_tier",
        "store",
        "metadata",
        "modalities",
        "audio",
        "prediction",
        "verbosity",
        "web_search_options",
        "safety_identifier",
        "prompt_cache_key",
    }
)
_DEFAULT_MAX_TOKENS = 16  # of /v1/completions
_KINDS = {401: "invalid_request_error", 429: "requests"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def error_body(message: str, kind: str, parameter: str | None = None, code: str | None = None) -> bytes:
    """OpenAI's error."""
    return encoded({"error": {"message": message, "type": kind, "param": parameter, "code": code}})


class Writer(OpenAIWriter):
    """Both doors. With include_usage every event has a usage, null until the last."""

    separate_finish = True

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name, created)
        if not ask.stream:
            return
        start = {"id": name, "object": "text_completion", "created": created}
        self._usage_key = b',"usage":null}' if ask.include_usage else b"}"
        if ask.chat:
            kind = {"object": "chat.completion.chunk", "created": created, "model": ask.model}
            more = {"service_tier": "default", "system_fingerprint": _FINGERPRINT}
            self._start = encoded({"id": name, **kind, **more})[:-1]
            self._end = self._usage_key
            self._head = b"data: " + self._start + b',"choices":[{"index":0,"delta":{"content":"'
            self._tail = b'"},"logprobs":null,"finish_reason":null}]' + self._end + b"\n\n"
        else:
            self._start = encoded(start)[:-1]
            self._end = b',"model":%b%b' % (encoded(ask.model), self._usage_key)
            self._head = b"data: " + self._start + b',"choices":[{"text":"'
            self._tail = b'","index":0,"logprobs":null,"finish_reason":null}]' + self._end + b"\n\n"
        self._plain = True

    def role_event(self) -> bytes:
        delta = b'{"role":"assistant","content":"","refusal":null}'
        return self._chat_event(delta, b"null")

    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        if self._ask.chat:
            return self._chat_event(b'{"%b":"%b"}' % (b"reasoning_content" if hidden else b"content", text), finish)
        return self._text_event(text, finish)

    def finish_event(self) -> bytes:
        finish = b'"stop"' if self._ask.stopped else b'"length"'
        return self._chat_event(b"{}", finish) if self._ask.chat else self._text_event(b"", finish)

    def usage_event(self) -> bytes | None:
        if not self._ask.include_usage:
            return None
        end = self._end.removesuffix(b"null}") + encoded(self._usage()) + b"}"
        return self._start + b',"choices":[]' + end

    def error(self, message: str) -> bytes:
        return error_body(message, "server_error")

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(self.error(message))

    def whole(self) -> Reply:
        ask = self._ask
        reasoning, text = self.reasoning_and_text()
        start = {"id": self.name, "object": "chat.completion" if ask.chat else "text_completion"}
        head = {**start, "created": self._created, "model": ask.model}
        if not ask.chat:
            choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": ask.finish()}
            return json_reply(200, {**head, "choices": [choice], "usage": self._usage()})
        hidden = {} if reasoning is None else {"reasoning_content": reasoning}
        message: dict[str, object] = {
            "role": "assistant",
            "content": text,
            **hidden,
            "refusal": None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ask.finish()}
        end = {"service_tier": "default", "system_fingerprint": _FINGERPRINT}
        return json_reply(200, {**head, "choices": [choice], "usage": self._usage(), **end})

    def _chat_event(self, delta: bytes, finish: bytes) -> bytes:
        choice = b',"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]' % (delta, finish)
        return self._start + choice + self._end

    def _text_event(self, text: bytes, finish: bytes) -> bytes:
        choice = b',"choices":[{"text":"%b","index":0,"logprobs":null,"finish_reason":%b}]' % (text, finish)
        return self._start + choice + self._end

    def _usage(self) -> dict[str, object]:
        ask = self._ask
        prompt, told = len(ask.prompt_ids), ask.told(ask.output_tokens)
        usage: dict[str, object] = {
            "prompt_tokens": prompt,
            "completion_tokens": told,
            "total_tokens": prompt + told,
        }
        if ask.chat:
            usage["prompt_tokens_details"] = {"cached_tokens": 0, "audio_tokens": 0}
            usage["completion_tokens_details"] = {
                "reasoning_tokens": ask.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            }
        return usage


class Protocol(OpenAIDoors):
    """OpenAI."""

    reasoning: ClassVar[bool] = True
    known = (_COMPLETION, _CHAT)

    def read(self, path: str, body: bytes) -> OpenAIAsk:
        return self.ask(path, body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        """Named by the x-request-id header where there is one, else by chance, after the door's prefix."""
        assert isinstance(ask, OpenAIAsk)
        name = ("chatcmpl-" if ask.chat else "cmpl-") + (request_id or secrets.token_hex(12))
        return Writer(ask, job, self.served.vocabulary, name, int(time.time()))

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(message, _KINDS.get(status, "server_error"), None, _CODES.get(status))

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        return {("GET", "/v1/models"): self._models}

    def not_found(self) -> Reply:
        return Reply(404, error_body("Invalid URL", "invalid_request_error"))

    def not_allowed(self) -> Reply:
        return Reply(405, error_body("Not allowed to use this method on this URL", "invalid_request_error"))

    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        message = "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
        return self._refusal(400, f"{message} ({reason} at {position})")

    def refuse_invalid(self, place: str, message: str) -> Refusal:
        if is_missing(message):
            return self._refusal(400, f"Missing required parameter: '{place}'.", place, "missing_required_parameter")
        return self._refusal(400, f"Invalid type for '{place}': {message}", place or None, "invalid_type")

    def refuse_value(self, message: str, parameter: str) -> Refusal:
        return self._refusal(400, message, parameter)

    def refuse_unknown(self, fields: list[str]) -> Refusal:
        plural = "s" if len(fields) > 1 else ""
        return self._refusal(400, f"Unrecognized request argument{plural} supplied: {', '.join(fields)}")

    def check_model(self, model: str | None) -> str:
        if model is None:
            raise self._refusal(400, "you must provide a model parameter")
        if model not in self.served.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise self._refusal(404, message, None, "model_not_found")
        return model

    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        limit = self.served.max_model_len
        if asked is not None and asked < 1:
            message = (
                f"Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got {asked} instead."
            )
            raise self._refusal(400, message, "max_tokens", "integer_below_min_value")
        wanted = asked if asked is not None else min(_DEFAULT_MAX_TOKENS, limit - prompt)
        if prompt >= limit or (not chat and prompt + wanted > limit):
            part = "messages" if chat else "prompt"
            raise self._refusal(
                400,
                f"This model's maximum context length is {limit} tokens. However, your {part} resulted in {prompt} "
                f"tokens. Please reduce the length of the {part}.",
                part,
                "context_length_exceeded",
            )
        return min(asked if asked is not None else limit - prompt, limit - prompt) if chat else wanted

    def _refusal(self, status: int, message: str, parameter: str | None = None, code: str | None = None) -> Refusal:
        return Refusal(Reply(status, error_body(message, "invalid_request_error", parameter, code)))

    def _models(self, _: Stats) -> Reply:
        entries = [
            {"id": model, "object": "model", "created": int(time.time()), "owned_by": "simulator"}
            for model in self.served.models
        ]
        return json_reply(200, {"object": "list", "data": entries})
