"""What all protocols have in common: what a request asks for, how an answer is written, the small doors.

A protocol reads a POST into an `Ask` (or raises `Refusal` with the server's own words) and gives a `Writer` for its
answer. The server decides when a writer is called; a writer knows bytes only.
"""

import asyncio
import json
import math
import random
import socket
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from latency_profile.simulator.connection import Application, Closeable, Connection, Reply
from latency_profile.simulator.engine import EngineProfile
from latency_profile.simulator.job import Job, Stats
from latency_profile.simulator.metrics import Meter
from latency_profile.simulator.text import MASK, Vocabulary

LAST_CHUNK = b"0\r\n\r\n"
NO_BATCH = "a batch of prompts in one request is not simulated: send one prompt a request."
METRICS_TYPE = b"text/plain; version=1.0.0; charset=utf-8"


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Served:
    """What the server serves, as far as requests are judged by it."""

    models: Sequence[str]
    max_model_len: int
    vocabulary: Vocabulary
    eos_probability: float = 0.0  # that a token is the answer's last, unless ignore_eos
    seed: int = 0
    reasoning_tokens: int = 0  # how many tokens of each chat answer are reasoning


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, understood. `key` is a hash of the prompt: it seeds whatever is drawn for the answer."""

    door: str  # the path
    model: str
    prompt_ids: list[int]
    key: int
    max_tokens: int
    output_tokens: int
    stopped: bool  # ends with an end-of-sequence token (which counts as a token), not at max_tokens
    stream: bool
    usage_error: int = 0  # by how much every count of output tokens that is told is wrong
    unfinished: bool = False  # no reason for its end is told

    def told(self, tokens: int) -> int:
        """The count of output tokens that the answer tells."""
        return max(0, tokens + self.usage_error)

    def finish(self, length: str = "length", stop: str = "stop") -> str | None:
        """Why a whole answer ended, in the server's words."""
        if self.unfinished:
            return None
        return stop if self.stopped else length


def prompt_key(prompt_ids: Sequence[int]) -> int:
    """The hash of a prompt."""
    return zlib.crc32(array("I", prompt_ids).tobytes())


def draw_length(max_tokens: int, min_tokens: int, ignore_eos: bool, served: Served, key: int) -> tuple[int, bool]:
    """How many tokens will be generated, and whether an end token is the last of them.

    After `min_tokens` each token is the end with probability p: geometric, by inversion of one uniform draw.
    """
    probability = served.eos_probability
    if ignore_eos or probability == 0:
        return max_tokens, False
    uniform = random.Random(f"length {served.seed} {key}").random()
    draws = 1 if probability == 1 else 1 + math.floor(math.log(1 - uniform) / math.log(1 - probability))
    length = min_tokens + draws
    return (length, True) if length <= max_tokens else (max_tokens, False)


def json_fault(body: bytes) -> tuple[int, str]:
    """Where a body stops being JSON (characters), and what Python's json says of it."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        return error.pos, error.msg
    except UnicodeDecodeError as error:
        return error.start, "Invalid bytes"
    return 0, "Invalid bytes"


def wrong_field(error: msgspec.ValidationError) -> str:
    """The name of the field that is missing or of a wrong type; "" where it is the whole body."""
    text = str(error)
    missing = text.partition("missing required field `")[2].rstrip("`")
    return missing or (text.rpartition("`$.")[2].rstrip("`") if "`$." in text else "")


def is_missing(message: str) -> bool:
    """Whether a message of msgspec is about a field that is not there."""
    return "missing required field" in message


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def sse(payload: bytes) -> bytes:
    """One server-sent event of one line."""
    return b"data: %b\n\n" % payload


DONE = sse(b"[DONE]")


def json_reply(status: int, value: object, fields: bytes = b"", content_type: bytes = b"application/json") -> Reply:
    """A whole answer of compact JSON."""
    return Reply(status, msgspec.json.encode(value), content_type, fields)


class Writer(ABC):
    """Writes one answer, streamed or whole.

    A stream is written as chunks of a chunked body. What stays the same from event to event is encoded once: where
    `_plain` is set, an ordinary event (one token, neither first nor last) is `_head`, the token's text and `_tail`.
    """

    content_type: ClassVar[bytes] = b"text/event-stream; charset=utf-8"
    fields: bytes = b""  # further header lines of a stream
    late_head: ClassVar[bool] = False  # a stream's head waits for the first event
    closes: ClassVar[bool] = False  # the connection is closed after a stream, without a word

    def __init__(self, ask: Ask, job: Job, vocabulary: Vocabulary, name: str) -> None:
        self.name = name
        self._job = job
        self._vocabulary = vocabulary
        self._offset = ask.key & MASK
        self._encoded = vocabulary.encoded
        self._stopped = ask.stopped
        self._fast_from = 1
        self._final = ask.output_tokens - 1
        self._head = self._tail = b""
        self._plain = False

    @abstractmethod
    def events(self, start: int, count: int, last: bool) -> Iterable[bytes]:
        """The events of tokens `start` to `start + count` (maybe none); with `last`, all that ends the answer."""

    @abstractmethod
    def whole(self) -> Reply:
        """The answer that is not streamed."""

    @abstractmethod
    def failure(self, message: str) -> Iterable[bytes]:
        """What a stream brings when the server fails in its midst."""

    def head(self) -> bytes:
        """The header lines of a stream."""
        return b"content-type: %b\r\n%btransfer-encoding: chunked\r\n" % (self.content_type, self.fields)

    def event(self, start: int, count: int) -> bytes:
        """The bytes that carry tokens `start` to `start + count`, the body's end included with the last."""
        if self._plain and count == 1 and self._fast_from <= start < self._final:
            payload = self._head + self._encoded[(self._offset + start) & MASK] + self._tail
            return b"%x\r\n%b\r\n" % (len(payload), payload)
        return self.framed(self.events(start, count, start + count > self._final), start + count > self._final)

    def framed(self, events: Iterable[bytes], last: bool) -> bytes:
        """Events as they go into the stream, and its end."""
        data = b"".join([chunk(event) for event in events])
        return data + LAST_CHUNK if last else data

    def text(self, start: int, count: int) -> bytes:
        """The text of some tokens, inside a JSON string. The end token has none."""
        return self._vocabulary.answer_json(self._offset, start, self._words(start, count))

    def whole_text(self) -> str:
        """The text of the answer."""
        return self._vocabulary.answer_text(self._offset, 0, self._words(0, self._final + 1))

    def ids(self, start: int, count: int) -> list[int]:
        """Token ids of a part of the answer."""
        ids = self._vocabulary.answer_ids(self._offset, start, count)
        if self._stopped and ids and start + count > self._final:
            ids[-1] = self._vocabulary.end_id
        return ids

    def _words(self, start: int, count: int) -> int:
        return count - 1 if count and self._stopped and start + count > self._final else count


