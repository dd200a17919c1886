"""What a sender process writes while it measures: a log of facts, in the order in which they happened.

Each entry is a header and, for a read, the bytes that were read. Nothing is interpreted here; `replay` gives the
entries back with the kernel's realtime stamps turned into monotonic ones.
"""

import enum
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from latency_profile.sender.clock import clock_pair, now_ns

HEADER = struct.Struct("<BBHIqqI")  # kind, info, errno, request, a, b, length
LARGEST_READ = 1 << 16
_ROOM = 1 << 20
_FLUSH_AT = 1 << 17
AWAY_UNIT_NS = 10_000
_MOST_AWAY = 0xFFFF
CLOCK_STEP_NS = 1_000_000  # the realtime clock was set, not slewed, when the pair moved by more between two looks


class Kind(enum.IntEnum):
    READ = (
        1  # a: kernel receive time (realtime; 0: none), b: time just after the read; of a turn's first: info 1, errno
    )
    # for how long before it the loop had not looked who has something to read, in AWAY_UNIT_NS
    SENT = 2  # a: just before the first send(), b: just after it; info: outcome.Flag bits
    END = 3  # a: when; info: End
    CLOCK = 4  # a: realtime, b: monotonic, of one moment
    RETRY = 5  # a: when an attempt failed after which there will be another, info: its number; its reads are void


class End(enum.IntEnum):
    """How the sender saw a request end. What it means is decided later, from the bytes."""

    COMPLETE = 0  # the HTTP message was complete
    CLOSED = 1  # the server closed the connection
    BROKEN = 2  # the connection failed (errno says how)
    TIMEOUT = 3
    NOT_HTTP = 4
    CONNECT_FAILED = 5
    CONNECT_TIMEOUT = 6
    TLS_FAILED = 7
    STOPPED = 8  # still in flight when the point was cut short
    TOO_LONG = 9  # the answer grew beyond what the client will hold


class Entry(NamedTuple):
    kind: int
    request: int
    info: int
    errno: int
    at_ns: int  # monotonic; of a read: when the kernel had its bytes, as well as that is known
    delay_ns: int  # of a read with a kernel stamp: from kernel to user, of a sending: how long it took; else -1
    data: bytes
    blind_ns: int = 0  # of a read: it may hold bytes that came up to so much before at_ns


_Held = tuple[int, int, int, int, int, int, bytes]  # an entry with its times as they were written

# By plain names: these run once a read, and an attribute or an enum costs as much as the packing.
_pack, _HEADER_SIZE, _READ = HEADER.pack_into, HEADER.size, int(Kind.READ)


class Spool:
    """The write end. Reads go straight into its buffer, so a read costs no allocation."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._buffer = bytearray(_ROOM)
        self._view = memoryview(self._buffer)
        self._at = 0
        self._first = self._away = 0
        self.slowest_flush_ns = 0

    def room(self) -> memoryview:
        """Where the next read may put its bytes."""
        start = self._at + _HEADER_SIZE
        return self._view[start : start + LARGEST_READ]

    def turn(self, away_ns: int) -> None:
        """The loop has looked which connections have something to read, for the first time in `away_ns`."""
        self._first = 1
        self._away = min(away_ns // AWAY_UNIT_NS, _MOST_AWAY)

    def read(self, request: int, kernel_ns: int, user_ns: int, length: int) -> None:
        """The `length` bytes that now lie in `room()` belong to this request."""
        at = self._at
        _pack(self._buffer, at, _READ, self._first, self._away, request, kernel_ns, user_ns, length)
        self._first = self._away = 0
        self._at = at + _HEADER_SIZE + length
        if self._at > _FLUSH_AT:
            self.flush()

    def sent(self, request: int, before_ns: int, after_ns: int, flags: int) -> None:
        """The first bytes of this request went between these two times."""
        HEADER.pack_into(self._buffer, self._at, Kind.SENT, flags, 0, request, before_ns, after_ns, 0)
        self._advance(HEADER.size)

    def note(self, kind: Kind, request: int, at_ns: int, info: int = 0, errno: int = 0) -> None:
        HEADER.pack_into(self._buffer, self._at, kind, info, errno, request, at_ns, 0, 0)
        self._advance(HEADER.size)

    def clock(self) -> None:
        """Notes how realtime and monotonic clock stand to each other now."""
        realtime, monotonic = clock_pair()
        HEADER.pack_into(self._buffer, self._at, Kind.CLOCK, 0, 0, 0, realtime, monotonic, 0)
        self._advance(HEADER.size)

    def _advance(self, size: int) -> None:
        self._at += size
        if self._at > _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        if not self._at:
            return
        before = now_ns()
        rest = self._view[: self._at]
        while rest:
            rest = rest[os.write(self.fd, rest) :]
        self._at = 0
        self.slowest_flush_ns = max(self.slowest_flush_ns, now_ns() - before)

    def close(self) -> None:
        self.flush()
        self._view.release()
        os.close(self.fd)


def replay(path: Path) -> Iterator[Entry]:
    """Yields all entries but the clock's, in order, with `at_ns` monotonic.

    Kernel stamps between two looks at the clocks are converted with the earlier pair; where the realtime clock was set
    in between, those reads keep the time after the read. A file that was cut off in mid-entry gives what is whole.
    """
    held: list[_Held] = []
    blind = 0  # of the turn that is being read
    offset: int | None = None
    with path.open("rb", buffering=1 << 20) as file:
        read, size, unpack = file.read, HEADER.size, HEADER.unpack
        while len(header := read(size)) == size:
            kind, info, errno, request, a, b, length = unpack(header)
            data = read(length) if length else b""
            if len(data) != length:
                break
            if kind == Kind.CLOCK:
                new_offset = a - b
                stepped = offset is not None and abs(new_offset - offset) > CLOCK_STEP_NS
                entries, blind = _converted(held, None if stepped else offset, blind)
                yield from entries
                held.clear()
                offset = new_offset
            else:
                held.append((kind, request, info, errno, a, b, data))
        yield from _converted(held, offset, blind)[0]


def _converted(held: list[_Held], offset: int | None, blind: int) -> tuple[list[Entry], int]:
    """The entries, and how blind the last turn was. `blind`: the same of a turn that had begun before."""
    entries = []
    turns = iter(_blindness(held, offset, blind))
    blind = next(turns)
    for kind, request, info, errno, a, b, data in held:
        if kind != Kind.READ:
            entries.append(Entry(kind, request, info, errno, a, b - a if kind == Kind.SENT else -1, data))
            continue
        if info:
            blind = next(turns)
        if a and offset is not None:
            kernel = min(a - offset, b)  # the pair is known to a microsecond or so
            entries.append(Entry(kind, request, 0, 0, kernel, b - kernel, data, blind))
        else:
            entries.append(Entry(kind, request, 0, 0, b, -1, data))
    return entries, blind


def _blindness(held: list[_Held], offset: int | None, before: int) -> list[int]:
    """How much earlier than its stamp a part of a read may have come, turn by turn, ns; first of what is left of one.

    A read has the stamp of its last segment. Another segment of it may have come earlier, but not while the loop was
    looking: it was away for as long as the turn's first read says, and then had to wait for a CPU, which shows in the
    read that had waited longest.
    """
    longest = [before]
    for kind, _, info, errno, a, b, _ in held:
        if kind == Kind.READ:
            if info:
                longest.append(errno * AWAY_UNIT_NS)
            if a and offset is not None:
                longest[-1] = max(longest[-1], b - a + offset)
    return longest
