"""Transformers without an engine: the predict door with `instances`, and the doors of `transformers serve`.

The latter's bytes are those of `transformers serve`; the former's are the custom handler's of Vertex AI's examples,
in TorchServe (/predictions/{model}) or behind /predict.
"""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.protocols.base import (
    Ask,
    Refusal,
    ServerProtocol,
    WholeWriter,
    Writer,
    is_missing,
    json_fault,
    json_reply,
    sse,
)
from latency_profile.simulator.protocols.openai_doors import OpenAIAsk, OpenAIDoors, OpenAIWriter, encoded
from latency_profile.simulator.text import Vocabulary

_PREDICT = "/predict"
_PREDICTIONS = "/predictions/"
_DEFAULT_MAX_TOKENS = 1024
_SAMPLING = {"temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs"}
_BOTH = {"model", "max_tokens", "stream", "stream_options", "n", "user", "generation_config"} | _SAMPLING
_COMPLETION = frozenset(_BOTH | {"prompt", "suffix", "echo"})
_CHAT = frozenset(_BOTH | {"messages", "tools", "tool_choice", "response_format", "max_completion_tokens"})


class _Instance(msgspec.Struct):
    prompt: str
    max_length: int = 200
    top_k: int | None = None


class _Predict(msgspec.Struct):
    instances: list[_Instance]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictAsk(Ask):
    """A request at the predict door."""

    prompt: str


