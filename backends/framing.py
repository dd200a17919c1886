"""Cuts the body of an answer into events. Bytes in, (end offset, payload) out: the offset says when an event was whole.

Server-sent events follow the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", with one difference:
an event at the end of the stream that lacks its blank line is kept: servers leave it out, and its bytes did arrive.
"""

import re
from collections.abc import Iterator

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|$)")


def sse_events(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (offset just behind the event's blank line, its data) for each event that has data."""
    if b"\r" in body:
        yield from _any_line_ends(body, 0)
        return
    # The form that nearly all servers send, `data: …` and a blank line, without a regular expression a line.
    start = 0
    while (end := body.find(b"\n\n", start)) >= 0:
        if body.startswith(b"data:", start) and body.find(b"\n", start, end) < 0:
            space = body[start + 5 : start + 6] == b" "
            yield end + 2, body[start + 6 if space else start + 5 : end]
        else:
            yield from _any_line_ends(body[start : end + 2], start)
        start = end + 2
    if start < len(body):
        yield from _any_line_ends(body[start:], start)


def _any_line_ends(part: bytes, base: int) -> Iterator[tuple[int, bytes]]:
    data: list[bytes] = []
    for match in _LINE.finditer(part):
        line = match[1]
        if line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            data.append(b"")
        elif not line and data:
            yield base + match.end(), b"\n".join(data)
            data = []
    if data:
        yield base + len(part), b"\n".join(data)
