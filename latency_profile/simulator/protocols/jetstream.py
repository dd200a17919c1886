"""JetStream: its own HTTP server's /v1/generate, the sidecar's /generate that deployments put beside it, and gRPC's
Orchestrator.Decode, all at one port.

/v1/generate is checked against JetStream 0.2.2's own bytes: JSON objects one after another without any framing, though
the header says event-stream. Its prompt is never too long: it is cut. The sidecar doesn't stream.
"""

import asyncio
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from latency_profile.simulator.connection import Application, Connection, Reply
from latency_profile.simulator.http2 import EitherConnection
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols import jetstream_grpc
from latency_profile.simulator.protocols.base import (
    Ask,
    Refusal,
    ServerProtocol,
    WholeWriter,
    Writer,
    is_missing,
    json_fault,
    json_reply,
    wrong_field,
)
from latency_profile.simulator.protocols.openai_doors import encoded
from latency_profile.simulator.text import Vocabulary

_SIDECAR = "/generate"
_OWN = "/v1/generate"
_EVENTS = b"text/event-stream; charset=utf-8"
_END = b'{\n  "streamContent": {\n    "samples": [\n      {}\n    ]\n  }\n}'
_OWN_FIELDS = {
    "session_cache",
    "additional_text",
    "text_content",
    "token_content",
    "priority",
    "max_tokens",
    "lora_adapter_id",
}


class _Text(msgspec.Struct):
    text: str


class _Tokens(msgspec.Struct):
    token_ids: list[int]


class _OwnRequest(msgspec.Struct):
    max_tokens: int = 0
    text_content: _Text | None = None
    token_content: _Tokens | None = None


class _SidecarRequest(msgspec.Struct):
    prompt: str
    max_tokens: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateAsk(Ask):
    """A request at either door. `with_text`: the answer has text beside ids."""

    with_text: bool = True


class SidecarWriter(WholeWriter):
    """/generate."""

    def whole(self) -> Reply:
        return json_reply(200, {"response": self.whole_text()})

    def failure(self, message: str) -> Iterable[bytes]:
        return (encoded({"detail": message}),)


class OwnWriter(Writer):
    """/v1/generate: an object of two-space indented JSON for each event, and an empty sample at the end."""

    content_type: ClassVar[bytes] = _EVENTS

    def __init__(self, ask: GenerateAsk, job: Job, vocabulary: Vocabulary, name: str) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._with_text = ask.with_text

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        if count:
            ids = b",\n".join(b"          %d" % token for token in self.ids(start, count))
            text = b'        "text": "%b",\n' % self.text(start, count) if self._with_text else b""
            sample = b'%b        "tokenIds": [\n%b\n        ]' % (text, ids)
            yield b'{\n  "streamContent": {\n    "samples": [\n      {\n%b\n      }\n    ]\n  }\n}' % sample
        if last:
            yield _END

    def whole(self) -> Reply:
        raise AssertionError("this door always streams")

    def failure(self, message: str) -> Iterator[bytes]:
        yield encoded({"detail": message})


