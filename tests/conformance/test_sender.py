"""Every dialect over real sockets: each form of an answer, each failure, and healthy requests that must not feel it.

One sender process. In `test_one_after_the_other` a closed loop of one request at a time has, behind each answer, a
healthy one: on the same connection where that was left in order, on another where it was not. In `test_side_by_side`
answers fail while others arrive.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from latency_profile.records import Flag, Status
from latency_profile.sender.fleet import Fleet
from latency_profile.sender.spool import End
from tests.conformance.cases import BRIEF
from tests.conformance.dialect import PROMPT_TOKENS, Dialect, Said
from tests.conformance.failures import body_of, failures, healthy
from tests.conformance.reading import request_of
from tests.conformance.table import DIALECTS
from tests.conformance.wires import MESSAGES, framings, head_of
from tests.driving import MS, Driven, Load, send
from tests.servers import odd
from tests.servers.odd import Call, Odd

TIMEOUT_S = 1.0  # of answers that stall; a busy host keeps a server from writing for 0.3 s now and then
PATIENCE_S = 20.0  # where no answer stalls
GAP_S = 0.015  # between two events of an answer that is not hurried


class Turn(NamedTuple):
    """One request: how it is answered, and what comes of it."""

    name: str
    answer: Callable[[Call], None]
    status: Status = Status.OK
    reusable: bool = True
    resent: bool = False


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


def _ending(wire: bytes, end: End) -> Callable[[Call], None]:
    """Sends it, and lets the connection end so."""

    def answer(call: Call) -> None:
        call.send(wire)
        if end == End.BROKEN:
            time.sleep(0.02)  # a reset overtakes what was sent just before it
            call.reset()
        elif end == End.CLOSED:
            call.hang_up()
        elif end == End.TIMEOUT:
            time.sleep(TIMEOUT_S + 0.15)
            with suppress(OSError):  # an answer after the timeout
                call.send(wire)

    return answer


def _dead_when_used(wire: bytes) -> Callable[[Call], None]:
    """A pooled connection that is closed in the moment in which it is picked; another one is good."""

    def answer(call: Call) -> None:
        if call.turn:
            call.hang_up()
        else:
            call.send(wire)

    return answer


def _in_order(dialect: Dialect) -> list[Turn]:
    """All forms of an answer, and all failures but those that take their time."""
    said = dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]
    payloads = [one.payload for one in said]
    good = healthy(dialect)
    turns = []
    for name, frame in framings(dialect).items():
        wire = MESSAGES["a chunk an event"](dialect, frame(payloads), dialect.head(BRIEF))
        turns.append(Turn(name, _in_pieces(wire.data)))
    for name, message in MESSAGES.items():
        wire = message(dialect, body_of(dialect, said), dialect.head(BRIEF))
        closed = wire.end == End.CLOSED
        turns.append(Turn(name, _ending(wire.data, wire.end), reusable=not closed))
    for failure in failures(dialect):
        if failure.end != End.TIMEOUT:
            answer = _ending(failure.message(dialect), failure.end)
            turns.append(Turn(failure.name, answer, failure.status, failure.reusable))
    closing = good.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    return [
        *turns,
        Turn("closed behind the answer", _ending(good, End.CLOSED), reusable=False),
        Turn("Connection: close", _ending(closing, End.COMPLETE), reusable=False),
        Turn("a second answer behind it", _ending(good + good, End.COMPLETE), reusable=False),
        Turn("half an answer behind it", _ending(good + good[: len(good) // 2], End.COMPLETE), reusable=False),
        Turn("a dead pooled connection", _dead_when_used(good), resent=True),
    ]


def _in_pieces(wire: bytes) -> Callable[[Call], None]:
    return lambda call: call.send(*(wire[at : at + 9] for at in range(0, len(wire), 9)))


def _load(dialect: Dialect, requests: int, **more: object) -> Load:
    load = Load(
        backend=dialect.backend,
        endpoint=dialect.door,
        streaming=dialect.streams,
        bodies=[request_of(dialect)] * requests,
        timeout_s=TIMEOUT_S,
    )
    for name, value in more.items():
        setattr(load, name, value)
    return load


def _check_healthy(dialect: Dialect, driven: Driven, index: int) -> None:
    """Its text and tokens are those that were sent."""
    records = driven.records
    assert driven.statuses[index] == Status.OK
    tokens = sum(part.tokens for part in BRIEF)
    assert dialect.total is False or records["output_tokens"][index] == tokens
    assert records["server_input_tokens"][index] == (PROMPT_TOKENS if dialect.told_prompt else -1)
    begin, end = records.event_start[index : index + 2]
    assert list(records.event_tokens[begin:end]) == ([part.tokens for part in BRIEF] if dialect.streams else [])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_one_after_the_other(dialect: Dialect, fleet: Fleet, tmp_path: Path) -> None:
    turns = _in_order(dialect)
    good = healthy(dialect)

    def script(call: Call) -> None:
        if call.index % 2:
            call.send(good)
        else:
            turns[call.index // 2].answer(call)

    with Odd(script) as server:
        count = 2 * len(turns)
        load = _load(dialect, count, count=count, concurrency=1, timeout_s=PATIENCE_S)
        driven = send(fleet, server, tmp_path, load)
    assert all(call.body == request_of(dialect) for call in server.calls)
    connection = {call.index: call.connection for call in server.calls}  # of its last attempt
    for number, turn in enumerate(turns):
        assert driven.statuses[2 * number] == turn.status, turn.name
        _check_healthy(dialect, driven, 2 * number + 1)
        kept = connection[2 * number + 1] == connection[2 * number]
        assert kept == turn.reusable, (turn.name, "kept" if kept else "closed")
        assert bool(driven.records["flags"][2 * number] & Flag.RESENT) >= turn.resent, turn.name
        if turn.status == Status.OK:
            _check_healthy(dialect, driven, 2 * number)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_side_by_side(dialect: Dialect, fleet: Fleet, tmp_path: Path) -> None:
    """Failures, stalls among them, and between them healthy answers that take their time: head, events, end."""
    bad = failures(dialect)
    sent: dict[int, list[int]] = {}
    said = dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]
    head = head_of(dialect, "transfer-encoding: chunked", *dialect.head(BRIEF))
    parts = [head[:9], head[9:30], head[30:], *map(odd.chunk, body_of(dialect, said).parts), odd.chunk(b"")]

    def slowly(call: Call) -> None:
        for part in parts:
            sent.setdefault(call.index, []).append(time.monotonic_ns())
            call.send(part)
            time.sleep(GAP_S)

    def script(call: Call) -> None:
        if call.index % 4 == 0:
            slowly(call)
        elif call.index < len(bad) * 2:
            failure = bad[call.index // 2]
            _ending(failure.message(dialect), failure.end)(call)
        else:
            call.send(healthy(dialect))

    # the last ones come when all timeouts are over, and the late answers of those that stalled are sent
    count = 2 * len(bad)
    due = [2.0 * number for number in range(count)] + [1000 * TIMEOUT_S + 2.0 * count + 50 * n for n in range(6)]
    with Odd(script) as server:
        driven = send(fleet, server, tmp_path, _load(dialect, len(due), due_ms=due, ahead=4))
    for index in range(len(due)):
        if index % 4 == 0 or index >= count:
            _check_healthy(dialect, driven, index)
        else:
            assert driven.statuses[index] == bad[index // 2].status, bad[index // 2].name
    records = driven.records
    late: dict[str, list[int]] = {"end": [], "event": []}
    for index, times in sent.items():
        wanted = np.asarray(times) - driven.ran.start_ns
        late["end"].append(int(records["end_ns"][index] - wanted[-1]))
        begin, end = records.event_start[index : index + 2]
        late["event"] += [int(seen - went) for seen, went in zip(records.event_ns[begin:end], wanted[3:], strict=False)]
    for of, by_ns in late.items():  # now and then a server loses the CPU between its look at the clock and its sending
        if of == "end" or dialect.streams:
            assert min(by_ns) > -MS and np.median(by_ns) < 100 * MS, (of, by_ns)


def test_a_line_of_a_hundred_megabytes(tmp_path: Path) -> None:
    """Cut where the point's limit is; the process holds no more of it than that."""
    limit = 1 << 20

    def script(call: Call) -> None:
        if call.index == 1:
            call.send(odd.head(), b"data: ")
            with suppress(OSError):
                for _ in range(100):
                    call.send(b"x" * 1_000_000)
        else:
            call.send(odd.whole(3))

    with Fleet(1) as own, Odd(script) as server:
        send(own, server, tmp_path, Load(due_ms=[0]))
        before = _peak_kb(own)
        load = Load(due_ms=[0, 20, 60, 300], most_answer_bytes=limit)
        driven = send(own, server, tmp_path, load)
        grown = _peak_kb(own) - before
    assert driven.statuses == [Status.OK, Status.TOO_LONG, Status.OK, Status.OK]
    assert limit < driven.records["answer_bytes"][1] < limit + (1 << 17)
    assert grown < 20_000


def _peak_kb(fleet: Fleet) -> int:
    """The largest memory that the process has had, KiB."""
    status = Path(f"/proc/{fleet._processes[0]._process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
