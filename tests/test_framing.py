"""Server-sent events against the standard and a second, slow reading of it; JSON objects one behind the other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends.framing import ends_inside, json_objects, sse_events

DATA = Path(__file__).with_name("data")


def read_slowly(body: bytes) -> list[tuple[int, bytes]]:
    """Byte by byte, as the standard tells it (9.2.6); at the end of the stream, an event without its blank line too."""
    events: list[tuple[int, bytes]] = []
    data: list[bytes] = []
    line = b""
    at = 0
    while at < len(body):
        if body[at : at + 1] not in (b"\r", b"\n"):
            line += body[at : at + 1]
            at += 1
            continue
        at += 2 if body[at : at + 2] == b"\r\n" else 1
        if line:
            _field(line, data)
        elif data:
            events.append((at, b"\n".join(data)))
            data = []
        line = b""
    if line:
        _field(line, data)
    if data:
        events.append((len(body), b"\n".join(data)))
    return events


def _field(line: bytes, data: list[bytes]) -> None:
    name, _, value = line.partition(b":")
    if name == b"data":
        data.append(value.removeprefix(b" ") if not value.startswith(b"  ") else value[1:])


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b": ping\n\ndata: a\n\n: ping\n\n", [b"a"]),
        (b"event: message\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"data: a\nevent: message\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n: between\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\n\n\n\n\ndata: b\n\n\n", [b"a", b"b"]),
        (b"\n\n\ndata: a\n\n", [b"a"]),
        (b"datas: a\n\n data: b\n\nDATA: c\n\n", []),
        (b"event: done\n\n", []),
        (b"", []),
        ('data: {"text":"機関\u2028\x85"}\n\n'.encode(), ['{"text":"機関\u2028\x85"}'.encode()]),
    ],
)
def test_payloads(body: bytes, payloads: list[bytes]) -> None:
    assert [payload for _, payload in sse_events(body)] == payloads
    assert list(sse_events(body)) == read_slowly(body)


def test_an_event_is_whole_behind_its_blank_line() -> None:
    assert list(sse_events(b"data: a\n\n: x\n\ndata: b\n\n\n")) == [(9, b"a"), (23, b"b")]
    assert list(sse_events(b"data: a\r\n\r\ndata: b\r\n\r\n")) == [(11, b"a"), (22, b"b")]
    assert list(sse_events(b"data: a\n\ndata: b")) == [(9, b"a"), (16, b"b")]


_PIECES = [
    b"data: ",
    b"data:",
    b"data",
    b"x",
    b" ",
    b": c",
    b"event: e",
    b"id: 1",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r",
    b"\r\n\r\n",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map(b"".join))
@example(b"data: x\n\n\ndata: y\n\n")
@example(b"data: x\n\r\ndata: y\n\n")
def test_any_stream_is_read_as_the_standard_has_it(body: bytes) -> None:
    assert list(sse_events(body)) == read_slowly(body)


@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    assert list(sse_events(body)) == read_slowly(body)


@given(
    events=st.lists(
        st.lists(
            st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"])), min_size=1, max_size=3
        ),
        max_size=8,
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    space=st.booleans(),
    closed=st.booleans(),
)
def test_what_was_written_is_read(events: list[list[str]], end: str, space: bool, closed: bool) -> None:
    """Each event of one line or more; the last one may lack its blank line."""
    field = "data: " if space else "data:"
    if not space:  # a first space is then the field's, not the line's
        events = [[line.lstrip(" ") for line in lines] for lines in events]
    parts = ["".join(field + line + end for line in lines) for lines in events]
    body = end.join(parts) + (end if closed else "")
    read = list(sse_events(body.encode()))
    assert [payload.decode() for _, payload in read] == ["\n".join(lines) for lines in events]


_STREAMS = [path for path in sorted(DATA.glob("*/*stream*.body")) if path.read_bytes().startswith(b"data:")]


@pytest.mark.parametrize("path", _STREAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_captured_streams(path: Path) -> None:
    body = path.read_bytes()
    read = list(sse_events(body))
    assert read == read_slowly(body)
    assert len(read) == len(re.findall(rb"^data:", body, re.MULTILINE)) > 0
    with_crlf = list(sse_events(body.replace(b"\n", b"\r\n")))
    assert [payload for _, payload in with_crlf] == [payload for _, payload in read]


# -- JSON objects, one behind the other -------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(blacklist_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.lists(
    st.dictionaries(st.text(max_size=3), _VALUES, max_size=3) | st.lists(_VALUES, max_size=3), max_size=5
)


@given(values=_OBJECTS, between=st.sampled_from(["", "\n", " \r\n\t"]), indent=st.sampled_from([None, 2]))
def test_objects_are_cut_where_each_ends(values: list[Any], between: str, indent: int | None) -> None:
    texts = [json.dumps(value, indent=indent, ensure_ascii=False) for value in values]
    body, ends = b"", []
    for text in texts:
        body += between.encode() + text.encode()
        ends.append(len(body))
    cut = json_objects(body + between.encode())
    assert [end for end, _ in cut] == ends
    assert [json.loads(payload) for _, payload in cut] == values
    assert not ends_inside(body, events=False)


@pytest.mark.parametrize(
    ("body", "cut"),
    [
        (b"", []),
        (b" \n", []),
        (b'{"a":"}{]["}', [(12, b'{"a":"}{]["}')]),
        (b'{"a":"\\"}"}[]', [(11, b'{"a":"\\"}"}'), (13, b"[]")]),
        (b'{"a":1}{"b', [(7, b'{"a":1}'), (10, b'{"b')]),
        (b'{"a":1}, {"b":2}', [(7, b'{"a":1}'), (16, b', {"b":2}')]),
        (b"hello", [(5, b"hello")]),
        (b"}{}", [(1, b"}"), (3, b"{}")]),
    ],
)
def test_objects_and_what_is_none(body: bytes, cut: list[tuple[int, bytes]]) -> None:
    assert json_objects(body) == cut


@given(st.binary(max_size=60) | st.text('{}[]"\\a, \n', max_size=40).map(str.encode))
def test_any_bytes_as_objects(body: bytes) -> None:
    """Nothing is lost but blanks, nothing comes twice, and ends grow."""
    cut = json_objects(body)
    ends = [end for end, _ in cut]
    assert ends == sorted(set(ends)) and all(payload for _, payload in cut)
    assert b"".join(b"".join(payload for _, payload in cut).split()) == b"".join(body.split())


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map(b"".join))
def test_a_stream_breaks_off_where_its_last_line_is_not_blank(body: bytes) -> None:
    """A blank line more changes nothing of what has ended, and ends what has not."""
    if not ends_inside(body, events=True):
        assert [payload for _, payload in sse_events(body)] == [payload for _, payload in sse_events(body + b"\n\n")]
    assert ends_inside(body + b"data: x", events=True)
    assert not ends_inside(body + b"data: x\n\n", events=True)


@given(values=_OBJECTS.filter(bool), less=st.integers(1, 1000))
def test_an_object_breaks_off_where_a_bracket_is_open(values: list[Any], less: int) -> None:
    body = "".join(json.dumps(value) for value in values).encode()
    last = len(json.dumps(values[-1]).encode())
    assert ends_inside(body[: len(body) - 1 - less % last], events=False) == (less % last != last - 1)
