"""TensorRT-LLM's ensemble on Triton: the generate extension. Checked against Triton 2.51's own bytes.

No [DONE], no usage: a stream ends with its body. Outputs come in the order of their names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.protocols.base import Ask, Refusal, ServerProtocol, Writer, json_fault, json_reply, sse
from latency_profile.simulator.protocols.openai_doors import encoded
from latency_profile.simulator.text import Vocabulary

VERSION = "2.51.0"
_MODELS = "/v2/models/"
_GENERATE, _STREAM = "generate", "generate_stream"
_INPUTS = (
    ("text_input", "BYTES", [1]),
    ("max_tokens", "INT32", [1]),
    ("bad_words", "BYTES", [-1]),
    ("stop_words", "BYTES", [-1]),
    ("end_id", "INT32", [1]),
    ("pad_id", "INT32", [1]),
    ("beam_width", "INT32", [1]),
    ("temperature", "FP32", [1]),
    ("top_k", "INT32", [1]),
    ("top_p", "FP32", [1]),
    ("stream", "BOOL", [1]),
)
_OUTPUTS = (
    ("text_output", "BYTES", [-1]),
    ("cum_log_probs", "FP32", [-1]),
    ("output_log_probs", "FP32", [-1]),
    ("context_logits", "FP32", [-1]),
)
_EXTENSIONS = [
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
]
_SEVERAL = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)


class _Request(msgspec.Struct):
    text_input: str | list[str] | None = None
    max_tokens: int | list[int] | None = None
    stream: bool = False
    exclude_input_in_output: bool = False
    return_num_input_tokens: bool = False
    return_num_output_tokens: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateAsk(Ask):
    """A request. `stream` says which door; `decoupled` whether the model gives a response a token."""

    prompt: str
    decoupled: bool
    input_count: bool
    output_count: bool


class GenerateWriter(Writer):
    """Both doors."""

    late_head: ClassVar[bool] = True

    def __init__(self, ask: GenerateAsk, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._ask = ask
        before, after = self._outputs(1)
        self._head, self._tail = b"data: " + before, after + b"\n\n"
        self._plain = ask.decoupled

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        if self._ask.decoupled:
            if count:
                before, after = self._outputs(count)
                yield sse(before + self.text(start, count) + after)
        elif last:
            yield sse(self._one())

    def whole(self) -> Reply:
        if self._ask.decoupled:
            return Reply(200, encoded({"error": _SEVERAL}), chunked=True)
        return Reply(200, self._one(), chunked=True)

    def failure(self, message: str) -> Iterator[bytes]:
        yield sse(encoded({"error": message}))

    def _one(self) -> bytes:
        """The single response of a model that is not decoupled: the prompt comes first."""
        before, after = self._outputs(self._ask.output_tokens)
        return before + encoded(self._ask.prompt + self.whole_text())[1:-1] + after

    def _outputs(self, tokens: int) -> tuple[bytes, bytes]:
        """A response's JSON before and after the text."""
        ask = self._ask
        counts = b""
        if ask.input_count:
            counts += b',"num_input_tokens":%d' % len(ask.prompt_ids)
        if ask.output_count:
            counts += b',"num_output_tokens":%d' % ask.told(tokens)
        model = b',"model_name":%b,"model_version":"1"' % encoded(ask.model)
        start = b'{"context_logits":0.0,"cum_log_probs":0.0' + model + counts
        return start + b',"output_log_probs":[0.0,0.0],"text_output":"', b'"}'


