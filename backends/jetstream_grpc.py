"""JetStream's gRPC service: Orchestrator.Decode, a stream of DecodeResponse. No code is generated: the few fields are
written and read here.

Source: jetstream/core/proto/jetstream.proto of google-jetstream 0.2.2; Protocol Buffers, "Encoding".

    message DecodeRequest  { int32 max_tokens = 4; oneof content { TextContent text_content = 5; … } }
    message TextContent    { string text = 1; }
    message DecodeResponse { oneof content { InitialContent initial_content = 2; StreamContent stream_content = 3; } }
    message StreamContent  { repeated Sample samples = 1; }
    message Sample         { string text = 1; repeated int32 token_ids = 2; }
"""

from collections.abc import Iterator
from typing import ClassVar

from backends.base import BadAnswer, Door, Framing, Options, Piece, Request, Traits, Unsupported

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are in no message of proto3
_LONGEST_VARINT = 10  # bytes


def varint(value: int) -> bytes:
    """A number from 0 to 2^64 - 1, seven bits a byte, the lowest first."""
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(payload)) + payload


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number at that place, where what follows it begins). Raises BadAnswer."""
    value = 0
    for place, octet in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            return value, at + place + 1
    raise BadAnswer("not a protobuf message: a number has no end")


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(field number, its bytes, or its number) of each field of a message. Raises BadAnswer."""
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise BadAnswer("not a protobuf message: a field without a number")
        if kind == _VARINT:
            value, at = read_varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = read_varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise BadAnswer(f"not a protobuf message: wire type {kind}")
        if length > len(message) - at:
            raise BadAnswer("not a protobuf message: a field is cut off")
        yield number, message[at : at + length]
        at += length


def _parts(message: bytes, wanted: int) -> list[bytes]:
    """The fields of that number, which are bytes."""
    found = [value for number, value in fields(message) if number == wanted]
    if not all(isinstance(value, bytes) for value in found):
        raise BadAnswer(f"not a DecodeResponse: field {wanted} is a number")
    return [value for value in found if isinstance(value, bytes)]


def _sample(message: bytes) -> tuple[str, int]:
    """(text, how many token ids) of a Sample; a list of numbers comes packed or one by one."""
    text, ids = "", 0
    for number, value in fields(message):
        if number == 2:
            if isinstance(value, bytes) and value and value[-1] >= 0x80:
                raise BadAnswer("not a DecodeResponse: a token id is cut off")
            ids += 1 if isinstance(value, int) else sum(octet < 0x80 for octet in value)
        elif number == 1:
            if isinstance(value, int):
                raise BadAnswer("not a DecodeResponse: a number in place of the text")
            try:
                text = value.decode()
            except UnicodeDecodeError as error:
                raise BadAnswer("not a DecodeResponse: the text is not UTF-8") from error
    return text, ids


class DecodeDoor(Door):
    """Orchestrator.Decode. A sample with nothing in it ends an answer, but where text was held back for it: then that
    comes in its place, and only the call's own status says that the answer is whole."""

    path: ClassVar[str] = "/jetstream_proto.Orchestrator/Decode"
    stream_framing: ClassVar[Framing] = "grpc"
    marks_end: ClassVar[bool] = False
    traits: ClassVar[Traits] = Traits(
        answers_whole=False, counts="token ids, tokenizer", verified="google-jetstream 0.2.2 (mock engine)"
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        if options.extra_body:
            raise Unsupported("extra_body", self.path)

    def body(self, request: Request) -> bytes:
        """A DecodeRequest, without gRPC's prefix."""
        return varint(4 << 3 | _VARINT) + varint(request.output_length) + _field(5, _field(1, request.prompt.encode()))

    def read(self, payload: bytes) -> Piece:
        contents = _parts(payload, 3)
        if not contents:
            _parts(payload, 2)
            return Piece()
        samples = _parts(b"".join(contents), 1)  # the parts of a message that comes twice are one message
        if not samples:
            return Piece(choice=True)
        text, ids = _sample(samples[0])
        return Piece(text, choice=True, token_ids=ids, finish=None if text or ids else "empty sample")
