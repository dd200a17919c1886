"""Follows the spools of a running point, and reads as much of its answers as tells when they came.

The samples are those of the first requests of the plan, up to the first one that has not ended. So the ones that take
long are not left out at any look; that the number of requests then depends on how long they took does no harm, as the
intervals hold for all numbers at once.

Of a streamed answer only the reads up to its first token are parsed, and whether all of it was sound is left to the
records; but where the order wants to know how many tokens answers have, all of it is. Reading the headers of a spool's
entries takes about a microsecond for each, and cannot be saved; parsing can: `thin` goes on with every second of the
requests that were followed until now, which is a sample of the same kind.
"""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends import load
from backends.base import Door, Options
from latency_profile.answers import read_answer
from latency_profile.outcome import Status
from latency_profile.sender.spool import HEADER, End, Entry, Kind
from latency_profile.statistics import Sample

NONE = -1
READ_AT_ONCE = 1 << 21  # bytes
# A kernel stamp that lies farther before the read than this is of a realtime clock that was set meanwhile.
CREDIBLE_DELAY_NS = 1_000_000_000
NO_CONNECTION = (End.CONNECT_FAILED, End.CONNECT_TIMEOUT, End.TLS_FAILED)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow."""

    spools: list[str]
    plan: str | None  # file of int64: due time of each request, ns from the start; None: closed loop
    start_ns: int  # monotonic
    backend: str
    endpoint: str  # name of the door
    streaming: bool
    warmup_ns: int
    cooldown_ns: int
    tokens: bool = False  # whether to tell how many tokens each answer has


class Row(NamedTuple):
    """What is known of a request that has ended. ns."""

    arrival: int  # from the point's start: due, in a closed loop sent
    ttft: int  # from arrival; not of one that failed
    e2e: int  # from arrival, of one that failed to its failure
    sound: int  # 1: an answer, 0: it failed
    tokens: int  # out; NONE where that is not known yet


_COLUMNS = 1 + len(Row._fields)  # index and Row


@dataclass(slots=True)
class _Open:
    """A request that was sent and has not ended."""

    sent_ns: int
    reads: list[Entry] = field(default_factory=list)  # those that are still to be parsed
    first_ns: int = NONE
    last_ns: int = NONE
    parse_at: int = 1  # how many reads there must be


@dataclass(slots=True)
class _Spool:
    fd: int
    rest: bytes = b""
    offset_ns: int | None = None  # realtime - monotonic


class Tail:
    """`read` takes in what has been written since, `samples` gives what is known by now."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._door: Door = load(order.backend).doors[order.endpoint](Options(stream=order.streaming))
        self._due: array[int] | None = None
        if order.plan is not None:
            self._due = array("q")
            self._due.frombytes(Path(order.plan).read_bytes())
        self._spools = [_Spool(os.open(path, os.O_RDONLY)) for path in order.spools]
        self._open: dict[int, _Open] = {}
        self._ended: dict[int, Row | None] = {}  # beyond the first that has not
        self._next = 0  # the first request that has not ended
        self._rows = array("q")  # index and Row of each
        self._sound = 0  # of them
        self.every = 1  # which requests are followed: multiples of this
        self.seen_ns = order.start_ns  # monotonic: up to when the spools have been read

    @property
    def requests(self) -> int:
        """How many answers the samples rest on."""
        return self._sound

    def read(self) -> bool:
        """Takes in up to 2 MiB of each spool. True where there may be more."""
        more = False
        for spool in self._spools:
            data = os.read(spool.fd, READ_AT_ONCE)
            more |= len(data) == READ_AT_ONCE
            for entry in self._entries(spool, data):
                self._take(entry)
        return more

    def thin(self) -> None:
        """From now on, and in what is known already, follows only every second of the requests followed until now."""
        self.every *= 2
        kept = self._columns()
        kept = kept[kept[:, 0] % self.every == 0]
        self._rows = array("q", kept.tobytes())
        self._sound = int(kept[:, 4].sum())
        self._open = {index: one for index, one in self._open.items() if index % self.every == 0}
        self._ended = {index: one for index, one in self._ended.items() if index % self.every == 0}
        self._next = -(-self._next // self.every) * self.every

    def samples(self) -> dict[str, Sample]:
        """TTFT (of streams) and E2E, in order of arrival, between warm-up and cool-down: response latencies in an open
        loop, service latencies in a closed one."""
        rows = self._columns()
        rows = rows[rows[:, 4] == 1]
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        arrival = rows[:, 1]
        until = int(arrival[-1]) - self._order.cooldown_ns if len(rows) else 0
        rows = rows[(arrival >= self._order.warmup_ns) & (arrival <= until)]
        columns: dict[str, NDArray[np.int64]] = {"ttft": rows[:, 2], "e2e": rows[:, 3]}
        if not self._order.streaming:
            del columns["ttft"]
        return {name: Sample(np.ascontiguousarray(values)) for name, values in columns.items()}

    def ended(self) -> NDArray[np.int64]:
        """Index and Row of all that have ended; shape (requests, 6)."""
        beyond = [(index, *row) for index, row in self._ended.items() if row is not None]
        return np.concatenate([self._columns(), np.array(beyond, dtype=np.int64).reshape(-1, _COLUMNS)])

    def unfinished(self) -> NDArray[np.int64]:
        """Index, time sent and time of the first token (NONE without one), ns from the start, of all that were sent and
        have not ended; shape (requests, 3)."""
        start = self._order.start_ns
        found = [
            (index, one.sent_ns - start, NONE if one.first_ns == NONE else one.first_ns - start)
            for index, one in self._open.items()
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 3)

    @property
    def planned(self) -> bool:
        """Whether requests are due by a plan; in a closed loop they are not."""
        return self._due is not None

    def due(self) -> NDArray[np.int64]:
        """Due times of the requests of an open loop that are followed, ns from the start, up to `seen_ns`."""
        assert self._due is not None
        times = np.frombuffer(self._due, dtype=np.int64)[:: self.every]
        return times[: int(np.searchsorted(times, self.seen_ns - self._order.start_ns, "right"))]

    def _columns(self) -> NDArray[np.int64]:
        return np.frombuffer(self._rows.tobytes(), dtype=np.int64).reshape(-1, _COLUMNS)

    def close(self) -> None:
        for spool in self._spools:
            os.close(spool.fd)

    def _entries(self, spool: _Spool, new: bytes) -> Iterator[Entry]:
        """The entries of the requests that are followed."""
        data = spool.rest + new
        at, size, every, unpack, whole = 0, HEADER.size, self.every, HEADER.unpack_from, self._order.tokens
        while at + size <= len(data):
            kind, info, errno, request, a, b, length = unpack(data, at)
            end = at + size + length
            if end > len(data):
                break
            if kind == Kind.CLOCK:
                spool.offset_ns = a - b
                self.seen_ns = b
            elif request % every == 0:
                if kind == Kind.READ:
                    kernel_ns = a - spool.offset_ns if a and spool.offset_ns is not None else b
                    a = kernel_ns if 0 <= b - kernel_ns < CREDIBLE_DELAY_NS else b
                    one = self._open.get(request)
                    if (
                        one is not None and one.first_ns != NONE and not whole
                    ):  # most reads: only when the last one came matters
                        one.last_ns = a
                        at = end
                        continue
                yield Entry(kind, request, info, errno, a, NONE, data[at + size : end])
            at = end
        spool.rest = data[at:]

    def _take(self, entry: Entry) -> None:
        index = entry.request
        if entry.kind == Kind.END:
            self._end(index, self._open.pop(index, None), entry)
            return
        one = self._open.get(index)
        if entry.kind == Kind.SENT:
            self._open[index] = _Open(entry.at_ns if one is None else one.sent_ns)
        elif entry.kind == Kind.RETRY and one is not None:
            self._open[index] = _Open(one.sent_ns)
        elif entry.kind == Kind.READ and one is not None:
            one.last_ns = entry.at_ns
            if one.first_ns == NONE or self._order.tokens:
                one.reads.append(entry)
            if one.first_ns == NONE and self._order.streaming and len(one.reads) >= one.parse_at:
                self._find_first(one)

    def _find_first(self, one: _Open) -> None:
        """Looks for the first token in what has come. Each time twice as much: what does not begin costs little."""
        one.parse_at *= 2
        stopped = Entry(Kind.END, 0, End.STOPPED, 0, one.last_ns, NONE, b"")
        one.first_ns = read_answer(one.reads, stopped, self._door).tokens.first_token_ns
        if one.first_ns != NONE and not self._order.tokens:
            one.reads.clear()

    def _end(self, index: int, one: _Open | None, entry: Entry) -> None:
        self._ended[index] = self._row(index, one, entry)
        while self._next in self._ended:
            row = self._ended.pop(self._next)
            if row is not None:
                self._rows.extend((self._next, *row))
                self._sound += row.sound
            self._next += self.every

    def _row(self, index: int, one: _Open | None, entry: Entry) -> Row | None:
        """None where there is no arrival: a closed loop never sent it. One that found no connection arrived then."""
        if self._due is not None:
            arrival = self._order.start_ns + self._due[index]
        elif one is not None:
            arrival = one.sent_ns
        elif entry.info in NO_CONNECTION:
            arrival = entry.at_ns
        else:
            return None
        arrived = arrival - self._order.start_ns
        sound, tokens = self._answer(one, entry) if one is not None else (False, NONE)
        if one is None or not sound:
            return Row(arrived, NONE, entry.at_ns - arrival, 0, NONE)
        return Row(arrived, one.first_ns - arrival, one.last_ns - arrival, 1, tokens)

    def _answer(self, one: _Open, entry: Entry) -> tuple[bool, int]:
        """Whether it is sound, and how many tokens it has."""
        if one.first_ns == NONE and one.reads and self._order.streaming:
            self._find_first(one)
        if self._order.tokens or not self._order.streaming:
            answer = read_answer(one.reads, entry, self._door)
            return answer.status == Status.OK, answer.tokens.output_tokens
        return one.first_ns != NONE and entry.info in (End.COMPLETE, End.CLOSED), NONE
