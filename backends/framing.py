"""Cuts the body of an answer into events. Bytes in, (end offset, payload) out: the offset says when an event was whole.

Server-sent events follow the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", with one difference:
an event at the end of the stream that lacks its blank line is kept: servers leave it out, and its bytes did arrive.
"""

import re
from collections.abc import Iterator

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
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
