"""Feeds a wire to `read_answer`, whole and cut; says what must come out, from the dialect, the parts and the cut."""

from collections.abc import Sequence
from functools import cache

import backends
from backends.base import Door, Options, Request
from backends.framing import json_objects, sse_events
from latency_profile.answer_tokens import NONE
from latency_profile.answers import Row, read_answer
from latency_profile.outcome import Status, TokenSource
from latency_profile.sender.spool import End, Entry, Kind
from tests.conformance.dialect import PROMPT, PROMPT_TOKENS, Dialect, Part, Said
from tests.conformance.wires import Body, Wire

END_AT = 10**9


@cache
def _door(backend: str, name: str, streams: bool) -> tuple[Door, bytes]:
    """The door and a request of it."""
    door = backends.load(backend).doors[name](Options(stream=streams))
    return door, door.body(Request(0, "model", PROMPT, PROMPT_TOKENS, 8))


def door_of(dialect: Dialect) -> Door:
    """The door of ours that reads this dialect."""
    return _door(dialect.backend, dialect.door, dialect.streams)[0]


def request_of(dialect: Dialect) -> bytes:
    """The body of a request for `PROMPT`."""
    return _door(dialect.backend, dialect.door, dialect.streams)[1]


def entry_of_end(end: End, number: int = 0) -> Entry:
    return Entry(Kind.END, 0, end, number, END_AT, NONE, b"")


def reads_of(parts: Sequence[bytes]) -> list[Entry]:
    """Read k at time k, from 1 on."""
    return [Entry(Kind.READ, 0, 0, 0, time, 0, part) for time, part in enumerate(parts, 1)]


def row_of(dialect: Dialect, parts: Sequence[bytes], end: End = End.COMPLETE, number: int = 0) -> Row:
    door, request = _door(dialect.backend, dialect.door, dialect.streams)
    return read_answer(reads_of(parts), entry_of_end(end, number), door, request)


def said_text(dialect: Dialect, body: Body) -> str:
    """The text in the events, by the door's own reading of each, put together here."""
    door = door_of(dialect)
    match door.framing:
        case "sse":
            payloads = [payload for _, payload in sse_events(body.data)]
        case "objects":
            payloads = [payload for _, payload in json_objects(body.data)]
        case _:
            payloads = [body.data]
    text = ""
    for payload in payloads:
        piece = door.read(payload)
        text = (piece.text or text) if piece.so_far else text + piece.text
    return text


class Expected:
    """What the row of an answer must say, however it is cut."""

    def __init__(self, dialect: Dialect, said: Sequence[Said], parts: Sequence[Part], wire: Wire) -> None:
        self._dialect, self._parts, self._wire = dialect, parts, wire
        self._carried = [
            (end, parts[one.part].tokens if dialect.each else int(parts[one.part].text != ""), parts[one.part].hidden)
            for end, one in zip(wire.ends, said, strict=True)
            if one.part is not None
        ]

    def check(self, row: Row, cut: Sequence[int], status: Status = Status.OK) -> None:
        """`cut`: how much of the wire was there after each read."""
        dialect, tokens = self._dialect, row.tokens
        assert (row.status, row.http_status, row.answer_bytes) == (status, 200, len(self._wire.data)), row.message
        if status not in (Status.OK, Status.ERROR_EVENT, Status.EMPTY, Status.TRUNCATED):
            return
        timed = []
        visible = NONE
        for end, carried, hidden in self._carried if dialect.streams else ():
            if carried:
                at = next(time for time, there in enumerate(cut, 1) if there >= end)
                timed.append((at, carried))
                visible = at if visible == NONE and not hidden else visible
        first, last = (timed[0][0], timed[-1][0]) if timed else (NONE, NONE)
        assert list(tokens.events) == timed
        assert (tokens.first_token_ns, tokens.last_token_ns, tokens.first_visible_ns) == (first, last, visible)
        if status != Status.OK:
            return
        assert row.end_ns == len(cut)
        if dialect.total:
            counted = sum(part.tokens for part in self._parts)
            assert (tokens.output_tokens, tokens.source, tokens.text) == (counted, dialect.source, None)
        else:
            text = "".join(part.text for part in self._parts)
            assert (tokens.output_tokens, tokens.source, tokens.text) == (NONE, TokenSource.NONE, text)
        assert tokens.server_input_tokens == (PROMPT_TOKENS if dialect.told_prompt else NONE)

    def check_every_cut(self, status: Status = Status.OK, begin: int = 1) -> None:
        """Whole, byte by byte, and in two at every place from `begin` on."""
        wire, end = self._wire.data, self._wire.end
        dialect = self._dialect
        self.check(row_of(dialect, [wire], end), [len(wire)], status)
        single = [wire[at : at + 1] for at in range(len(wire))]
        self.check(row_of(dialect, single, end), range(1, len(wire) + 1), status)
        for at in range(begin, len(wire)):
            self.check(row_of(dialect, [wire[:at], wire[at:]], end), [at, len(wire)], status)
