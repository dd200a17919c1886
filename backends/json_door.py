"""What all doors with JSON bodies share: the user's own fields in every request, typed decoding, bounded numbers."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from backends.base import BadAnswer, Door, Options, Request

# What a server claims is bounded, so that no sum of it overflows the records' 64-bit columns.
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, lt=1e10)]
Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e7)]

Decoded = TypeVar("Decoded")


class JsonDoor(Door):
    """A door whose request is a JSON object: `fields`, with --extra-body as a merge patch (RFC 7396) onto it."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._patch = options.extra_body

    @abstractmethod
    def fields(self, request: Request) -> dict[str, Any]:
        """The request in the server's words."""

    def body(self, request: Request) -> bytes:
        return msgspec.json.encode(merged(self.fields(request), self._patch))


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, JSON Merge Patch: null removes a field, an object is merged into the one there, all else replaces."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            below = result.get(name)
            result[name] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def decode(decoder: msgspec.json.Decoder[Decoded], payload: bytes, what: str) -> Decoded:
    """The payload in its type. Raises BadAnswer, naming what it should have been, for all that is not in that type."""
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"not {what}: {error}") from error


def error_text(error: Any) -> str:
    """An error's message: servers send a string, or an object with a `message`."""
    if isinstance(error, dict):
        error = error.get("message", error)
    return str(error)


def ns(value: float | None, unit: int) -> int | None:
    """A time from the wire in whole ns; `unit` is ns in one of its units."""
    return None if value is None else round(value * unit)
