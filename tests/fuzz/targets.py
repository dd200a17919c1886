"""What is fuzzed: each target takes any bytes at all, and raises where the code under test breaks a promise.

They need no fuzzer: the kept corpus (corpus/TARGET/) goes through them in `make test`.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise

import backends
from backends.base import BadAnswer, Door, Options, Piece, Request
from backends.framing import ends_inside, json_objects, sse_events
from latency_profile.answers import read_answer
from latency_profile.http_answer import HttpAnswer
from latency_profile.sender.spool import End, Entry, Kind
from tests.conformance.cases import meanings
from tests.conformance.dialect import PROMPT
from tests.conformance.failures import failures
from tests.conformance.sound import check_row
from tests.conformance.table import DIALECTS
from tests.conformance.wires import MESSAGES, framings

_LARGEST = 1 << 62
END_AT = 10**9
_CUTS = struct.Struct(">BBBB")  # door, end, two cuts in 256ths of the wire
_ENDS = list(End)


_PLACES = {key: place for place, key in enumerate(sorted({(it.backend, it.door, it.streams) for it in DIALECTS}))}
DOORS: list[Door] = [backends.load(name).doors[door](Options(stream=streams)) for name, door, streams in _PLACES]
_ASKED = [door.body(Request(0, "model", PROMPT, 7, 8)) for door in DOORS]


def _check_cut(cut: list[tuple[int, bytes]], body: bytes) -> None:
    ends = [end for end, _ in cut]
    assert ends == sorted(ends) and (not ends or 0 < ends[0] <= ends[-1] <= len(body))
    assert sum(len(payload) for _, payload in cut) <= len(body)


def events(data: bytes) -> None:
    """sse_events: offsets grow, and no byte comes twice; a body in two halves at an event's end is the same events."""
    cut = sse_events(data)
    _check_cut(cut, data)
    ends_inside(data, events=True)
    if cut and b"\r" not in data:
        middle = cut[len(cut) // 2][0]
        assert [payload for _, payload in cut] == [
            payload for part in (data[:middle], data[middle:]) for _, payload in sse_events(part)
        ] or data[middle:].startswith(b"\xef\xbb\xbf")  # a mark at the beginning of a body is no part of its first line


def objects(data: bytes) -> None:
    """json_objects: nothing but blanks is lost."""
    cut = json_objects(data)
    _check_cut(cut, data)
    ends_inside(data, events=False)
    assert b"".join(b"".join(payload for _, payload in cut).split()) == b"".join(data.split())


def doors(data: bytes) -> None:
    """Every door's reading of one payload: a piece in bounds, or BadAnswer."""
    for door in DOORS:
        try:
            piece = door.read(data)
        except BadAnswer as error:
            str(error).encode()
            continue
        _check_piece(piece)


def _check_piece(piece: Piece) -> None:
    piece.text.encode()  # a lone surrogate could not be written
    (piece.error or "").encode()
    for number in (piece.token_ids, piece.total_output, piece.input_tokens, *(piece.times or ())):
        assert number is None or 0 <= number < _LARGEST


def heads(data: bytes) -> None:
    """Headers of any kind, and texts of which a door cuts off the prompt."""
    lines = dict(line.split(b":", 1) for line in data.split(b"\n") if b":" in line)
    text = data.decode("utf-8", "replace")
    for door, asked in zip(DOORS, _ASKED, strict=True):
        piece = door.read_head({name.lower(): value.strip() for name, value in lines.items()})
        if piece is not None:
            _check_piece(piece)
        if door.echoes:
            assert text.endswith(door.own_text(asked, text))


def messages(data: bytes) -> None:
    """HttpAnswer: the same body, however it is cut; bounds that grow to its length."""
    whole, single = HttpAnswer(), HttpAnswer()
    whole.feed([data])
    single.feed([data[at : at + 1] for at in range(len(data))])
    assert (whole.status, whole.problem) == (single.status, single.problem)
    assert whole.body == single.body or whole.problem is not None  # of a body that cannot be unpacked none is used
    assert single.bounds == sorted(single.bounds) and (single.bounds or [0])[-1] == len(single.body)


def answers(data: bytes) -> None:
    """All the way from the bytes of an answer to its row."""
    if len(data) < _CUTS.size:
        return
    which, how, first, second = _CUTS.unpack_from(data)
    wire = data[_CUTS.size :]
    bounds = sorted({0, len(wire) * first // 256, len(wire) * second // 256, len(wire)})
    parts = [wire[begin:end] for begin, end in pairwise(bounds)]
    door, asked = DOORS[which % len(DOORS)], _ASKED[which % len(DOORS)]
    end = Entry(Kind.END, 0, _ENDS[how % len(_ENDS)], how // len(_ENDS), END_AT, -1, b"")
    reads = [Entry(Kind.READ, 0, 0, 0, at, at % 3 * 1_000_000, part) for at, part in enumerate(parts, 1)]
    row = read_answer(reads, end, door, asked)
    check_row(row, reads, end)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "events": events,
    "objects": objects,
    "doors": doors,
    "heads": heads,
    "messages": messages,
    "answers": answers,
}


def seeds(target: str) -> Iterator[bytes]:
    """Where fuzzing begins: the answers of the conformance table, in the form that the target takes."""
    for dialect in DIALECTS:
        place = _PLACES[dialect.backend, dialect.door, dialect.streams]
        for case in reversed(meanings(dialect)):  # the last one is the plain answer
            payloads = [one.payload for one in case.make(dialect)[0]]
            if target == "doors":
                yield from payloads
            elif target in ("events", "objects"):
                yield from (frame(payloads).data for frame in framings(dialect).values())
            elif target == "heads":
                yield "\n".join(dialect.head(case.make(dialect)[1])).encode()
        plain = next(iter(framings(dialect).values()))(payloads)
        wires = [message(dialect, plain, []).data for message in MESSAGES.values()]
        wires += [failure.message(dialect) for failure in failures(dialect)]
        if target == "messages":
            yield from wires
        elif target == "answers":
            yield from (_CUTS.pack(place, at % len(_ENDS), 64, 128) + wire for at, wire in enumerate(wires))
