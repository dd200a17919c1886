"""Answers of OpenAI's two doors, encoded before anybody asks: sending a token is sending bytes that are there."""

import re
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

MODEL = "calibration"
TOKEN = " the"  # one token of every tokenizer that was tried
DEFAULT_TOKENS = 100
_PROMPT_TOKENS = 32  # in the usage: nothing here counts tokens

_LENGTH = re.compile(rb'"max_(?:completion_)?tokens"\s*:\s*(\d+)')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_RUNNING_USAGE = re.compile(rb'"continuous_usage_stats"\s*:\s*true')


class Usage(Enum):
    """Which events of a stream carry the server's count of tokens."""

    NONE = 0
    LAST = 1
    ALL = 2


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer is spelled."""

    chat: bool
    stream: bool
    usage: Usage


def asked(path: bytes, body: bytes) -> tuple[Form, int]:
    """The form and the number of tokens that a request asks for. Its body is not parsed: inside of a JSON string none
    of these names is followed by a plain quote."""
    stream = _STREAM.search(body) is not None
    usage = Usage.NONE
    if _USAGE.search(body):
        usage = Usage.ALL if _RUNNING_USAGE.search(body) else Usage.LAST
    length = _LENGTH.search(body)
    tokens = int(length[1]) if length else DEFAULT_TOKENS
    return Form(b"chat" in path, stream, usage), max(1, tokens)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def whole(content: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    """An answer of one piece."""
    return b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (status, kind, len(content), content)


class Events(NamedTuple):
    """All that is sent for an answer, shapes (events,): the head goes with the first one, and what ends the stream with
    the last one."""

    data: list[bytes]
    carried: list[int]  # tokens


class Encoder:
    """The events of all answers of one form. Each is made once."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._events: dict[int, bytes] = {}  # by the tokens of the answer by then
        self._answers: dict[tuple[int, ...], Events] = {}

    def events(self, tokens: tuple[int, ...]) -> Events:
        """Of an answer that has so many tokens after each event."""
        found = self._answers.get(tokens)
        if found is None:
            data = self._stream(tokens) if self._form.stream else [self._object(tokens[-1])]
            carried = [after - before for before, after in pairwise((0, *tokens))]
            found = self._answers[tokens] = Events(data, carried)
        return found

    def _stream(self, tokens: tuple[int, ...]) -> list[bytes]:
        counted = self._form.usage is Usage.ALL
        events = [self._event(number if counted else 0) for number in tokens[:-1]]
        end = self._encoded(tokens[-1], b'"length"')
        if self._form.usage is not Usage.NONE:
            end += _chunk(b"%s[],%s}" % (self._start, _usage(tokens[-1])))
        events.append(end + _DONE)
        events[0] = HEAD + events[0]
        return events

    def _event(self, tokens: int) -> bytes:
        if tokens not in self._events:
            self._events[tokens] = self._encoded(tokens, b"null")
        return self._events[tokens]

    def _object(self, tokens: int) -> bytes:
        text = (TOKEN * tokens).encode()
        part = b'"message":{"role":"assistant","content":"%s"}' if self._form.chat else b'"text":"%s"'
        choice = b'{"index":0,%s,"finish_reason":"length"}' % (part % text)
        return whole(b"%s[%s],%s}" % (self._start, choice, _usage(tokens)))

    @property
    def _start(self) -> bytes:
        kind = b"chat.completion" if self._form.chat else b"text_completion"
        if self._form.chat and self._form.stream:
            kind += b".chunk"
        return b'{"id":"cmpl-0","object":"%s","created":0,"model":"%s","choices":' % (kind, MODEL.encode())

    def _encoded(self, tokens: int, finish: bytes) -> bytes:
        text = b'"delta":{"content":"%s"}' if self._form.chat else b'"text":"%s"'
        choice = b'{"index":0,%s,"finish_reason":%s}' % (text % TOKEN.encode(), finish)
        usage = b"," + _usage(tokens) if self._form.usage is Usage.ALL else b""
        return _chunk(b"%s[%s]%s}" % (self._start, choice, usage))


def _usage(tokens: int) -> bytes:
    return b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        _PROMPT_TOKENS,
        tokens,
        _PROMPT_TOKENS + tokens,
    )


def _chunk(content: bytes) -> bytes:
    data = b"data: %s\n\n" % content
    return b"%x\r\n%s\r\n" % (len(data), data)


_DONE = _chunk(b"[DONE]") + b"0\r\n\r\n"