class WholeWriter(Writer):
    """Of a door that never streams."""

    def events(self, start: int, count: int, last: bool) -> Iterable[bytes]:
        return ()


class ServerProtocol(ABC):
    """One kind of model server."""

    reasoning: ClassVar[bool] = False  # its chat answers can have reasoning
    silent: ClassVar[frozenset[str]] = frozenset()  # faults that none of its answers has a place for
    fields: ClassVar[bytes] = b""  # header lines of every whole answer
    default_model: ClassVar[str] = "simulated"
    reset_path: ClassVar[str | None] = None  # a POST here drops the prefix cache
    Door = Callable[[Stats], Reply]

    def __init__(self, served: Served, engine: EngineProfile | None) -> None:
        self.served = served
        self.meter = self.make_meter(engine)
        self.doors: Mapping[tuple[str, str], ServerProtocol.Door] = self.make_doors()
        self._paths = {path for _, path in self.doors}

    @abstractmethod
    def generates(self, path: str) -> bool:
        """Whether a POST to this path asks for an answer of the model."""

    @abstractmethod
    def read(self, path: str, body: bytes) -> Ask:
        """Understands a POST. Raises Refusal."""

    @abstractmethod
    def writer(self, ask: Ask, job: Job, request_id: str | None) -> Writer:
        """What writes the answer. `request_id`: the x-request-id header."""

    def shows(self, fault: str, ask: Ask) -> bool:
        """Whether the answer to this request has a place for a fault of this kind."""
        return fault not in self.silent and (ask.stream or fault != "half_first")

    @abstractmethod
    def error_body(self, status: int, message: str) -> bytes:
        """An error in the server's own form."""

    def make_doors(self) -> Mapping[tuple[str, str], Door]:
        """What is asked besides answers: (method, path) and what answers it."""
        return {}

    def make_meter(self, engine: EngineProfile | None) -> Meter:
        """What counts for /metrics; `engine` is the timing model's profile where it is an engine."""
        return Meter()

    def reset_reply(self, done: bool) -> Reply:
        """What the door at `reset_path` answers; not `done`: requests hold a part of the cache."""
        return Reply(200 if done else 400, fields=self.fields)

    def connect(self, application: Application, loop: asyncio.AbstractEventLoop, client: socket.socket) -> Closeable:
        """Serves a new connection. A protocol that is not HTTP/1.1 brings its own kind."""
        return Connection(application, loop, client)

    def door(self, method: str, path: str, stats: Stats) -> Reply:
        """The answer of a small door."""
        door = self.doors.get((method, path))
        if door is not None:
            return door(stats)
        known = path in self._paths or self.generates(path)
        return self.not_allowed() if known else self.not_found()

    def error(self, status: int, message: str, fields: bytes = b"") -> Reply:
        """An error that is answered whole."""
        return Reply(status, self.error_body(status, message), fields=self.fields + fields)

    def refusal(self, status: int, message: str, ask: Ask) -> Reply:
        """What a server that is asked to refuse says to a request that it would have taken."""
        return self.error(status, message, b"retry-after: 1\r\n" if status in (429, 503) else b"")

    def not_found(self) -> Reply:
        return Reply(404, b'{"detail":"Not Found"}', fields=self.fields)

    def not_allowed(self) -> Reply:
        return Reply(405, b'{"detail":"Method Not Allowed"}', fields=self.fields)

    def metrics(self, stats: Stats) -> Reply:
        """The door of the Prometheus text."""
        return Reply(200, self.meter.render(stats), METRICS_TYPE, self.fields)

    def constant(self, body: bytes, content_type: bytes = b"application/json") -> Door:
        """A door that always gives the same."""
        return lambda _: Reply(200, body, content_type, self.fields)

    def prompt_ids(self, prompt: Any) -> list[int]:
        """Ids of a text, or the ids themselves. ValueError where it is neither, or is a batch."""
        if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return self.served.vocabulary.encode(prompt)
        if isinstance(prompt, list) and all(type(token) is int and 0 <= token < 1 << 32 for token in prompt):
            return prompt
        raise ValueError("neither one text nor one list of token ids")

    def drawn(
        self, prompt_ids: list[int], max_tokens: int, ignore_eos: bool = False, min_tokens: int = 0
    ) -> dict[str, Any]:
        """The fields of an `Ask` that follow from the prompt and the limits."""
        key = prompt_key(prompt_ids)
        output, stopped = draw_length(max_tokens, min_tokens, ignore_eos, self.served, key)
        return {
            "prompt_ids": prompt_ids,
            "key": key,
            "max_tokens": max_tokens,
            "output_tokens": output,
            "stopped": stopped,
        }