class Protocol(ServerProtocol):
    """Triton with TensorRT-LLM's tensor names."""

    default_model = "ensemble"
    silent = frozenset({"no_end"})  # a stream has neither a finish nor an end mark

    def generates(self, path: str) -> bool:
        parts = path.removeprefix(_MODELS).split("/")
        return path.startswith(_MODELS) and parts[-1] in (_GENERATE, _STREAM) and len(parts) in (2, 4)

    def read(self, path: str, body: bytes) -> GenerateAsk:
        model = path.removeprefix(_MODELS).split("/")[0]
        if model not in self.served.models:
            raise Refusal(self.error(404, f"Request for unknown model: '{model}' is not found"))
        try:
            request = msgspec.json.decode(body, type=_Request)
        except msgspec.ValidationError as error:
            raise Refusal(self.error(500, _type_message(str(error)))) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            position, _ = json_fault(body)
            message = f"failed to parse the request JSON buffer: Invalid value. at {position}"
            raise Refusal(self.error(500, message)) from None
        prompt, asked = _first(request.text_input), _first(request.max_tokens)
        if prompt is None or asked is None:
            raise Refusal(self.error(400, self._missing(model, body, request)))
        prompt_ids = self.served.vocabulary.encode(prompt)
        limit = self.served.max_model_len
        if not prompt_ids or len(prompt_ids) >= limit or asked < 1:
            problem = (
                f"Prompt length ({len(prompt_ids)}) exceeds maximum input length ({limit - 1}). Set log level to info "
                "and check TRTGptModel logs for how maximum input length is set"
            )
            if not prompt_ids or asked < 1:
                problem = "input_ids or max_tokens is empty"
            body = self.error_body(400, problem)
            if path.endswith(_STREAM):  # the model itself refuses, in the door's own form
                raise Refusal(Reply(400, sse(body), b"text/event-stream; charset=utf-8", chunked=True))
            raise Refusal(Reply(400, body, chunked=True))
        return GenerateAsk(
            door=path,
            model=model,
            stream=path.endswith(_STREAM),
            prompt="" if request.exclude_input_in_output else prompt,
            decoupled=request.stream,
            input_count=request.return_num_input_tokens,
            output_count=request.return_num_output_tokens,
            **self.drawn(prompt_ids, min(asked, limit - len(prompt_ids))),
        )

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> GenerateWriter:
        """Answers have no name; the log takes the request's own."""
        assert isinstance(ask, GenerateAsk)
        return GenerateWriter(ask, job, self.served.vocabulary, request_id or "")

    def shows(self, fault: str, ask: Ask) -> bool:
        counted = isinstance(ask, GenerateAsk) and ask.output_count
        return super().shows(fault, ask) and (counted or fault != "usage_off")

    def error_body(self, status: int, message: str) -> bytes:
        return encoded({"error": message})

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        ready = self.constant(b"")
        # a result must not pass for a real Triton's
        server = {"name": "triton", "version": f"{VERSION}+simulator", "extensions": _EXTENSIONS}
        doors: dict[tuple[str, str], ServerProtocol.Door] = {
            ("GET", "/v2"): self.constant(encoded(server)),
            ("GET", "/v2/health/live"): ready,
            ("GET", "/v2/health/ready"): ready,
            ("POST", "/v2/repository/index"): self._index,
        }
        for model in self.served.models:
            doors["GET", _MODELS + model] = self.constant(encoded(_metadata(model)))
            doors["GET", f"{_MODELS}{model}/ready"] = ready
        return doors

    def not_found(self) -> Reply:
        return self.error(404, "Not Found")

    def not_allowed(self) -> Reply:
        return self.error(405, "Method Not Allowed")

    def _missing(self, model: str, body: bytes, request: _Request) -> str:
        known = {name for name, _, _ in _INPUTS}
        given = [name for name in msgspec.json.decode(body, type=dict[str, msgspec.Raw]) if name in known]
        required = {"text_input": request.text_input, "max_tokens": request.max_tokens}
        missing = [name for name, value in required.items() if not value and value != 0]
        return (
            f"[request id: <id_unknown>] expected number of inputs between 2 and {len(_INPUTS)} but got {len(given)} "
            f"inputs for model '{model}'. Got input(s) {given}, but missing required input(s) {missing}. Please "
            "provide all required input(s)."
        )

    def _index(self, _: Stats) -> Reply:
        return json_reply(200, [{"name": model, "version": "1", "state": "READY"} for model in self.served.models])


def _first(value: Any) -> Any:
    """Triton takes a value or a list of one."""
    return (value[0] if value else None) if isinstance(value, list) else value


def _type_message(text: str) -> str:
    kind = "string"
    if "`$.max_tokens" in text:
        kind = "signed-integer"
    elif "$.text_input" not in text:
        kind = "boolean"
    return f"Unable to parse 'data': attempt to access JSON non-{kind} as {kind}"


def _metadata(model: str) -> dict[str, object]:
    def tensors(rows: tuple[tuple[str, str, list[int]], ...]) -> list[dict[str, object]]:
        return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in rows]

    inputs, outputs = tensors(_INPUTS), tensors(_OUTPUTS)
    return {"name": model, "versions": ["1"], "platform": "ensemble", "inputs": inputs, "outputs": outputs}
