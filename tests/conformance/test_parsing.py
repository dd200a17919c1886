"""Every dialect, in every form of the wire, cut at every place: the same text, tokens, times and status."""

from collections.abc import Sequence

import pytest

import backends
from latency_profile.outcome import Status
from tests.conformance.cases import BRIEF, PARTS, Case, meanings
from tests.conformance.dialect import LACKABLE, PROMPT, Dialect, Part, Said
from tests.conformance.reading import Expected, door_of, row_of, said_text
from tests.conformance.table import DIALECTS
from tests.conformance.wires import MESSAGES, Wire, chunked, framings, sized

_CASES = [(dialect, case) for dialect in DIALECTS for case in meanings(dialect)]
_FRAMINGS = [(dialect, name) for dialect in DIALECTS for name in framings(dialect)]
_MESSAGES = [(dialect, name) for dialect in DIALECTS for name in MESSAGES]


def _named(pairs: Sequence[tuple[Dialect, str]]) -> list[str]:
    return [f"{dialect.name}: {name}" for dialect, name in pairs]


def _usual(dialect: Dialect, said: Sequence[Said], parts: Sequence[Part]) -> Wire:
    """As the server sends it: a stream in chunks, an object with its length."""
    body = next(iter(framings(dialect).values()))([one.payload for one in said])
    return (chunked if dialect.streams else sized)(dialect, body, dialect.head(parts))


def _answer(dialect: Dialect) -> list[Said]:
    return dialect.stream(BRIEF) if dialect.streams else [Said(dialect.whole(BRIEF))]


@pytest.mark.parametrize(("dialect", "case"), _CASES, ids=_named([(dialect, case.name) for dialect, case in _CASES]))
def test_what_it_means(dialect: Dialect, case: Case) -> None:
    said, parts = case.make(dialect)
    wire = _usual(dialect, said, parts)
    Expected(dialect, said, parts, wire).check_every_cut(case.status, begin=wire.data.index(b"\r\n\r\n"))


@pytest.mark.parametrize(("dialect", "framing"), _FRAMINGS, ids=_named(_FRAMINGS))
def test_how_events_are_framed(dialect: Dialect, framing: str) -> None:
    said = _answer(dialect)
    body = framings(dialect)[framing]([one.payload for one in said])
    wire = (chunked if dialect.streams else sized)(dialect, body, dialect.head(BRIEF))
    Expected(dialect, said, BRIEF, wire).check_every_cut(begin=wire.data.index(b"\r\n\r\n"))
    if dialect.tells_text:
        echo = said_text(dialect, body).removesuffix("".join(part.text for part in BRIEF))
        assert echo in ("", PROMPT, f"Prompt:\n{PROMPT}\nOutput:\n")


@pytest.mark.parametrize(("dialect", "message"), _MESSAGES, ids=_named(_MESSAGES))
def test_how_the_body_is_sent(dialect: Dialect, message: str) -> None:
    said = _answer(dialect)
    body = next(iter(framings(dialect).values()))([one.payload for one in said])
    wire = MESSAGES[message](dialect, body, dialect.head(BRIEF))
    Expected(dialect, said, BRIEF, wire).check_every_cut()


def test_every_door_has_its_row() -> None:
    """Streaming and not, where the door does both; gRPC has a suite of its own."""
    rows = {(dialect.backend, dialect.door, dialect.streams) for dialect in DIALECTS}
    for name in backends.NAMES:
        for door, make in backends.load(name).doors.items():
            if make.stream_framing == "grpc":
                continue
            for streams in (True, False):
                offered = make.traits.streams if streams else make.traits.answers_whole
                assert ((name, door, streams) in rows) == offered, (name, door, streams)
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_it_lacks_it_lacks_and_says_so(dialect: Dialect) -> None:
    """A case is left out for a reason that stands in the row, and for no other."""
    assert set(dialect.lacks) <= set(LACKABLE) and all(dialect.lacks.values())
    words = {
        "role": dialect.role(),
        "usage": dialect.usage(1),
        "no choices": dialect.no_choices(),
        "null delta": dialect.null_delta(),
        "end mark": dialect.end_mark(),
        **{reason: dialect.finishes.get(reason) for reason in ("length", "abort", "error")},
    }
    for word, spelled in words.items():
        assert spelled is None or dialect.streams is False or word not in dialect.lacks, word
        assert spelled is not None or word in dialect.lacks, word
    if dialect.ends_itself:
        assert "stop" in dialect.finishes
    assert door_of(dialect).marks_end == dialect.ends_itself
    assert door_of(dialect).framing == (dialect.framing if dialect.streams else "object")


def test_the_suite_can_fail() -> None:
    """An answer with one token too many, one read too late, or other text is not the one that is expected."""
    dialect = DIALECTS[0]
    said = dialect.stream(PARTS)
    wire = _usual(dialect, said, PARTS)
    right = row_of(dialect, [wire.data])
    expected = Expected(dialect, said, PARTS, wire)
    expected.check(right, [len(wire.data)])
    tokens = right.tokens
    for wrong in (
        tokens._replace(output_tokens=tokens.output_tokens + 1),
        tokens._replace(first_token_ns=2),
        tokens._replace(events=[*tokens.events, (1, 1)]),
        tokens._replace(text=""),
    ):
        with pytest.raises(AssertionError):
            expected.check(right._replace(tokens=wrong), [len(wire.data)])
    with pytest.raises(AssertionError):
        expected.check(right._replace(status=Status.EMPTY), [len(wire.data)])
