"""What the parent and an engine's process say to each other, one line of JSON each. Nothing but the standard library:
the engine may live in a Python that has none of our packages.

All times are in seconds from the moment at which the engine was given the batch, on the process' monotonic clock.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

_Said = TypeVar("_Said", bound="Message")


@dataclass(frozen=True)
class Message:
    """One of those below."""

    kind: ClassVar[str]

    def line(self) -> str:
        """One line of JSON, with its end."""
        return json.dumps({"kind": self.kind, **asdict(self)}) + "\n"


@dataclass(frozen=True)
class Load(Message):
    """The engine that is wanted, and how. None: the engine's own default."""

    kind = "load"

    engine: str
    model: str | None
    device: str  # auto, cpu or gpu
    dtype: str  # auto, or as the engine calls it
    load_format: str  # auto, or dummy: random weights
    tensor_parallel_size: int
    gpu_memory_utilization: float  # share of the card, where the engine takes one
    max_num_batched_tokens: int  # of one step
    max_num_seqs: int | None  # requests in the engine at once
    max_model_len: int | None  # tokens of one request
    threads: int | None
    enforce_eager: bool
    seed: int


@dataclass(frozen=True)
class Ready(Message):
    """An engine that has loaded its model."""

    kind = "ready"

    engine: str
    version: str
    model: str
    device: str  # the name of what it computes on
    dtype: str | None  # None: the engine does not say
    vocabulary: int  # tokens
    max_model_len: int  # prompt and answer together
    longest: int  # the same, of the model itself, whatever it was loaded for
    at_once: int | None  # requests that it works on at once; None: it does not say
    continuous: bool  # whether a request may begin while others run
    load_s: float


@dataclass(frozen=True)
class Batch(Message):
    """Requests to be given to the engine at once. prompts: token ids; output_tokens: how many each is to generate."""

    kind = "batch"

    prompts: list[list[int]]
    output_tokens: list[int]


@dataclass(frozen=True)
class Ran(Message):
    """A batch that has been generated. Lists have one value a request, in the batch's order."""

    kind = "ran"

    took_s: float  # until the engine gave the whole batch back
    first_s: list[float | None]  # first token; None: the engine does not tell
    end_s: list[float]  # last token
    input_tokens: list[int]  # as the engine counted them
    output_tokens: list[int]


@dataclass(frozen=True)
class Refused(Message):
    """The engine cannot do what was asked for: another request is needed, not another try."""

    kind = "refused"

    reason: str


@dataclass(frozen=True)
class Failed(Message):
    """Something went wrong in the engine; its own words are in its log."""

    kind = "failed"

    reason: str


class EngineRefusal(Exception):
    """Raised in the engine's process: becomes `Refused`."""


def read(line: str, *kinds: type[_Said]) -> _Said:
    """One of these messages. Raises ValueError where the line is none."""
    said: dict[str, Any] = json.loads(line)
    kind = said.pop("kind", None)
    for wanted in kinds:
        if wanted.kind == kind and {field.name for field in fields(wanted)} == said.keys():
            return wanted(**said)
    raise ValueError(f"an unexpected message: {line[:100]!r}")
