"""Answers of any kind in one spool, interleaved, cut anywhere, ended in any way: `collect` never raises, loses no
request, mixes no two, and its columns are consistent."""

import errno
import shutil
import tempfile
from array import array
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from latency_profile.outcome import Flag, Status, TokenSource
from latency_profile.sender.collect import COLUMNS, EVENT_COLUMNS, collect
from latency_profile.sender.job import Collect
from latency_profile.sender.spool import End, Kind, Spool
from tests.conformance.cases import BRIEF, PARTS
from tests.conformance.dialect import Dialect, Said
from tests.conformance.failures import body_of, failures
from tests.conformance.reading import request_of
from tests.conformance.table import DIALECTS
from tests.conformance.wires import MESSAGES, Wire

START = 1000
_ENDS = [*End, 77]  # one that a later version may write
_ERRNOS = [0, errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE, 4095]


class _Request:
    """One in flight."""

    def __init__(self, wire: Wire, tokens: int | None) -> None:
        self.wire, self.tokens = wire, tokens  # tokens: of an answer that is right; None: of one that is spoilt
        self.read = 0
        self.sent_ns = 0
        self.attempts = 0


class SpoolMachine(RuleBasedStateMachine):
    """Writes a spool as a sender does; the end of each run collects it."""

    @initialize(dialect=st.sampled_from(DIALECTS))
    def begin(self, dialect: Dialect) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.dialect = dialect
        self.spool = Spool(self.folder / "spool")
        self.now = START
        self.in_flight: dict[int, _Request] = {}
        self.ended: dict[int, tuple[_Request, bool]] = {}
        self.count = 0

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _send(self, request: _Request, index: int) -> None:
        at = self._tick()
        request.sent_ns = request.sent_ns or at
        self.spool.note(Kind.SENT, index, at, Flag.REUSED_CONNECTION)

    @rule(message=st.sampled_from(sorted(MESSAGES)), brief=st.booleans())
    def send_for_a_right_answer(self, message: str, brief: bool) -> None:
        parts = BRIEF if brief else PARTS
        said = self.dialect.stream(parts) if self.dialect.streams else [Said(self.dialect.whole(parts))]
        wire = MESSAGES[message](self.dialect, body_of(self.dialect, said), self.dialect.head(parts))
        self._add(_Request(wire, sum(part.tokens for part in parts)))

    @rule(data=st.data())
    def send_for_a_failure(self, data: st.DataObject) -> None:
        failure = data.draw(st.sampled_from(failures(self.dialect)))
        self._add(_Request(Wire(failure.message(self.dialect), [], failure.end), None))

    @rule(at=st.integers(0, 3000), what=st.binary(max_size=12), drop=st.integers(0, 40))
    def send_for_a_spoilt_answer(self, at: int, what: bytes, drop: int) -> None:
        said = self.dialect.stream(PARTS) if self.dialect.streams else [Said(self.dialect.whole(PARTS))]
        wire = MESSAGES["a chunk an event"](self.dialect, body_of(self.dialect, said), []).data
        at %= len(wire)
        self._add(_Request(Wire(wire[:at] + what + wire[at + drop :], []), None))

    def _add(self, request: _Request) -> None:
        self.in_flight[self.count] = request
        self._send(request, self.count)
        self.count += 1

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), length=st.integers(1, 400))
    def read(self, data: st.DataObject, length: int) -> None:
        index = data.draw(st.sampled_from(sorted(self.in_flight)))
        self._read(index, length)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def read_the_rest(self, data: st.DataObject) -> None:
        self._read(data.draw(st.sampled_from(sorted(self.in_flight))), 1 << 16)

    def _read(self, index: int, length: int) -> None:
        request = self.in_flight[index]
        part = request.wire.data[request.read : request.read + length]
        if part:
            self.spool.room()[: len(part)] = part
            self.spool.read(index, 0, self._tick(), len(part))
            request.read += len(part)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.in_flight)))
        request = self.in_flight[index]
        request.attempts += 1
        request.read = 0
        self.spool.note(Kind.RETRY, index, self._tick(), min(request.attempts, 255))
        self._send(request, index)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), how=st.sampled_from(_ENDS), number=st.sampled_from(_ERRNOS))
    def end_somehow(self, data: st.DataObject, how: int, number: int) -> None:
        self._end(data.draw(st.sampled_from(sorted(self.in_flight))), how, number, right=False)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def end_as_it_should(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.in_flight)))
        self._read(index, 1 << 16)
        request = self.in_flight[index]
        self._end(index, request.wire.end, 0, right=request.tokens is not None)

    @rule()
    def look_at_the_clock(self) -> None:
        self.spool.clock()

    def _end(self, index: int, how: int, number: int, right: bool) -> None:
        self.spool.note(Kind.END, index, self._tick(), how, number)
        self.ended[index] = self.in_flight.pop(index), right

    def teardown(self) -> None:
        if not hasattr(self, "spool"):
            return
        self.spool.close()
        try:
            self._check()
        finally:
            shutil.rmtree(self.folder)

    def _check(self) -> None:
        bodies = [request_of(self.dialect)] * self.count
        (self.folder / "bodies").write_bytes(b"".join(bodies))
        bounds = array("q", [len(bodies[0]) * number if bodies else 0 for number in range(self.count + 1)])
        (self.folder / "bounds").write_bytes(bounds.tobytes())
        collected = collect(
            Collect(
                spool=str(self.folder / "spool"),
                columns=str(self.folder / "columns"),
                start_ns=START,
                backend=self.dialect.backend,
                endpoint=self.dialect.door,
                streaming=self.dialect.streams,
                bodies=str(self.folder / "bodies"),
                bounds=str(self.folder / "bounds"),
                secrets=["sk-secret"],
            )
        )
        rows, events = self._columns(COLUMNS), self._columns(EVENT_COLUMNS)
        assert collected.rows == len(self.ended) and rows["index"] == list(self.ended), "in the order of their ends"
        assert collected.events == len(events["event_ns"]) == len(events["event_tokens"]) == sum(rows["events"])
        at = 0
        for place, (request, right) in enumerate(self.ended.values()):
            row: dict[str, int] = {name: column[place] for name, column in rows.items()}
            mine = slice(at, at + row["events"])
            at += row["events"]
            self._check_row(row, events["event_ns"][mine], events["event_tokens"][mine], request, right)

    def _columns(self, columns: dict[str, str]) -> dict[str, list[int]]:
        read = {}
        for name, code in columns.items():
            numbers: array[Any] = array(code)
            numbers.frombytes((self.folder / f"columns.{name}").read_bytes())
            read[name] = numbers.tolist()
        return read

    def _check_row(
        self, row: dict[str, int], times: list[int], tokens: list[int], request: _Request, right: bool
    ) -> None:
        assert row["sent_ns"] == request.sent_ns - START
        assert row["retries"] == min(request.attempts, 255)
        assert times == sorted(times) and all(tokens)
        if times:
            assert (
                row["sent_ns"] < row["first_token_ns"] == times[0] <= times[-1] == row["last_token_ns"] <= row["end_ns"]
            )
        else:
            assert row["first_token_ns"] == row["last_token_ns"] == row["first_visible_ns"] == -1
        status = Status(row["status"])
        assert bool(row["flags"] & Flag.UNFINISHED_AT_STOP) == (status == Status.CANCELLED)
        assert row["answer_bytes"] == request.read
        if row["token_source"] == TokenSource.TOKEN_IDS and self.dialect.streams and times:
            assert sum(tokens) == row["output_tokens"] == row["event_output_tokens"]
        if right:
            assert status == Status.OK
            if self.dialect.total:
                assert row["output_tokens"] == request.tokens
            if self.dialect.streams:
                assert len(times) >= len(BRIEF)


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
