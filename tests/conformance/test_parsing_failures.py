"""Every dialect, and every way to fail: its own status, whatever the cut; what came before it failed stays."""

import errno

import pytest

from latency_profile import answers, http_answer
from latency_profile.answer_tokens import NONE
from latency_profile.outcome import Status
from latency_profile.sender.spool import End
from tests.conformance.cases import BRIEF, PARTS
from tests.conformance.dialect import Dialect, Part, Said
from tests.conformance.failures import FAILURES, SORRY, Failure, body_of, failures, healthy
from tests.conformance.reading import END_AT, row_of
from tests.conformance.table import DIALECTS, STREAMS, WHOLES
from tests.conformance.wires import Wire, chunked, head_of, packed_at_once, sized, until_closed

_FAILURES = [(dialect, failure) for dialect in DIALECTS for failure in failures(dialect)]
_IDS = [f"{dialect.name}: {failure.name}" for dialect, failure in _FAILURES]


@pytest.mark.parametrize(("dialect", "failure"), _FAILURES, ids=_IDS)
def test_a_failure_has_its_own_status(dialect: Dialect, failure: Failure) -> None:
    wire = failure.message(dialect)
    number = errno.ECONNRESET if failure.end == End.BROKEN else 0
    cuts = [[wire] if wire else [], [wire[at : at + 1] for at in range(len(wire))]]
    cuts += [[wire[:at], wire[at:]] for at in range(1, len(wire))]
    for cut in cuts:
        row = row_of(dialect, cut, failure.end, number)
        assert (row.status, row.http_status, row.end_ns) == (failure.status, failure.http_status, END_AT), row.message
        assert (row.tokens.first_token_ns != NONE) >= failure.tokens_first
        if failure.said is not None:
            assert row.message is not None and failure.said in row.message
    if failure.http_status != 200:
        assert row.tokens.first_token_ns == row.tokens.output_tokens == NONE


def test_no_two_failures_are_one() -> None:
    """Every status but those of connecting, of stopping, and of what is too long has a case here."""
    elsewhere = {
        Status.OK,
        Status.CONNECT_REFUSED,
        Status.CONNECT_TIMEOUT,
        Status.TLS_FAILED,
        Status.TOO_LONG,
        Status.CANCELLED,
        Status.NOT_SENT,
        Status.UNKNOWN,
    }
    assert {failure.status for failure in FAILURES} == set(Status) - elsewhere
    assert len({failure.name for failure in FAILURES}) == len(FAILURES)


def _stream(dialect: Dialect) -> tuple[list[Said], Wire]:
    said = dialect.stream(PARTS)
    return said, chunked(dialect, body_of(dialect, said), dialect.head(PARTS))


@pytest.mark.parametrize("dialect", STREAMS, ids=lambda dialect: dialect.name)
def test_a_stream_that_ends_too_early(dialect: Dialect) -> None:
    """At every place, and by every kind of end: never OK, and the events that were whole are there with their times."""
    said, wire = _stream(dialect)
    ends = {
        End.CLOSED: (0, Status.TRUNCATED, Status.TRUNCATED),
        End.BROKEN: (errno.ECONNRESET, Status.RESET, Status.RESET),
        End.TIMEOUT: (0, Status.TIMEOUT, Status.STALLED),
        End.STOPPED: (0, Status.CANCELLED, Status.CANCELLED),
        End.TOO_LONG: (0, Status.TOO_LONG, Status.TOO_LONG),
    }
    head = wire.data.index(b"\r\n\r\n") + 4
    carried = [end for end, one in zip(wire.ends, said, strict=True) if one.part is not None]
    for at in range(1, len(wire.data)):
        there = sum(end <= at for end in carried)
        for end, (number, in_head, in_body) in list(ends.items())[: 5 if at % 7 == 0 else 1]:
            row = row_of(dialect, [wire.data[:at]], end, number)
            assert row.status == (in_head if at < head else in_body), (at, row.message)
            # an event whose blank line is missing may be whole all the same
            assert there <= len(row.tokens.events) <= there + 1, at
            if there:
                assert row.tokens.first_token_ns == 1


@pytest.mark.parametrize("dialect", STREAMS, ids=lambda dialect: dialect.name)
def test_a_stream_without_a_length_that_ends_too_early(dialect: Dialect) -> None:
    """Only the answer itself can tell. Where it does not say how it ended (`ends_itself`), an end between two events
    cannot be told from the answer's own; inside an event it can."""
    said = dialect.stream(PARTS)
    wire = until_closed(dialect, body_of(dialect, said), dialect.head(PARTS))
    head = wire.data.index(b"\r\n\r\n") + 4
    for at in range(head, len(wire.data) - 2):
        row = row_of(dialect, [wire.data[:at]], End.CLOSED)
        whole = [one.part for end, one in zip(wire.ends, said, strict=True) if end <= at + 2]
        if not wire.data[head:at].strip():
            assert row.status == Status.EMPTY
        elif not whole or (dialect.ends_itself and len(PARTS) - 1 not in whole):
            assert row.status in (Status.TRUNCATED, Status.EMPTY), (at, row.message)
        else:
            assert row.status in (Status.OK, Status.TRUNCATED), (at, row.message)
    assert row_of(dialect, [wire.data], End.CLOSED).status == Status.OK


