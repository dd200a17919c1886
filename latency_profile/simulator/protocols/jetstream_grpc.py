"""JetStream's gRPC service, Orchestrator.Decode: how its messages are read and written.

Checked against the recorded bytes of google-jetstream 0.2.2: a DecodeResponse for each token with its text and id, and
an empty sample at the end; a request without content is a TypeError of its handler.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple
from urllib.parse import quote

from backends.base import BadAnswer
from backends.jetstream_grpc import fields, read_varint, varint
from latency_profile.simulator.connection import Reply
from latency_profile.simulator.http2 import TRAILERS
from latency_profile.simulator.job import Job
from latency_profile.simulator.protocols.base import Ask, Refusal, Writer
from latency_profile.simulator.text import Vocabulary

DECODE = "/jetstream_proto.Orchestrator/Decode"
TYPE = b"application/grpc"
EMPTY_SAMPLE = bytes.fromhex("1a020a00")
_UNKNOWN, _INTERNAL, _UNAUTHENTICATED = 2, 13, 16
_CODES = {401: _UNAUTHENTICATED, 429: 8, 500: _INTERNAL, 503: 14}
_NO_CONTENT = "Unexpected <class 'TypeError'>: attribute name must be string, not 'NoneType'"


class DecodeRequest(NamedTuple):
    """What a request asks for: a text, or token ids."""

    max_tokens: int
    text: str | None
    token_ids: list[int] | None


def read_request(body: bytes) -> DecodeRequest:
    """Reads the one message of a request's body. Raises Refusal."""
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        raise Refusal(failed(_INTERNAL, "the request is not one message without compression"))
    max_tokens, text, token_ids = 0, None, None
    try:
        for number, value in fields(body[5:]):
            match number, value:
                case 4, int():
                    max_tokens = value if value < 1 << 31 else 0
                case 5, bytes():
                    text, token_ids = "".join(part.decode() for part in _parts(value)), None
                case 6, bytes():
                    text, token_ids = None, _token_ids(value)
    except (BadAnswer, UnicodeDecodeError):
        raise Refusal(failed(_INTERNAL, "Exception deserializing request!")) from None
    if text is None and token_ids is None:
        raise Refusal(failed(_UNKNOWN, _NO_CONTENT))
    return DecodeRequest(max_tokens, text, token_ids)


def _parts(message: bytes) -> list[bytes]:
    return [value for number, value in fields(message) if number == 1 and isinstance(value, bytes)]


def _token_ids(message: bytes) -> list[int]:
    ids: list[int] = []
    for number, value in fields(message):
        if number == 1 and isinstance(value, int):
            ids.append(value)
        elif number == 1 and isinstance(value, bytes):
            at = 0
            while at < len(value):
                token, at = read_varint(value, at)
                ids.append(token)
    return [token & 0xFFFFFFFF for token in ids]


def failed(code: int, message: str) -> Reply:
    """A call that fails before any message."""
    return Reply(200, b"", TYPE, fields=_status(code, message))


def refused(status: int, message: str) -> Reply:
    """What gRPC says in the place of an HTTP status."""
    return failed(_CODES[status], message)


def nothing() -> Reply:
    """The answer to a request for no tokens."""
    return Reply(200, _message(EMPTY_SAMPLE), TYPE)


def _status(code: int, message: str) -> bytes:
    return b"grpc-status: %d\r\ngrpc-message: %b\r\n" % (
        code,
        quote(message, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~").encode(),
    )


def _message(payload: bytes) -> bytes:
    return b"\x00" + len(payload).to_bytes(4, "big") + payload


def _field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


class DecodeWriter(Writer):
    """A DecodeResponse for each event, and an empty sample at the end."""

    content_type: ClassVar[bytes] = TYPE
    late_head: ClassVar[bool] = True

    def __init__(self, ask: Ask, job: Job, vocabulary: Vocabulary, name: str, with_text: bool) -> None:
        super().__init__(ask, job, vocabulary, name)
        self._with_text = with_text

    def events(self, start: int, count: int, last: bool) -> Iterator[bytes]:
        if count:
            text = _field(1, self.text(start, count)) if self._with_text else b""
            ids = _field(2, b"".join(varint(token) for token in self.ids(start, count)))
            yield _field(3, _field(1, text + ids))
        if last:
            yield EMPTY_SAMPLE

    def framed(self, events: Iterable[bytes], last: bool) -> bytes:
        return b"".join(event if event[:1] == bytes((TRAILERS,)) else _message(event) for event in events)

    def head(self) -> bytes:
        return b"content-type: %b\r\n" % self.content_type

    def whole(self) -> Reply:
        raise AssertionError("this door always streams")

    def failure(self, message: str) -> Iterator[bytes]:
        status = _status(_INTERNAL, message)
        yield bytes((TRAILERS,)) + len(status).to_bytes(4, "big") + status
