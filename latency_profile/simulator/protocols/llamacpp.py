"""llama.cpp's server: its native /completion and OpenAI's doors. Checked against its own bytes."""

import secrets
import string
import time
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.metrics import Meter
from latency_profile.simulator.protocols.base import (
    NO_BATCH,
    Ask,
    Refusal,
    ServerProtocol,
    Writer,
    is_missing,
    json_reply,
)
from latency_profile.simulator.protocols.llamacpp_answer import (
    JSON,
    KEEP_ALIVE,
    ORIGIN,
    NativeAsk,
    NativeWriter,
    OpenAIDoorsWriter,
    error_body,
)
from latency_profile.simulator.protocols.llamacpp_metrics import Metrics
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIDoors

_PATHS = ("/completion", "/completions")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
BUILD = "b0-simulator"


class _Native(msgspec.Struct):
    prompt: str | list[str | int]
    n_predict: int | None = None
    max_tokens: int | None = None
    stream: bool = False
    ignore_eos: bool = False
    return_tokens: bool = False
    timings_per_token: bool = False
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95


_DECODER = msgspec.json.Decoder(_Native)


class Protocol(OpenAIDoors):
    """llama.cpp. The model's name is ignored."""

    fields: ClassVar[bytes] = KEEP_ALIVE

    def generates(self, path: str) -> bool:
        return super().generates(path) or path in _PATHS

    def read(self, path: str, body: bytes) -> Ask:
        return self._native(path, body) if path in _PATHS else self.ask(path, body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        """Both doors call their answers chatcmpl."""
        if isinstance(ask, NativeAsk):
            return NativeWriter(ask, job, self.served.vocabulary, request_id or secrets.token_hex(8))
        assert isinstance(ask, OpenAIAsk)
        alphabet = string.ascii_letters + string.digits
        name = "chatcmpl-" + (request_id or "".join(secrets.choice(alphabet) for _ in range(32)))
        return OpenAIDoorsWriter(ask, job, self.served.vocabulary, name, int(time.time()))

    def counts_unasked(self, ask: OpenAIAsk) -> bool:
        return True

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, message, _KINDS.get(status, "server_error"))

    def error(self, status: int, message: str, fields: bytes = b"") -> Reply:
        """Errors close the connection."""
        return Reply(status, self.error_body(status, message), JSON, ORIGIN + fields, close=True)

    def make_meter(self, engine: EngineProfile | None) -> Meter:
        return Metrics()

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        return {
            ("GET", "/health"): self.constant(b'{"status":"ok"}', JSON),
            ("GET", "/v1/models"): self._models,
            ("GET", "/props"): self._props,
            ("GET", "/metrics"): self._metrics,
        }

    def not_found(self) -> Reply:
        """Its error names the code last, unlike the others."""
        body = b'{"error":{"message":"File Not Found","type":"not_found_error","code":404}}'
        return Reply(404, body, JSON, ORIGIN, close=True)

    def not_allowed(self) -> Reply:
        return self.not_found()

    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        text = "[json.exception.parse_error.101] parse error at line 1, column"
        why = "syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"
        return Refusal(self.error(400, f"{text} {position + 1}: {why}"))

    def refuse_invalid(self, place: str, message: str) -> Refusal:
        if is_missing(message):
            return Refusal(self.error(400, f"[json.exception.out_of_range.403] key '{place}' not found"))
        return Refusal(self.error(400, f"[json.exception.type_error.302] {message}"))

    def refuse_value(self, message: str, parameter: str) -> Refusal:
        return Refusal(self.error(400, message))

    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        """An answer that doesn't fit ends where the context does."""
        limit = self.served.max_model_len
        if prompt >= limit:
            error = {
                "code": 400,
                "message": f"request ({prompt} tokens) exceeds the available context size ({limit} tokens), try "
                "increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": prompt,
                "n_ctx": limit,
            }
            raise Refusal(Reply(400, msgspec.json.encode({"error": error}), JSON, ORIGIN, close=True))
        return limit - prompt if asked is None or asked < 1 else min(asked, limit - prompt)

    def _native(self, path: str, body: bytes) -> NativeAsk:
        request = self.decoded(_DECODER, body)
        try:
            prompt_ids = self.prompt_ids(request.prompt)
        except ValueError:
            raise self.refuse_value(NO_BATCH, "prompt") from None
        asked = request.n_predict if request.n_predict is not None else request.max_tokens
        max_tokens = self.limit(asked, len(prompt_ids), False)
        return NativeAsk(
            door=path,
            model=self.served.models[0],
            stream=request.stream,
            prompt=request.prompt if isinstance(request.prompt, str) else "",
            asked=-1 if asked is None else asked,
            ignore_eos=request.ignore_eos,
            return_tokens=request.return_tokens,
            timings_per_token=request.timings_per_token,
            sampling={
                "temperature": request.temperature,
                "top_k": request.top_k,
                "top_p": request.top_p,
            },
            **self.drawn(prompt_ids, max_tokens, request.ignore_eos),
        )

    def _props(self, _: Stats) -> Reply:
        settings = {"n_ctx": self.served.max_model_len}
        model = self.served.models[0]
        props = {"default_generation_settings": settings, "total_slots": 4, "model_alias": model, "model_path": model}
        return json_reply(200, {**props, "build_info": BUILD}, self.fields, JSON)

    def _metrics(self, stats: Stats) -> Reply:
        return Reply(200, self.meter.render(stats), b"text/plain; version=0.0.4", self.fields)

    def _models(self, _: Stats) -> Reply:
        model = self.served.models[0]
        details = {
            "parent_model": "",
            "format": "gguf",
            "family": "",
            "families": [""],
            "parameter_size": "",
            "quantization_level": "",
        }
        entry = {
            "name": model,
            "model": model,
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": ["completion"],
            "parameters": "",
            "details": details,
        }
        limit = self.served.max_model_len
        meta = {
            "vocab_type": 2,
            "n_vocab": 49152,
            "n_ctx": limit,
            "n_ctx_train": limit,
            "n_embd": 576,
            "n_params": 134515008,
            "size": 96576768,
            "ftype": "Q4_1",
        }
        data = {
            "id": model,
            "aliases": [model],
            "tags": [],
            "object": "model",
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "created": int(time.time()),
            "owned_by": "llamacpp",
            "meta": meta,
        }
        return json_reply(200, {"models": [entry], "object": "list", "data": [data]}, self.fields, JSON)
