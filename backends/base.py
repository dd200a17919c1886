"""What a model server's file says of it: how a request is spelled, and what each event of an answer means.

A backend knows wire formats. It knows nothing of time or statistics, and imports nothing of `latency_profile`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote

import msgspec


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
    sax_model: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)


class Times(NamedTuple):
    """What the server says that one request took, in ns; None where it does not say."""

    queue_ns: int | None = None
    prefill_ns: int | None = None
    decode_ns: int | None = None
    total_ns: int | None = None


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
    hidden: bool = False  # its text is reasoning or a tool call: tokens, but none of the visible answer
    so_far: bool = False  # its text is the whole answer up to now, not only what is new
    times: Times | None = None
    cached_tokens: int | None = None  # prompt tokens that the server had in its prefix cache, by its own word


DEFAULT_ENDPOINT = "generate"

# How the body of a 200 is cut into events: server-sent events, one JSON object, JSON objects back to back with nothing
# between them, or gRPC messages on HTTP/2.
Framing = Literal["sse", "object", "objects", "grpc"]


class BadAnswer(ValueError):
    """Bytes that are not in the server's own protocol; becomes the record's error, and never reaches a user raw."""


class Unsupported(ValueError):
    """A setting that a door has no word for, or, where it is `missing`, cannot do without."""

    def __init__(self, setting: str, door: str, *, missing: bool = False) -> None:
        flag = f"--{setting.replace('_', '-')}"
        super().__init__(f"{flag} is needed for {door}" if missing else f"{flag} has no counterpart in {door}")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a door can do: `--help` and the README's table are made from it, and settings are held against it."""

    settings: frozenset[str] = frozenset()  # names of the sampling settings that it has words for
    streams: bool = True
    answers_whole: bool = True  # can also be asked for the whole answer at once
    exact_length: bool = False  # can be made to give exactly the wanted number of tokens (--ignore-eos)
    counts: str = "tokenizer"  # where tokens are counted from, best first, in words
    chat: bool = False
    verified: str = "specification"  # against what: a real server and its version, recorded bytes, or a specification


def json_field(name: str) -> Callable[[bytes], str | None]:
    """Reads one field of a JSON object as text; None where it is not there."""

    def read(body: bytes) -> str | None:
        try:
            value = msgspec.json.decode(body, type=dict[str, Any]).get(name)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return None if value is None else str(value)

    return read


SAMPLING = ("ignore_eos", "best_of", "use_beam_search", "top_k", "temperature")


class Door(ABC):
    """One endpoint of one backend: builds request bodies, reads events. Times nothing, opens nothing.

    A path may hold `{model}`, which stands for the request's model.
    """

    path: ClassVar[str]
    stream_path: ClassVar[str | None] = None  # where streaming goes, if to a path of its own
    traits: ClassVar[Traits]
    whole_framing: ClassVar[Framing] = "object"
    stream_framing: ClassVar[Framing] = "sse"
    marks_end: ClassVar[bool] = True  # an answer says how it ended; without, its HTTP message is whole or it is not
    health_path: ClassVar[str | None] = None  # where this door is not of the server whose health the backend names
    names_model: ClassVar[bool] = False  # its requests hold the model's name, so that none can be made up
    echoes: ClassVar[bool] = False  # answers may repeat the prompt: `own_text` cuts it off

    def __init__(self, options: Options) -> None:
        """Raises Unsupported for a setting that this door cannot spell: to drop it would measure something else."""
        self.stream = options.stream
        here = self.here
        if options.stream and not self.traits.streams:
            raise Unsupported("stream_request", here)
        if not options.stream and not self.traits.answers_whole:
            raise Unsupported("stream_request", here, missing=True)
        for name in SAMPLING:
            if getattr(options, name) != getattr(_NOTHING_ASKED, name) and name not in self.traits.settings:
                raise Unsupported(name, here)

    @property
    def framing(self) -> Framing:
        """How the body of a 200 is cut into events."""
        return self.stream_framing if self.stream else self.whole_framing

    @property
    def here(self) -> str:
        """The path, in which `{model}` may stand."""
        return (self.stream_path if self.stream else None) or self.path

    @abstractmethod
    def body(self, request: Request) -> bytes:
        """The request's body, JSON in UTF-8 (of a gRPC door: the message)."""

    @abstractmethod
    def read(self, payload: bytes) -> Piece:
        """What one event's payload means. Raises BadAnswer where it is not in this protocol."""

    def read_head(self, headers: Mapping[bytes, bytes]) -> Piece | None:
        """What the headers of a 200 tell of the answer, as a further piece; names are in lower case."""
        del headers
        return None

    def own_text(self, body: bytes, text: str) -> str:
        """The text of an answer without the prompt before it; `body` is the request's. Called where `echoes`."""
        del body
        return text


