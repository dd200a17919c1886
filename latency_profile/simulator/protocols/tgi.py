"""Text Generation Inference: /generate, /generate_stream and OpenAI's doors, after the router's source (3.3).

A native stream is always a 200: what is refused there comes as an event.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.metrics import Meter
from latency_profile.simulator.protocols.base import (
    Ask,
    Refusal,
    ServerProtocol,
    Writer,
    is_missing,
    json_reply,
)
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIDoors
from latency_profile.simulator.protocols.tgi_answer import (
    COMPUTE,
    EVENTS,
    VERSION,
    NativeAsk,
    NativeWriter,
    OpenAIDoorsWriter,
    data,
    error_body,
)
from latency_profile.simulator.protocols.tgi_metrics import Metrics

_GENERATE = "/generate"
_STREAM = "/generate_stream"
_DEFAULT_MAX_TOKENS = 100  # of a chat or completion; /generate without max_new_tokens fills the context
_TEXT = b"text/plain; charset=utf-8"
_TYPES = {422: "validation", 424: "generation", 429: "overloaded", 500: "incomplete_generation"}
_OVERLOADED = "Model is overloaded"


class _Parameters(msgspec.Struct):
    max_new_tokens: int | None = None
    best_of: int | None = None
    details: bool = False
    decoder_input_details: bool = False
    return_full_text: bool | None = None
    seed: int | None = None
    truncate: int | None = None


class _Generate(msgspec.Struct):
    inputs: str
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


_DECODER = msgspec.json.Decoder(_Generate)


class Protocol(OpenAIDoors):
    """TGI. The model's name is ignored."""

    def generates(self, path: str) -> bool:
        return super().generates(path) or path in (_GENERATE, _STREAM)

    def read(self, path: str, body: bytes) -> Ask:
        return self._native(path, body) if path in (_GENERATE, _STREAM) else self.ask(path, body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        """Answers have no name; the log takes the request's own."""
        if isinstance(ask, NativeAsk):
            return NativeWriter(ask, job, self.served.vocabulary, request_id or "")
        assert isinstance(ask, OpenAIAsk)
        return OpenAIDoorsWriter(ask, job, self.served.vocabulary, request_id or "", int(time.time()))

    def counts_unasked(self, ask: OpenAIAsk) -> bool:
        return not ask.chat

    def shows(self, fault: str, ask: Ask) -> bool:
        """The counts of /generate are in its headers; all else waits for `details`, but a stream's last event."""
        if isinstance(ask, NativeAsk) and not ask.details:
            if fault == "usage_off":
                return not ask.stream
            if fault == "no_end":
                return ask.stream
        return super().shows(fault, ask)

    def refusal(self, status: int, message: str, ask: Ask) -> Reply:
        """An overload of the native stream is an event, as there."""
        if status != 429:
            return super().refusal(status, message, ask)
        if ask.door == _STREAM:
            return _event(_OVERLOADED, "overloaded")
        return super().refusal(status, _OVERLOADED, ask)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(message, _TYPES.get(status, "generation"))

    def make_meter(self, engine: EngineProfile | None) -> Meter:
        return Metrics(self.served.max_model_len)

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        return {
            ("GET", "/"): self.constant(b""),
            ("GET", "/health"): self.constant(b""),
            ("GET", "/ping"): self.constant(b""),
            ("GET", "/info"): self._info,
            ("GET", "/v1/models"): self._models,
            ("GET", "/metrics"): self.metrics,
        }

    def not_found(self) -> Reply:
        return Reply(404)

    def not_allowed(self) -> Reply:
        return Reply(405)

    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        message = f"Failed to parse the request body as JSON: {reason} at line 1 column {position}"
        return Refusal(Reply(400, message.encode(), _TEXT))

    def refuse_invalid(self, place: str, message: str) -> Refusal:
        detail = f"missing field `{place}`" if is_missing(message) else f"{place}: {message}"
        text = f"Failed to deserialize the JSON body into the target type: {detail}"
        return Refusal(Reply(422, text.encode(), _TEXT))

    def refuse_value(self, message: str, parameter: str) -> Refusal:
        return Refusal(Reply(422, self.error_body(422, f"Input validation error: {message}")))

    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        limit = self.served.max_model_len
        wanted = min(_DEFAULT_MAX_TOKENS, limit - prompt) if asked is None else asked
        problem = self._problem(prompt, wanted)
        if problem is not None:
            raise self.refuse_value(problem, "max_tokens")
        return wanted

    def _problem(self, prompt: int, asked: int) -> str | None:
        limit = self.served.max_model_len
        if not prompt:
            return "`inputs` cannot be empty"
        if prompt >= limit:
            return f"`inputs` must have less than {limit - 1} tokens. Given: {prompt}"
        if asked < 1:
            return "`max_new_tokens` must be strictly positive"
        if prompt + asked > limit:
            return (
                f"`inputs` tokens + `max_new_tokens` must be <= {limit}. Given: {prompt} `inputs` tokens and {asked} "
                "`max_new_tokens`"
            )
        return None

    def _native(self, path: str, body: bytes) -> NativeAsk:
        request = self.decoded(_DECODER, body)
        parameters = request.parameters
        prompt_ids = self.served.vocabulary.encode(request.inputs) if request.inputs else []
        if parameters.truncate is not None:
            prompt_ids = prompt_ids[-parameters.truncate :]
        asked = parameters.max_new_tokens
        if asked is None:
            asked = self.served.max_model_len - len(prompt_ids)
        problem = self._problem(len(prompt_ids), asked)
        stream = path == _STREAM
        if problem is None and parameters.best_of not in (None, 1):
            problem = "`best_of` must be 1 when streaming" if stream else "`best_of` other than 1 is not simulated"
        if problem is None and stream and parameters.decoder_input_details:
            problem = "`decoder_input_details` == true is not supported when streaming tokens"
        if problem is not None:
            message = f"Input validation error: {problem}"
            raise Refusal(_event(message, "validation") if stream else self.error(422, message))
        return NativeAsk(
            door=path,
            model=self.served.models[0],
            stream=stream,
            prompt=request.inputs,
            details=parameters.details,
            input_details=parameters.decoder_input_details,
            full_text=bool(parameters.return_full_text),
            seed=parameters.seed,
            **self.drawn(prompt_ids, asked),
        )

    def _info(self, _: Stats) -> Reply:
        limit = self.served.max_model_len
        info: dict[str, Any] = {
            "model_id": self.served.models[0],
            "model_sha": None,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": 128,
            "max_best_of": 2,
            "max_stop_sequences": 4,
            "max_input_tokens": limit - 1,
            "max_total_tokens": limit,
            "validation_workers": 2,
            "max_client_batch_size": 4,
            "router": "text-generation-router",
            "version": VERSION,
            "sha": None,
            "docker_label": None,
        }
        return json_reply(200, info)

    def _models(self, _: Stats) -> Reply:
        entry = {"id": self.served.models[0], "object": "model", "created": 0, "owned_by": self.served.models[0]}
        return json_reply(200, {"object": "list", "data": [entry]})


def _event(message: str, kind: str) -> Reply:
    """A stream of one event, which is an error."""
    return Reply(200, data(error_body(message, kind)), EVENTS, COMPUTE + b"x-accel-buffering: no\r\n", chunked=True)
