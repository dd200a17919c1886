"""Blots secrets out of a spool that is stored while it grows. Pure.

A server that repeats a key may do so in two reads, and between these the spool has a header, and often other requests'
reads. So each answer's end is remembered that could be the beginning of a secret.

What stays: up to `SHORTEST_BEGINNING` - 1 characters of a secret that two reads share; one over three reads that began
with so few; one that is compressed; one that the server itself cuts, into events or HTTP chunks. Records, and what is
made of them, are searched answer by answer and have none of it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from latency_profile.sender.spool import HEADER, Kind

# So much of a secret at a read's end is blotted out although it may be something else. Fewer characters often are, and
# to look for them would take a look at every read.
SHORTEST_BEGINNING = 4
_SHORTEST_REST = 6


class _Begun(NamedTuple):
    secret: bytes
    length: int  # of what has come


Begun = dict[int, list[_Begun]]
"""Of requests in flight: which secrets may have begun at the end of what came last."""


class Blotter:
    def __init__(self, secrets: list[str]) -> None:
        """secrets: the longest first, where one holds another."""
        self._secrets = [secret.encode() for secret in secrets]
        beginnings = (secret[:SHORTEST_BEGINNING] for secret in self._secrets)
        self._beginning = re.compile(b"|".join(map(re.escape, beginnings)))
        # Whose first characters came in the read before, or did not come at all: as good as the whole.
        rests = (secret[SHORTEST_BEGINNING - 1 :] for secret in self._secrets)
        self._rests = [rest for rest in rests if len(rest) >= _SHORTEST_REST]

    def blot(self, data: bytes, begun: Begun) -> tuple[bytes, Begun]:
        """The whole entries `data` at the same length, and what has begun behind them. begun: before them."""
        if not self._secrets:
            return data, {}
        for secret in (*self._secrets, *self._rests):
            data = data.replace(secret, b"*" * len(secret))
        if not begun and not self._beginning.search(data):
            return data, {}
        blotted, open_ends = bytearray(data), {request: list(ends) for request, ends in begun.items()}
        for kind, request, start, end in _entries(data):
            if kind == Kind.END:
                open_ends.pop(request, None)
            elif kind == Kind.READ:
                ends = self._ends(data[start:end], open_ends.pop(request, []), blotted, start)
                if ends:
                    open_ends[request] = ends
        return bytes(blotted), open_ends

    def _ends(self, read: bytes, begun: list[_Begun], blotted: bytearray, start: int) -> list[_Begun]:
        """Blots out what goes on in this read and what begins at its end; gives what may go on in the next."""
        ends = []
        for secret, length in begun:
            rest = secret[length : length + len(read)]
            if read.startswith(rest):
                blotted[start : start + len(rest)] = b"*" * len(rest)
                if length + len(rest) < len(secret):
                    ends.append(_Begun(secret, length + len(rest)))
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(read)), SHORTEST_BEGINNING - 1, -1):
                if read.endswith(secret[:length]):
                    blotted[start + len(read) - length : start + len(read)] = b"*" * length
                    ends.append(_Begun(secret, length))
                    break
        return ends


def whole(data: bytes) -> int:
    """How many bytes at the beginning of `data` are whole entries."""
    at = 0
    for _, _, _, end in _entries(data):
        at = end
    return at


def _entries(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(kind, request, where its bytes begin, where they end) of each whole entry."""
    at, size, header = 0, len(data), HEADER.size
    while at + header <= size:
        kind, _, _, request, _, _, length = HEADER.unpack_from(data, at)
        end = at + header + length
        if end > size:
            return
        yield kind, request, at + header, end
        at = end