_NOTHING_ASKED = Options()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The door that `--endpoint` names, made; `path` where the user gave one, in which `{model}` may stand."""

    name: str
    door: Door
    path: str | None = None
    model: str | None = None  # where the user's path names one

    def path_for(self, model: str) -> str:
        """Where a request for this model goes."""
        return (self.path or self.door.here).replace("{model}", quote(model, safe=""))


@dataclass(frozen=True, slots=True)
class CacheReset:
    """How a server is asked to drop its prefix cache: POST, without a body."""

    path: str
    needs: str  # what a server that does not know the path has to be started with, as a sentence's end
    done: Callable[[bytes], bool] = lambda _: True  # whether the body of a 200 says that it did


@dataclass(frozen=True, slots=True)
class Backend:
    """One model server: its doors by the names that `--endpoint` takes, the default first."""

    name: str
    title: str  # as people call it
    doors: Mapping[str, type[Door]]
    health_path: str | None = None  # answers 200 when the server can be asked
    models_path: str | None = None  # where the server lists the models that it serves …
    read_models: Callable[[bytes], list[str]] | None = None  # … and their names in its answer; raises BadAnswer
    version_path: str | None = None  # where it tells its version …
    read_version: Callable[[bytes], str | None] | None = None  # … and that in its answer; None where it is not there
    default_model: str | None = None  # what is asked where none is named and none is listed
    cache_reset: CacheReset | None = None  # None: there is no such hook, or none that drops all of the cache

    def choose(self, endpoint: str, options: Options, *, grpc: bool | None = None) -> Chosen:
        """The door that `--endpoint` names: by its name, its path, or NAME=/path for that door at another path.

        "generate", the flag's default, is the first door. grpc: whether the server's URL says so; only doors that speak
        (or do not speak) gRPC are looked at then. Raises KeyError for an endpoint that is none of them, Unsupported for
        a setting that it cannot spell.
        """
        doors = {name: make for name, make in self.doors.items() if grpc in (None, make.stream_framing == "grpc")}
        name, _, path = endpoint.partition("=")
        if path.startswith("/"):
            return Chosen(name, doors[name](options), path)
        if endpoint == DEFAULT_ENDPOINT and doors:
            endpoint = next(iter(doors))
        for name, make in doors.items():
            if endpoint == name:
                return Chosen(name, make(options))
            for template in filter(None, (make.path, make.stream_path)):
                if (model := _model_in(template, endpoint)) is None:
                    continue
                if template == make.stream_path and not options.stream:
                    raise Unsupported("stream_request", template, missing=True)
                door = make(options)
                return Chosen(name, door, door.here.replace("{model}", model), model) if model else Chosen(name, door)
        raise KeyError(endpoint)


def _model_in(template: str, endpoint: str) -> str | None:
    """What the endpoint has in the place of `{model}`, "" where nothing or just that; None for another path."""
    parts, given = template.strip("/").split("/"), endpoint.strip("/").split("/")
    if len(parts) != len(given) or any(part not in (own, "{model}") for part, own in zip(parts, given, strict=True)):
        return None
    model = given[parts.index("{model}")] if "{model}" in parts else ""
    return "" if model == "{model}" else model