class PredictWriter(WholeWriter):
    """The answer of the predict door, in which the prompt comes first."""

    def __init__(self, ask: PredictAsk, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._prompt = ask.prompt

    def whole(self) -> Reply:
        text = f"Prompt:\n{self._prompt}\nOutput:\n{self.whole_text()}"
        return json_reply(200, {"predictions": [[{"generated_text": text}]]})

    def failure(self, message: str) -> Iterable[bytes]:
        return (_torchserve(500, "InternalServerException", message),)


class ServeWriter(OpenAIWriter):
    """The answer of `transformers serve`: no [DONE], and a usage that nobody asked for."""

    done: ClassVar[bool] = False
    separate_finish = True

    def __init__(self, ask: OpenAIAsk, job: Job, vocabulary: Vocabulary, name: str, created: int) -> None:
        super().__init__(ask, job, vocabulary, name, created)
        self.fields = b"x-request-id: %b\r\n" % name.encode("latin-1", "replace")
        if not ask.stream:
            return
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        more = {"system_fingerprint": ""} if ask.chat else {}
        pinned = {"created": created, "model": f"{ask.model}@main", "object": kind, **more}
        self._start = encoded({"id": name})[:-1] + b',"choices":['
        self._end = b"]," + encoded(pinned)[1:-1]
        self._head = b"data: " + self._start + (b'{"delta":{"content":"' if ask.chat else b'{"index":0,"text":"')
        self._tail = (b'"},"index":0}' if ask.chat else b'"}') + self._end + b"}\n\n"
        self._plain = True

    def role_event(self) -> bytes:
        return self._start + b'{"delta":{"role":"assistant"},"index":0}' + self._end + b"}"

    def token_event(self, text: bytes, start: int, count: int, finish: bytes, hidden: bool) -> bytes:
        form = b'{"delta":{"content":"%b"},"index":0}' if self._ask.chat else b'{"index":0,"text":"%b"}'
        return self._start + form % text + self._end + b"}"

    def finish_event(self) -> bytes:
        finish = b"stop" if self._ask.stopped else b"length"
        form = b'{"finish_reason":"%b","index":0,"text":""}'
        if self._ask.chat:
            form = b'{"delta":{},"index":0,"finish_reason":"%b"}'
        return self._start + form % finish + self._end + b',"usage":' + encoded(self._usage()) + b"}"

    def error(self, message: str) -> bytes:
        return encoded({"error": message})

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(self.error(message))

    def whole(self) -> Reply:
        ask = self._ask
        choice: dict[str, object] = {"finish_reason": ask.finish(), "index": 0}
        if ask.chat:
            choice["message"] = {"content": self.whole_text(), "role": "assistant"}
        else:
            choice["text"] = self.whole_text()
        kind = "chat.completion" if ask.chat else "text_completion"
        middle = {"created": self._created, "model": f"{ask.model}@main", "object": kind}
        return json_reply(200, {"id": self.name, "choices": [choice], **middle, "usage": self._usage()}, self.fields)

    def _usage(self) -> dict[str, int]:
        prompt, told = len(self._ask.prompt_ids), self._ask.told(self._ask.output_tokens)
        return {"completion_tokens": told, "prompt_tokens": prompt, "total_tokens": prompt + told}


class Protocol(OpenAIDoors):
    """Both."""

    known = (_COMPLETION, _CHAT)

    def generates(self, path: str) -> bool:
        return super().generates(path) or path == _PREDICT or path.startswith(_PREDICTIONS)

    def read(self, path: str, body: bytes) -> Ask:
        return self.ask(path, body) if super().generates(path) else self._predict(path, body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        name = request_id or str(uuid.uuid4())
        if isinstance(ask, OpenAIAsk):
            return ServeWriter(ask, job, self.served.vocabulary, name, int(time.time()))
        assert isinstance(ask, PredictAsk)
        return PredictWriter(ask, job, self.served.vocabulary, name)

    def counts_unasked(self, ask: OpenAIAsk) -> bool:
        return True

    def shows(self, fault: str, ask: Ask) -> bool:
        if isinstance(ask, PredictAsk) and fault in ("usage_off", "no_end"):
            return False
        return super().shows(fault, ask)

    def refusal(self, status: int, message: str, ask: Ask) -> Reply:
        reply = super().refusal(status, message, ask)
        if isinstance(ask, OpenAIAsk):
            return reply
        return Reply(status, _torchserve(status, "ServiceUnavailableException", message), fields=reply.fields)

    def error_body(self, status: int, message: str) -> bytes:
        return encoded({"detail": message})

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        return {
            ("GET", "/health"): self.constant(b'{"status":"ok"}'),
            ("GET", "/ping"): self.constant(b'{"status":"Healthy"}'),
            ("GET", "/v1/models"): self._models,
        }

    def refuse_malformed(self, position: int, reason: str) -> Refusal:
        return _refuse_json(position, reason)

    def refuse_invalid(self, place: str, message: str) -> Refusal:
        missing = is_missing(message)
        detail = {
            "type": "missing" if missing else "value_error",
            "loc": ["body", place] if place else ["body"],
            "msg": "Field required" if missing else message,
        }
        return Refusal(json_reply(422, {"detail": [detail]}))

    def refuse_value(self, message: str, parameter: str) -> Refusal:
        return Refusal(Reply(422, self.error_body(422, message)))

    def refuse_unknown(self, fields: list[str]) -> Refusal:
        return Refusal(Reply(422, self.error_body(422, f"Unexpected fields in the request: {set(fields)}")))

    def check_model(self, model: str | None) -> str:
        pinned = self.served.models[0]
        if model is not None and model != pinned:
            message = f"Server is pinned to '{pinned}'; requested '{model}'."
            raise Refusal(Reply(400, self.error_body(400, message)))
        return pinned

    def limit(self, asked: int | None, prompt: int, chat: bool) -> int:
        """Any prompt is taken; the simulator's own limit cuts the answer silently."""
        wanted = _DEFAULT_MAX_TOKENS if asked is None else asked
        if wanted < 1:
            raise self.refuse_value(f"max_tokens must be at least 1, got {asked}", "max_tokens")
        return min(wanted, max(1, self.served.max_model_len - prompt))

    def _predict(self, path: str, body: bytes) -> PredictAsk:
        models = self.served.models
        model = path.removeprefix(_PREDICTIONS) if path.startswith(_PREDICTIONS) else models[0]
        if model not in models:
            raise _refused(404, "ModelNotFoundException", f"Model not found: {model}")
        try:
            request = msgspec.json.decode(body, type=_Predict)
        except msgspec.ValidationError as error:
            raise _refused(400, "BadRequestException", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            position, reason = json_fault(body)
            raise _refused(400, "BadRequestException", f"{reason} at {position}") from None
        if len(request.instances) != 1:
            message = f"{len(request.instances)} instances are not simulated: send one a request"
            raise _refused(400, "BadRequestException", message)
        instance = request.instances[0]
        prompt_ids = self.served.vocabulary.encode(instance.prompt)
        if not prompt_ids or instance.max_length < 1:
            message = "prompt cannot be empty" if not prompt_ids else "`max_length` has to be a positive integer"
            raise _refused(500, "InternalServerException", message)
        wanted = min(instance.max_length, max(1, self.served.max_model_len - len(prompt_ids)))
        drawn = self.drawn(prompt_ids, wanted)
        return PredictAsk(door=path, model=model, stream=False, prompt=instance.prompt, **drawn)

    def _models(self, _: Stats) -> Reply:
        return json_reply(200, {"object": "list", "data": []})


def _torchserve(status: int, kind: str, message: str) -> bytes:
    return encoded({"code": status, "type": kind, "message": message})


def _refused(status: int, kind: str, message: str) -> Refusal:
    return Refusal(Reply(status, _torchserve(status, kind, message)))


def _refuse_json(position: int, reason: str) -> Refusal:
    error = {"type": "json_invalid", "loc": ["body", position], "msg": "JSON decode error", "input": {}}
    return Refusal(json_reply(422, {"detail": [{**error, "ctx": {"error": reason}}]}))
