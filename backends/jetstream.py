"""JetStream: the HTTP sidecar's POST /generate (default), and JetStream's own POST /v1/generate.

Source: the sidecar that GKE's guides deploy beside JetStream; JetStream's entrypoints/http, whose answer is protobuf in
JSON (jetstream_pb2.DecodeResponse), one object behind the other with nothing between them, though its header says that
they are server-sent events. It always streams. A sample with nothing in it ends the answer, but where text was held
back for want of a whole character: then that comes in its place, and only HTTP's own end says that the answer is whole.
"""

from typing import Any, ClassVar

import msgspec

from backends.base import Backend, BadAnswer, Framing, Piece, Request, Traits
from backends.jetstream_grpc import DecodeDoor
from backends.json_door import JsonDoor, decode, error_text


class _Answer(msgspec.Struct):
    response: str | None = None
    error: Any = None
    detail: Any = None


class _Sample(msgspec.Struct, rename="camel"):
    text: str = ""
    token_ids: list[int] = []


class _Content(msgspec.Struct):
    samples: list[_Sample] = []


class _Event(msgspec.Struct, rename="camel"):
    stream_content: _Content | None = None
    initial_content: dict[str, Any] | None = None
    error: Any = None
    detail: Any = None


_answers = msgspec.json.Decoder(_Answer)
_events = msgspec.json.Decoder(_Event)


class GenerateDoor(JsonDoor):
    """POST /generate of the sidecar: a prompt in, a whole text out, counted by the tokenizer."""

    path: ClassVar[str] = "/generate"
    marks_end: ClassVar[bool] = False
    traits: ClassVar[Traits] = Traits(streams=False, verified="specification (the sidecar of GKE's guides)")

    def fields(self, request: Request) -> dict[str, Any]:
        return {"prompt": request.prompt, "max_tokens": request.output_length}

    def read(self, payload: bytes) -> Piece:
        answer = decode(_answers, payload, "an answer of the JetStream sidecar")
        if answer.error is not None or answer.detail is not None:
            return Piece(error=error_text(answer.detail if answer.error is None else answer.error))
        if answer.response is None:
            raise BadAnswer("neither response nor error in it")
        return Piece(answer.response, choice=True)


class StreamDoor(JsonDoor):
    """POST /v1/generate of JetStream itself."""

    path: ClassVar[str] = "/v1/generate"
    health_path: ClassVar[str | None] = "/v1/health"
    stream_framing: ClassVar[Framing] = "objects"
    marks_end: ClassVar[bool] = False
    traits: ClassVar[Traits] = Traits(
        answers_whole=False, counts="token ids, tokenizer", verified="recorded bytes of JetStream (mock engine)"
    )

    def fields(self, request: Request) -> dict[str, Any]:
        return {"max_tokens": request.output_length, "text_content": {"text": request.prompt}}

    def read(self, payload: bytes) -> Piece:
        event = decode(_events, payload, "an answer of JetStream")
        if event.error is not None or event.detail is not None:
            return Piece(error=error_text(event.detail if event.error is None else event.error))
        if event.stream_content is None:
            if event.initial_content is None:
                raise BadAnswer("neither streamContent nor error in it")
            return Piece()
        if not event.stream_content.samples:
            return Piece(choice=True)
        sample = event.stream_content.samples[0]
        ended = not sample.text and not sample.token_ids
        return Piece(sample.text, True, len(sample.token_ids), finish="empty sample" if ended else None)


BACKEND = Backend(
    name="jetstream",
    title="JetStream",
    doors={"generate": GenerateDoor, "v1": StreamDoor, "decode": DecodeDoor},
    default_model="default",
    health_path="/",
)
