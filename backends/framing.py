"""Cuts the body of an answer into events. Bytes in, (end offset, payload) out: the offset says when an event was whole.

Server-sent events follow the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", with one difference:
an event at the end of the stream that lacks its blank line is kept: servers leave it out, and its bytes did arrive.
"""

import re
from collections.abc import Iterator

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_MARK = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', re.DOTALL)  # a string that is not closed reaches to the end
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|$)")


def sse_events(body: bytes) -> list[tuple[int, bytes]]:
    """(offset just behind the event's blank line, its data) of each event that has data."""
    if b"\r" in body:
        return list(_any_line_ends(body, 0))
    # The form that nearly all servers send, `data: …` and a blank line, without a regular expression a line.
    events: list[tuple[int, bytes]] = []
    end = 0
    for block in body.split(b"\n\n"):
        begin = end
        end += len(block) + 2
        if b"\n" not in block and block.startswith(b"data: "):
            events.append((min(end, len(body)), block[6:]))
        elif block:
            events.extend(_any_line_ends(body[begin:end], begin))
    return events


def _any_line_ends(part: bytes, base: int) -> Iterator[tuple[int, bytes]]:
    data: list[bytes] = []
    for match in _LINE.finditer(part):
        line = match[1] if base or match.start() else match[1].removeprefix(_BYTE_ORDER_MARK)
        if line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            data.append(b"")
        elif not line and data:
            yield base + match.end(), b"\n".join(data)
            data = []


def json_objects(body: bytes) -> list[tuple[int, bytes]]:
    """(offset just behind the object, the object) of JSON objects or arrays that follow each other.

    What lies between them, but for blanks, belongs to the object behind it, and will not parse. An object at the end of
    the body that is not closed is kept, for the same reason.
    """
    events: list[tuple[int, bytes]] = []
    begin = depth = 0
    for mark in _JSON_MARK.finditer(body):
        match body[mark.start()]:
            case 0x7B | 0x5B:
                depth += 1
            case 0x7D | 0x5D:
                depth -= 1
                if depth <= 0:
                    events.append((mark.end(), body[begin : mark.end()].strip()))
                    begin, depth = mark.end(), 0
    if rest := body[begin:].strip():
        events.append((len(body), rest))
    return events


def ends_inside(body: bytes, *, events: bool) -> bool:
    """Whether the body breaks off in the middle of a server-sent event (`events`), or of a JSON object or array."""
    if events:
        return not body.endswith((b"\n\n", b"\r\r", b"\n\r\n", b"\n\r"))
    marks = [body[mark.start()] for mark in _JSON_MARK.finditer(body)]
    return marks.count(0x7B) + marks.count(0x5B) > marks.count(0x7D) + marks.count(0x5D)
