"""What a model server's file says of it: how a request is spelled, and what each event of an answer means.

A backend knows wire formats. It knows nothing of time or statistics, and imports nothing of `latency_profile`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask: one prompt for one model. Lengths are in tokens of the profile's tokenizer."""

    index: int
    model: str
    prompt: str
    input_length: int
    output_length: int


@dataclass(frozen=True, slots=True)
class Options:
    """What all requests of a profile have in common."""

    stream: bool = False
    ignore_eos: bool = False
    best_of: int = 1
    use_beam_search: bool = False
    top_k: int | None = None
    temperature: float | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)


class Piece(NamedTuple):
    """What one event of an answer carried. Every field may be absent: an event is not a token."""

    text: str = ""
    choice: bool = False  # it spoke of the answer's text at all (a usage-only event does not)
    token_ids: int = 0  # how many token ids the event lists
    total_output: int | None = None  # output tokens of the answer so far, by the server's usage
    input_tokens: int | None = None  # prompt tokens, by the server's usage
    finish: str | None = None  # why the answer ended, in the server's words
    error: str | None = None  # the server says that this answer failed
    last: bool = False  # the protocol's own end mark ([DONE])


DEFAULT_ENDPOINT = "generate"

Framing = Literal["sse", "json"]


class BadAnswer(ValueError):
    """Bytes that are not in the server's own protocol; becomes the record's error, and never reaches a user raw."""


class Unsupported(ValueError):
    """A setting that a door has no word for."""

    def __init__(self, setting: str, door: str) -> None:
        super().__init__(f"--{setting.replace('_', '-')} has no counterpart in {door}")


class Door(Protocol):
    """One endpoint of one backend: builds request bodies, reads events. Times nothing, opens nothing."""

    def __init__(self, options: Options) -> None:
        """Raises Unsupported for a setting that this door cannot spell."""

    path: ClassVar[str]
    framing: Framing  # how the body of a 200 is cut into events: "sse", or "json" for one object

    def body(self, request: Request) -> bytes:
        """The request's body, JSON in UTF-8."""

    def read(self, payload: bytes) -> Piece:
        """What one event's payload means. Raises BadAnswer where it is not in this protocol."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One model server: its doors by the names that `--endpoint` takes, the default first."""

    name: str
    doors: Mapping[str, type[Door]]
    models_path: str | None = None  # where the server lists the models that it serves …
    read_models: Callable[[bytes], list[str]] | None = None  # … and their names in its answer; raises BadAnswer
    version_path: str | None = None  # where it tells its version, as {"version": …}

    def door(self, endpoint: str, options: Options) -> tuple[str, Door]:
        """The door that `--endpoint` names, by its name or its path; "generate", the flag's default, is the first one.

        Raises KeyError for an endpoint that is none of them, Unsupported for a setting that it cannot spell.
        """
        if endpoint == DEFAULT_ENDPOINT:
            endpoint = next(iter(self.doors))
        for name, make in self.doors.items():
            if endpoint.strip("/") in (name, make.path.strip("/")):
                return name, make(options)
        raise KeyError(endpoint)
