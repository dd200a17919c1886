"""What an answer can mean: cases that every dialect is put through, but for those that it has no word for.

`needs` names what a dialect must have a word for (`dialect.LACKABLE`). Failures on the wire are in failures.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latency_profile.outcome import Status
from tests.conformance.dialect import Dialect, Part, Said

# One, two and four bytes a character in UTF-8, quotes and a backslash that JSON escapes, and marks of its own in text.
PARTS = (Part(' Grüße "{'), Part("🙂\\n]"), Part("}\n"))
BRIEF = (Part("a"), Part("🙂"))


@dataclass(frozen=True)
class Case:
    """`make` gives the answer's events and its parts."""

    name: str
    make: Callable[[Dialect], tuple[list[Said], Sequence[Part]]]
    needs: tuple[str, ...] = ()
    status: Status = Status.OK

    def applies_to(self, dialect: Dialect) -> bool:
        return not any(need in dialect.lacks for need in self.needs)


def _given(payload: bytes | None) -> Said:
    assert payload is not None
    return Said(payload)


def _between(dialect: Dialect, said: bytes | None) -> tuple[list[Said], Sequence[Part]]:
    """One more event at the beginning, behind the first one, and before the last."""
    events = dialect.stream(PARTS)
    return [_given(said), events[0], _given(said), *events[1:-1], _given(said), events[-1]], PARTS


def _stream(name: str, parts: Sequence[Part], *needs: str, status: Status = Status.OK, finish: str = "stop") -> Case:
    return Case(name, lambda dialect: (dialect.stream(parts, finish), parts), needs, status)


def _with_role(dialect: Dialect) -> tuple[list[Said], Sequence[Part]]:
    return [_given(dialect.role()), *dialect.stream(PARTS)], PARTS


def _usage_at_the_end(dialect: Dialect) -> tuple[list[Said], Sequence[Part]]:
    """Said once more: the last word counts, not the sum."""
    events, usage = dialect.stream(PARTS, mark=False), dialect.usage(len(PARTS))
    return [*events, _given(usage), *dialect.stream(PARTS)[len(events) :]], PARTS


_HIDDEN = (Part("Let me", hidden=True), Part(" see. 🙂", 1, hidden=True))

MEANINGS = [
    _stream("an answer", PARTS),
    Case("a role before it", _with_role, ("role",)),
    Case("usage alone at its end", _usage_at_the_end, ("usage",)),
    Case("events with no choices", lambda dialect: _between(dialect, dialect.no_choices()), ("no choices",)),
    Case("events with delta: null", lambda dialect: _between(dialect, dialect.null_delta()), ("null delta",)),
    _stream("nothing but reasoning", _HIDDEN, "reasoning"),
    _stream("reasoning, then the answer", (*_HIDDEN, *BRIEF), "reasoning"),
    _stream(
        "several tokens an event", (Part("a"), Part(" b c d", 4), Part(" e", 1), Part(" f g", 3)), "several tokens"
    ),
    _stream(
        "half of it in the first event", (Part(" half of it", 4), *(Part(" x") for _ in range(4))), "several tokens"
    ),
    _stream("one token", (Part("a"),)),
    _stream("no token", (), status=Status.EMPTY),
    Case("no end mark", lambda dialect: (dialect.stream(PARTS, mark=False), PARTS), ("end mark", "finish")),
    Case("an end mark, and no reason", lambda dialect: (dialect.stream(PARTS, None), PARTS), ("end mark",)),
    Case(
        "an end mark and nothing else", lambda dialect: ([_given(dialect.end_mark())], ()), ("end mark",), Status.EMPTY
    ),
    _stream("the end: stop", PARTS, "stop", finish="stop"),
    _stream("the end: length", PARTS, "length", finish="length"),
    _stream("the end: abort", PARTS, "abort", finish="abort", status=Status.ERROR_EVENT),
    _stream("the end: error", PARTS, "error", finish="error", status=Status.ERROR_EVENT),
    Case(
        "neither a reason nor an end mark",
        lambda dialect: (dialect.stream(PARTS, None, mark=False), PARTS),
        ("finish",),
        Status.TRUNCATED,
    ),
]


def _whole(
    name: str, parts: Sequence[Part], *needs: str, status: Status = Status.OK, finish: str | None = "stop"
) -> Case:
    return Case(name, lambda dialect: ([Said(dialect.whole(parts, finish))], parts), needs, status)


WHOLE_MEANINGS = [
    _whole("an answer", PARTS),
    _whole("nothing but reasoning", _HIDDEN, "reasoning"),
    _whole("reasoning, then the answer", (*_HIDDEN, *BRIEF), "reasoning"),
    _whole("more tokens than characters", (Part("a", 5),)),
    _whole("no token", (), status=Status.EMPTY),
    _whole("the end: stop", PARTS, "stop", finish="stop"),
    _whole("the end: length", PARTS, "length", finish="length"),
    _whole("the end: abort", PARTS, "abort", finish="abort", status=Status.ERROR_BODY),
    _whole("the end: error", PARTS, "error", finish="error", status=Status.ERROR_BODY),
    _whole("no reason", PARTS, "finish", finish=None, status=Status.TRUNCATED),
]


def meanings(dialect: Dialect) -> list[Case]:
    """The cases that this dialect has words for."""
    return [case for case in (MEANINGS if dialect.streams else WHOLE_MEANINGS) if case.applies_to(dialect)]
