"""SAX as the old benchmarks of GKE spoke to it: POST /generate with vLLM's early fields, an answer without a usage."""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from latency_profile.simulator.connection import Reply
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import Ask, Refusal, ServerProtocol, WholeWriter, json_fault, json_reply
from latency_profile.simulator.protocols.openai_doors import encoded
from latency_profile.simulator.text import Vocabulary

_GENERATE = "/generate"


class _Generate(msgspec.Struct):
    prompt: str
    model: str | None = None
    n: int = 1
    best_of: int = 1
    use_beam_search: bool = False
    max_tokens: int = 16
    stream: bool = False


class Writer(WholeWriter):
    """Its only answer."""

    def __init__(self, ask: Ask, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._ask = ask
        self._created = int(time.time())

    def whole(self) -> Reply:
        choice = {"index": 0, "text": self.whole_text(), "logprobs": None}
        start: dict[str, Any] = {"id": self.name, "object": "text_completion", "created": self._created}
        return json_reply(200, {**start, "model": self._ask.model, "choices": [choice]})

    def failure(self, message: str) -> Iterable[bytes]:
        return (_error(500, message),)


class Protocol(ServerProtocol):
    """SAX."""

    silent = frozenset({"usage_off", "no_end"})

    def generates(self, path: str) -> bool:
        return path == _GENERATE

    def read(self, path: str, body: bytes) -> Ask:
        try:
            request = msgspec.json.decode(body, type=_Generate)
        except msgspec.ValidationError as error:
            raise self._refusal(400, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            position, reason = json_fault(body)
            raise self._refusal(400, f"{reason} at {position}") from None
        model = self.served.models[0] if request.model is None else request.model
        if model not in self.served.models:
            raise self._refusal(404, f"The model `{model}` does not exist.")
        if request.stream:
            raise self._refusal(400, "stream is not supported")
        if (request.n, request.best_of, request.use_beam_search) != (1, 1, False):
            raise self._refusal(400, "n, best_of and use_beam_search are not simulated: one sampled answer is.")
        prompt_ids = self.served.vocabulary.encode(request.prompt)
        limit = self.served.max_model_len
        if not prompt_ids or request.max_tokens < 1:
            raise self._refusal(400, "prompt cannot be empty, and max_tokens must be at least 1")
        if len(prompt_ids) + request.max_tokens > limit:
            raise self._refusal(
                400,
                f"This model's maximum context length is {limit} tokens. However, you requested "
                f"{len(prompt_ids) + request.max_tokens} tokens ({len(prompt_ids)} in the prompt, {request.max_tokens} "
                "in the completion).",
            )
        return Ask(door=path, model=model, stream=False, **self.drawn(prompt_ids, request.max_tokens))

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        return Writer(ask, job, self.served.vocabulary, f"cmpl-{request_id or secrets.token_hex(8)}")

    def error_body(self, status: int, message: str) -> bytes:
        return _error(status, message)

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        return {("GET", "/health"): self.constant(b"")}

    def _refusal(self, status: int, message: str) -> Refusal:
        return Refusal(Reply(status, _error(status, message)))


def _error(status: int, message: str) -> bytes:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return encoded({"object": "error", "message": message, "type": kind, "param": None, "code": status})
