"""JetStream's messages as Google's own protobuf library spells them, from the schema of google-jetstream 0.2.2
(jetstream/core/proto/jetstream.proto)."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_SCHEMA: dict[str, list[tuple[str, int, int, str | None, bool]]] = {  # name, number, type, its message, repeated
    "TextContent": [("text", 1, _TYPES.TYPE_STRING, None, False)],
    "TokenContent": [("token_ids", 1, _TYPES.TYPE_INT32, None, True)],
    "DecodeRequest": [
        ("session_cache", 1, _TYPES.TYPE_STRING, None, False),
        ("priority", 3, _TYPES.TYPE_INT32, None, False),
        ("max_tokens", 4, _TYPES.TYPE_INT32, None, False),
        ("text_content", 5, _TYPES.TYPE_MESSAGE, "TextContent", False),
        ("token_content", 6, _TYPES.TYPE_MESSAGE, "TokenContent", False),
    ],
    "InitialContent": [],
    "Sample": [
        ("text", 1, _TYPES.TYPE_STRING, None, False),
        ("token_ids", 2, _TYPES.TYPE_INT32, None, True),
    ],
    "StreamContent": [("samples", 1, _TYPES.TYPE_MESSAGE, "Sample", True)],
    "DecodeResponse": [
        ("initial_content", 2, _TYPES.TYPE_MESSAGE, "InitialContent", False),
        ("stream_content", 3, _TYPES.TYPE_MESSAGE, "StreamContent", False),
    ],
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="jetstream.proto", package="jetstream_proto", syntax="proto3")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=_TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL,
                type_name=f".jetstream_proto.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"jetstream_proto.{name}")) for name in _SCHEMA
    }


_CLASSES = _classes()
DecodeRequest = _CLASSES["DecodeRequest"]
DecodeResponse = _CLASSES["DecodeResponse"]


def response(*samples: tuple[str, list[int]]) -> bytes:
    """A DecodeResponse with these samples: text and token ids."""
    content = [{"text": text, "token_ids": ids} for text, ids in samples]
    return bytes(DecodeResponse(stream_content={"samples": content}).SerializeToString())


def answer(tokens: int) -> list[bytes]:
    """What JetStream says: a response a token, and an empty sample."""
    return [*(response((f" w{number}", [1000 + number])) for number in range(tokens)), response(("", []))]
