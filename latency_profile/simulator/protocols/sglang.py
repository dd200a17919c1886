"""SGLang: its native /generate and OpenAI's doors, after its source (python/sglang/srt/entrypoints, 0.5).

A native stream repeats the whole text and all ids in each event. What is refused after the stream began to be built is
an event of a 200, as there.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.metrics import Meter
from latency_profile.simulator.protocols.base import (
    DONE,
    NO_BATCH,
    Ask,
    Refusal,
    ServerProtocol,
    Writer,
    json_reply,
    sse,
)
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIDoors, OpenAIWriter, encoded
from latency_profile.simulator.protocols.sglang_metrics import Metrics
from latency_profile.simulator.text import Vocabulary

VERSION = "0.5.5"
_GENERATE = "/generate"
_DEFAULT_NEW_TOKENS = 128
_DEFAULT_MAX_TOKENS = 16  # of /v1/completions
_METADATA = {"weight_version": "default"}
_SECOND = 1e9


class _Sampling(msgspec.Struct):
    max_new_tokens: int | None = _DEFAULT_NEW_TOKENS
    min_new_tokens: int = 0
    ignore_eos: bool = False
    n: int = 1


class _Generate(msgspec.Struct):
    text: str | list[str] | None = None
    input_ids: list[int] | None = None
    sampling_params: _Sampling | None = None
    stream: bool = False


_DECODER = msgspec.json.Decoder(_Generate)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeAsk(Ask):
    """A request at /generate."""


class NativeWriter(Writer):
    """/generate."""

    def __init__(self, ask: NativeAsk, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._ask = ask
        self._so_far = b""
        self._ids = b""

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        if count or last:
            self._so_far += self.text(start, count)
            ids = encoded(self.ids(start, count))[1:-1]
            self._ids += b"," + ids if self._ids and ids else ids
            meta = encoded(self._meta(start + count, last))
            yield sse(b'{"text":"%b","output_ids":[%b],"meta_info":%b}' % (self._so_far, self._ids, meta))
        if last:
            yield DONE

    def whole(self) -> Reply:
        tokens = self._ask.output_tokens
        meta = self._meta(tokens, True)
        return json_reply(200, {"text": self.whole_text(), "output_ids": self.ids(0, tokens), "meta_info": meta})

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(_native_error(message))
        yield DONE

    def _meta(self, tokens: int, last: bool) -> dict[str, object]:
        ask, job = self._ask, self._job
        finish: dict[str, object] | None = None
        if last and not ask.unfinished:
            finish = {"type": "length", "length": ask.max_tokens}
            if ask.stopped:
                finish = {"type": "stop", "matched": self._vocabulary.end_id}
        meta: dict[str, object] = {
            "id": self.name,
            "finish_reason": finish,
            "prompt_tokens": len(ask.prompt_ids),
            **_METADATA,
            "total_retractions": job.preemptions,
            "completion_tokens": ask.told(tokens),
            "cached_tokens": job.cached_tokens,
        }
        return {**meta, "e2e_latency": (job.last_ns - job.arrival_ns) / _SECOND} if last else meta


class OpenAIDoorsWriter(OpenAIWriter):
    """OpenAI's doors."""

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name, created)
        self.separate_finish = ask.chat
        if not ask.stream:
            return
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        start = {"id": name, "object": kind, "created": created, "model": ask.model}
        self._start = encoded(start)[:-1] + b',"choices":['
        choice = b'{"index":0,"text":"'
        tail = b'","logprobs":null,'
        if ask.chat:
            choice = b'{"index":0,"delta":{"role":null,"content":"'
            tail = b'","reasoning_content":null,"tool_calls":null},"logprobs":null,'
        self._head = b"data: " + self._start + choice
        self._tail = tail + b'"finish_reason":null,"matched_stop":null}],"usage":null}\n\n'
        self._plain = not ask.continuous_usage

    def role_event(self) -> bytes:
        delta = b'{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null}'
        return self._chat(delta, b"null", 0)

    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        if not self._ask.chat:
            choice = b'{"index":0,"text":"%b","logprobs":null,"finish_reason":%b,"matched_stop":%b}'
            return self._start + choice % (text, finish, self._matched(finish)) + self._told(start + count)
        parts = (b"null", b'"%b"' % text) if hidden else (b'"%b"' % text, b"null")
        delta = b'{"role":null,"content":%b,"reasoning_content":%b,"tool_calls":null}' % parts
        return self._chat(delta, finish, start + count)

    def finish_event(self) -> bytes:
        finish = b'"stop"' if self._ask.stopped else b'"length"'
        delta = b'{"role":null,"content":null,"reasoning_content":null,"tool_calls":null}'
        return self._chat(delta, finish, self._ask.output_tokens)

    def usage_event(self) -> bytes | None:
        if not self._ask.include_usage:
            return None
        usage = self._usage(self._ask.output_tokens)
        del usage["prompt_tokens_details"]  # written without what is null
        return self._start + b'],"usage":%b}' % encoded(usage)

    def error(self, message: str) -> bytes:
        return encoded({"error": _error(500, message, "InternalServerError")})

    def whole(self) -> Reply:
        ask = self._ask
        reasoning, text = self.reasoning_and_text()
        matched = self._vocabulary.end_id if ask.stopped else None
        end = {"logprobs": None, "finish_reason": ask.finish(), "matched_stop": matched}
        kind = "chat.completion" if ask.chat else "text_completion"
        choice: dict[str, object] = {"index": 0, "text": text}
        if ask.chat:
            message = {"role": "assistant", "content": text, "reasoning_content": reasoning, "tool_calls": None}
            choice = {"index": 0, "message": message}
        start = {"id": self.name, "object": kind, "created": self._created, "model": ask.model}
        usage = self._usage(ask.output_tokens)
        return json_reply(200, {**start, "choices": [{**choice, **end}], "usage": usage, "metadata": _METADATA})

    def _chat(self, delta: bytes, finish: bytes, tokens: int) -> bytes:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b,"matched_stop":%b}'
        return self._start + choice % (delta, finish, self._matched(finish)) + self._told(tokens)

    def _matched(self, finish: bytes) -> bytes:
        return b"%d" % self._vocabulary.end_id if finish == b'"stop"' else b"null"

    def _told(self, tokens: int) -> bytes:
        usage = encoded(self._usage(tokens)) if self._ask.continuous_usage else b"null"
        return b'],"usage":%b}' % usage

    def _usage(self, tokens: int) -> dict[str, object]:
        ask = self._ask
        prompt, told = len(ask.prompt_ids), ask.told(tokens)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + told,
            "completion_tokens": told,
            "prompt_tokens_details": None,
            "reasoning_tokens": min(tokens, ask.reasoning_tokens),
        }


