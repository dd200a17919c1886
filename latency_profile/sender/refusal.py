"""Answers that say "not now": the statuses after which a request may be sent again, and when the server wants it."""

import re
from typing import NamedTuple

import httptools

STATUSES = frozenset({429, 502, 503, 504})
MOST_HEAD = 1 << 14  # bytes; of a longer head, what comes behind is not looked at
_STATUS_AT = len(b"HTTP/1.1 503")
_PERHAPS = re.compile(rb"HTTP/1\.. (?:1|429|50[234])")  # an informational answer may come before
_SECONDS = re.compile(rb"[0-9]{1,9}")


class Refusal(NamedTuple):
    status: int
    after_s: int | None  # the server's Retry-After, where it is a number of seconds (RFC 9110, 10.2.3)


def may_be_refusal(said: bytes) -> bool:
    """Whether an answer that begins so can still turn out to be a refusal. Costs next to nothing."""
    return len(said) < _STATUS_AT or _PERHAPS.match(said) is not None


def read_refusal(said: bytes) -> Refusal | None:
    """The refusal that an answer, from its first byte on, is; None where it is none."""
    head = _Head()
    try:
        head.parser.feed_data(said)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    finally:
        del head.parser  # it calls back into its owner: a cycle, and nothing collects those while a point runs
    if head.status not in STATUSES:
        return None
    return Refusal(head.status, int(head.after) if _SECONDS.fullmatch(head.after) else None)


class _Head:
    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.after = b""

    def on_message_begin(self) -> None:
        self.after = b""  # of an informational answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.after = value.strip()

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
