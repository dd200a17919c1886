"""How a model server spells an answer: what the suite has to know of a protocol, and nothing of how this tool reads it.

A dialect is one door of one backend, streaming or not. The suite gives it the parts of an answer; it gives back the
events that carry them. What a protocol has no word for it says in `lacks`, with the reason, so that nothing is left out
unseen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from latency_profile.outcome import TokenSource

PROMPT = "Say Output:\nOutput:\n twice"  # what was asked; it holds what some servers put before the text
PROMPT_TOKENS = 7  # what every server says that the prompt had

# What a dialect may have no word for; each is a case of the suite.
LACKABLE = (
    "role",  # an event before the first token that only names who speaks
    "usage",  # an event with nothing but the count of tokens
    "no choices",  # an event with an empty list of choices
    "null delta",  # an event whose delta is null
    "reasoning",  # text before the visible answer
    "several tokens",  # more than one token in an event
    "end mark",  # an event that only says that this is the end
    "finish",  # why the answer ended
    "stop",
    "length",
    "abort",
    "error",
    "error body",  # in place of an answer: an object that says so
)


class Part(NamedTuple):
    """One event's share of an answer."""

    text: str
    tokens: int = 1
    hidden: bool = False  # reasoning


class Said(NamedTuple):
    """One event as it is spelled. `part`: which of the parts it carries, None where it carries none."""

    payload: bytes
    part: int | None = None


def json_of(value: Any) -> bytes:
    """Compact JSON with every character as itself, as most servers send it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One door. `total`, `each`: whether the server counts the tokens of the whole answer, and those of each event."""

    backend: str
    door: str
    streams: bool
    total: bool = True
    each: bool = False
    source: TokenSource = TokenSource.USAGE  # who counted, where `total`
    framing: str = "sse"  # of a stream
    content_type: str = "text/event-stream; charset=utf-8"  # of a stream
    told_prompt: bool = True  # it says how many tokens the prompt had
    ends_itself: bool = True  # the answer says how it ended
    finishes: Mapping[str, str] = field(default_factory=lambda: {"stop": "stop", "length": "length"})
    tells_text: bool = True  # the door puts the text together; False: only its tokens, which the server counts
    lacks: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.backend}-{self.door}-{'stream' if self.streams else 'whole'}{self.variant}"

    @property
    def variant(self) -> str:
        """What tells it from another dialect of the same door."""
        return ""

    # What a dialect spells. None: it has no word for that, and `lacks` says why.

    def stream(self, parts: Sequence[Part], finish: str | None = "stop", *, mark: bool = True) -> list[Said]:
        """The events of a streamed answer; finish None: it does not say why it ended. mark: with its end mark."""
        raise NotImplementedError

    def whole(self, parts: Sequence[Part], finish: str | None = "stop") -> bytes:
        """The one object of an answer that is not streamed."""
        raise NotImplementedError

    def error(self, message: str) -> bytes:
        """What it says inside a 200 of a request that failed."""
        raise NotImplementedError

    def role(self) -> bytes | None:
        return None

    def usage(self, tokens: int) -> bytes | None:
        del tokens
        return None

    def no_choices(self) -> bytes | None:
        return None

    def null_delta(self) -> bytes | None:
        return None

    def end_mark(self) -> bytes | None:
        return None

    def head(self, parts: Sequence[Part]) -> list[str]:
        """Headers of its own."""
        del parts
        return []