class Protocol(OpenAIDoors):
    """SGLang."""

    reasoning: ClassVar[bool] = True
    reset_path = "/flush_cache"

    def generates(self, path: str) -> bool:
        return super().generates(path) or path == _GENERATE

    def read(self, path: str, body: bytes) -> Ask:
        return self._generate(path, body) if path == _GENERATE else self.ask(path, body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        name = request_id or secrets.token_hex(16)
        if isinstance(ask, OpenAIAsk):
            return OpenAIDoorsWriter(ask, job, self.served.vocabulary, name, int(time.time()))
        assert isinstance(ask, NativeAsk)
        return NativeWriter(ask, job, self.served.vocabulary, name)

    def refusal(self, status: int, message: str, ask: Ask) -> Reply:
        reply = super().refusal(status, message, ask)
        return reply if isinstance(ask, OpenAIAsk) else Reply(status, _native_error(message), fields=reply.fields)

    def error_body(self, status: int, message: str) -> bytes:
        return encoded(_error(status, message, "InternalServerError" if status >= 500 else "BadRequestError"))

    def make_meter(self, engine: EngineProfile | None) -> Meter:
        return Metrics(self.served.models[0], engine)

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        return {
            ("GET", "/health"): self.constant(b""),
            ("GET", "/health_generate"): self.constant(b""),
            ("GET", "/get_model_info"): self._model_info,
            ("GET", "/get_server_info"): self._server_info,
            ("GET", "/v1/models"): self._models,
            ("GET", "/metrics"): self.metrics,
        }

    def reset_reply(self, done: bool) -> Reply:
        text = b"Cache flushed.\n" if done else b"Flush cache failed.\n"
        return Reply(200 if done else 400, text, b"text/plain; charset=utf-8")

    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        error = {"type": "json_invalid", "loc": ("body", position), "msg": "JSON decode error", "input": {}}
        return self._validation(f"[{ {**error, 'ctx': {'error': reason}} }]")

    def refuse_invalid(self, place: str, message: str) -> Refusal:
        return self._validation(f"[{ {'type': 'value_error', 'loc': ('body', place), 'msg': message} }]")

    def refuse_value(self, message: str, parameter: str) -> Refusal:
        return Refusal(Reply(400, self.error_body(400, message)))

    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        if asked is None:
            asked = self.served.max_model_len - prompt if chat else _DEFAULT_MAX_TOKENS
        message = self._too_long(prompt, asked)
        if message is not None:
            raise self.refuse_value(message, "max_tokens")
        return asked

    def _too_long(self, prompt: int, asked: int) -> str | None:
        limit = self.served.max_model_len
        if prompt >= limit:
            return f"The input ({prompt} tokens) is longer than the model's context length ({limit} tokens)."
        if asked < 1:
            return f"max_new_tokens must be at least 1, got {asked}."
        if prompt + asked > limit:
            return (
                f"Requested token count exceeds the model's maximum context length of {limit} tokens. You requested a "
                f"total of {prompt + asked} tokens: {prompt} tokens from the input messages and {asked} tokens for the "
                "completion. Please reduce the number of tokens in the input messages or the completion to fit within "
                "the limit."
            )
        return None

    def _generate(self, path: str, body: bytes) -> NativeAsk:
        request = self.decoded(_DECODER, body)
        sampling = request.sampling_params or _Sampling()
        prompt = request.text if request.text is not None else request.input_ids
        if prompt is None:
            message = "Either text, input_ids or input_embeds should be provided."
            raise self._refuse_native(message, request.stream)
        try:
            prompt_ids = self.prompt_ids(prompt)
        except ValueError:
            raise self._refuse_native(NO_BATCH, request.stream) from None
        if not prompt_ids or sampling.n != 1:
            message = "The input is empty." if not prompt_ids else f"n={sampling.n} is not simulated."
            raise self._refuse_native(message, request.stream)
        asked = sampling.max_new_tokens
        if asked is None:
            asked = max(1, self.served.max_model_len - len(prompt_ids))
        too_long = self._too_long(len(prompt_ids), asked)
        if too_long is not None:
            raise self._refuse_native(too_long, request.stream)
        drawn = self.drawn(prompt_ids, asked, sampling.ignore_eos, min(sampling.min_new_tokens, asked))
        return NativeAsk(door=path, model=self.served.models[0], stream=request.stream, **drawn)

    def _refuse_native(self, message: str, stream: bool) -> Refusal:
        if stream:
            events = sse(_native_error(message)) + DONE
            return Refusal(Reply(200, events, b"text/event-stream; charset=utf-8", chunked=True))
        return Refusal(Reply(400, _native_error(message)))

    def _validation(self, message: str) -> Refusal:
        return Refusal(json_reply(400, _error(400, message, "Bad Request")))

    def _model_info(self, _: Stats) -> Reply:
        model = self.served.models[0]
        info = {"model_path": model, "tokenizer_path": model, "is_generation": True, "preferred_sampling_params": None}
        return json_reply(200, {**info, **_METADATA})

    def _server_info(self, stats: Stats) -> Reply:
        arguments = {"model_path": self.served.models[0], "context_length": self.served.max_model_len}
        # a result must not pass for a real SGLang's
        return json_reply(200, {**arguments, "status": "ready", "version": f"{VERSION}+simulator"})

    def _models(self, _: Stats) -> Reply:
        entries = [
            {
                "id": model,
                "object": "model",
                "created": int(time.time()),
                "owned_by": "sglang",
                "root": model,
                "parent": None,
                "max_model_len": self.served.max_model_len,
            }
            for model in self.served.models
        ]
        return json_reply(200, {"object": "list", "data": entries})


def _native_error(message: str) -> bytes:
    return encoded({"error": {"message": message}})


def _error(status: int, message: str, kind: str) -> dict[str, object]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}