@pytest.mark.parametrize("dialect", WHOLES, ids=lambda dialect: dialect.name)
def test_an_object_that_ends_too_early(dialect: Dialect) -> None:
    body = body_of(dialect, [Said(dialect.whole(PARTS))])
    for wire in (sized(dialect, body, dialect.head(PARTS)), until_closed(dialect, body, dialect.head(PARTS))):
        head = wire.data.index(b"\r\n\r\n") + 4
        for at in range(head, len(wire.data)):
            row = row_of(dialect, [wire.data[:at]], End.CLOSED)
            empty = at == head and wire.end == End.CLOSED
            assert row.status == (Status.EMPTY if empty else Status.TRUNCATED), (at, row.message)
        assert row_of(dialect, [wire.data], wire.end).status == Status.OK


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_an_event_longer_than_any_real_one(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Part("a"), Part("x" * 3000), Part("b")]
    said = dialect.stream(parts) if dialect.streams else [Said(dialect.whole(parts))]
    send = chunked if dialect.streams else sized
    wire = send(dialect, body_of(dialect, said), dialect.head(parts)).data
    longest = max(len(one.payload) for one in said)
    monkeypatch.setattr(answers, "LONGEST_EVENT", longest)
    assert row_of(dialect, [wire]).status == Status.OK
    monkeypatch.setattr(answers, "LONGEST_EVENT", longest - 1)
    assert row_of(dialect, [wire]).status == Status.TOO_LONG


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_small_answer_that_unpacks_to_a_large_one(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed must not fill this machine's memory."""
    parts = [Part(" " * 100_000)]
    said = dialect.stream(parts) if dialect.streams else [Said(dialect.whole(parts))]
    body = body_of(dialect, said).data
    wire = packed_at_once(dialect, body)
    assert len(wire) < 3000
    monkeypatch.setattr(http_answer, "LONGEST_BODY", len(body))
    assert row_of(dialect, [wire]).status == Status.OK
    monkeypatch.setattr(http_answer, "LONGEST_BODY", len(body) - 1)
    assert row_of(dialect, [wire[:500], wire[500:]]).status == Status.TOO_LONG


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_packed_body_that_is_not_whole(dialect: Dialect) -> None:
    """The message is whole, the gzip member in it is not."""
    said = dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]
    wire = packed_at_once(dialect, body_of(dialect, said).data)
    head, _, packed = wire.partition(b"\r\n\r\n")
    for less in (1, 9, len(packed) // 2):
        short = head.replace(b"%d" % len(packed), b"%d" % (len(packed) - less)) + b"\r\n\r\n" + packed[:-less]
        assert row_of(dialect, [short]).status in (Status.TRUNCATED, Status.EMPTY), less


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_bytes_behind_the_answer_are_not_of_it(dialect: Dialect) -> None:
    """A second message that nobody asked for, in the same read or in one of its own."""
    wire = healthy(dialect)
    alone = row_of(dialect, [wire])
    for behind in (wire, wire[: len(wire) // 2], b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", b"junk"):
        row = row_of(dialect, [wire + behind])
        assert (row.status, row.http_status, row.tokens) == (Status.OK, 200, alone.tokens), behind[:20]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_an_error_that_the_client_did_not_see_whole(dialect: Dialect) -> None:
    """What the server said of its failure is more than how the connection ended after it."""
    if dialect.streams:
        said = [dialect.stream(BRIEF)[0], Said(dialect.error(SORRY))]
        wire = chunked(dialect, body_of(dialect, said), dialect.head(BRIEF)).data.removesuffix(b"0\r\n\r\n")
        for end in (End.CLOSED, End.BROKEN, End.TIMEOUT):
            row = row_of(dialect, [wire], end)
            assert (row.status, row.message) == (Status.ERROR_EVENT, SORRY)
    refused = b"HTTP/1.1 500 Oh\r\ncontent-length: 99\r\n\r\n" + dialect.error(SORRY)
    assert row_of(dialect, [refused], End.CLOSED).status == Status.HTTP_SERVER_ERROR
    assert row_of(dialect, [head_of(dialect, status="503 Busy")], End.TIMEOUT).status == Status.STALLED