class Protocol(ServerProtocol):
    """Both HTTP servers and the gRPC server; a connection's first bytes tell which is meant."""

    silent = frozenset({"usage_off"})

    def generates(self, path: str) -> bool:
        return path in (_SIDECAR, _OWN, jetstream_grpc.DECODE)

    def read(self, path: str, body: bytes) -> GenerateAsk:
        if path == jetstream_grpc.DECODE:
            return self._decode(body)
        return self._own(body) if path == _OWN else self._sidecar(body)

    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        """Answers have no name; the log takes the request's own."""
        assert isinstance(ask, GenerateAsk)
        if ask.door == jetstream_grpc.DECODE:
            return jetstream_grpc.DecodeWriter(ask, job, self.served.vocabulary, request_id or "", ask.with_text)
        kind = OwnWriter if ask.stream else SidecarWriter
        return kind(ask, job, self.served.vocabulary, request_id or "")

    def shows(self, fault: str, ask: Ask) -> bool:
        if ask.door == jetstream_grpc.DECODE and fault in ("no_end", "not_utf8"):  # the call's own status is its end
            return False
        return super().shows(fault, ask) and (ask.stream or fault != "no_end")

    def refusal(self, status: int, message: str, ask: Ask) -> Reply:
        if ask.door == jetstream_grpc.DECODE:
            return jetstream_grpc.refused(status, message)
        return super().refusal(status, message, ask)

    def connect(self, application: Application, loop: asyncio.AbstractEventLoop, client: socket.socket) -> Connection:
        return EitherConnection(application, loop, client)

    def error_body(self, status: int, message: str) -> bytes:
        return encoded({"detail": message})

    def make_doors(self) -> Mapping[tuple[str, str], ServerProtocol.Door]:
        live = self.constant(b'{\n    "is_live": "True"\n}')
        return {
            ("GET", "/"): self.constant(b'{\n    "message": "JetStream HTTP Server"\n}'),
            ("GET", "/health"): live,
            ("GET", "/v1/health"): live,
        }

    def _own(self, body: bytes) -> GenerateAsk:
        fields = _decoded(body, dict[str, msgspec.Raw])
        extra = [
            {
                "type": "extra_forbidden",
                "loc": ["body", name],
                "msg": "Extra inputs are not permitted",
                "input": msgspec.json.decode(value),
            }
            for name, value in fields.items()
            if name not in _OWN_FIELDS
        ]
        if extra:
            raise Refusal(json_reply(422, {"detail": extra}))
        request: _OwnRequest = _decoded(body, _OwnRequest)
        if request.text_content is not None:
            prompt_ids = self.served.vocabulary.encode(request.text_content.text)
        elif request.token_content is not None:
            prompt_ids = request.token_content.token_ids
        else:  # its handler fails behind the head
            raise Refusal(Reply(200, b"", _EVENTS, broken=True))
        with_text = request.text_content is not None
        return self._ask(_OWN, prompt_ids, request.max_tokens, True, with_text)

    def _decode(self, body: bytes) -> GenerateAsk:
        request = jetstream_grpc.read_request(body)
        text, ids = request.text, request.token_ids
        prompt_ids = self.served.vocabulary.encode(text) if text is not None else ids or []
        return self._ask(jetstream_grpc.DECODE, prompt_ids, request.max_tokens, True, text is not None)

    def _sidecar(self, body: bytes) -> GenerateAsk:
        request: _SidecarRequest = _decoded(body, _SidecarRequest)
        return self._ask(_SIDECAR, self.served.vocabulary.encode(request.prompt), request.max_tokens, False, True)

    def _ask(self, door: str, prompt_ids: list[int], asked: int, stream: bool, with_text: bool) -> GenerateAsk:
        limit = self.served.max_model_len
        prompt_ids = prompt_ids[: limit - 1] or [self.served.vocabulary.end_id]
        if asked < 1:
            if door == jetstream_grpc.DECODE:
                raise Refusal(jetstream_grpc.nothing())
            raise Refusal(Reply(200, _END, _EVENTS, chunked=True) if stream else json_reply(200, {"response": ""}))
        drawn = self.drawn(prompt_ids, min(asked, limit - len(prompt_ids)))
        return GenerateAsk(door=door, model=self.served.models[0], stream=stream, with_text=with_text, **drawn)


def _decoded(body: bytes, kind: Any) -> Any:
    """Raises Refusal, as FastAPI spells it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        place = wrong_field(error)
        kind_, words = ("missing", "Field required") if is_missing(text) else ("value_error", text)
        detail = {"type": kind_, "loc": ["body", place] if place else ["body"], "msg": words, "input": {}}
        raise Refusal(json_reply(422, {"detail": [detail]})) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        position, reason = json_fault(body)
        error_ = {"type": "json_invalid", "loc": ["body", position], "msg": "JSON decode error", "input": {}}
        raise Refusal(json_reply(422, {"detail": [{**error_, "ctx": {"error": reason}}]})) from None
