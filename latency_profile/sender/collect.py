"""Turns one process's spool into columns on disk. Memory stays flat in the number of requests: rows go to files."""

from array import array
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from backends import load
from backends.base import Options
from latency_profile.answers import NONE, Row, read_answer
from latency_profile.outcome import Flag, Status
from latency_profile.sender.job import Collect, Collected
from latency_profile.sender.spool import Entry, Kind, replay

COLUMNS: dict[str, str] = {  # name → array type code
    "index": "I",
    "sent_ns": "q",
    "first_token_ns": "q",
    "last_token_ns": "q",
    "end_ns": "q",
    "server_input_tokens": "i",
    "output_tokens": "i",
    "event_output_tokens": "i",
    "token_source": "B",
    "status": "B",
    "http_status": "H",
    "flags": "B",
    "read_delay_ns": "q",
    "answer_bytes": "I",
    "merged_events": "I",
    "events": "I",  # how many
}
EVENT_COLUMNS: dict[str, str] = {"event_ns": "q", "event_tokens": "H"}
MESSAGES_KEPT = 3  # of each status
LONGEST_MESSAGE = 300  # characters
_ROWS_HELD = 4096
_MOST_TOKENS = 0xFFFF


class Text(msgspec.Struct):
    """The text of an answer whose tokens nobody counted."""

    index: int
    text: str


class _Files:
    """Appends to one file a column."""

    def __init__(self, prefix: str, columns: dict[str, str]) -> None:
        self._columns = {name: array(code) for name, code in columns.items()}
        self._files = {name: Path(f"{prefix}.{name}").open("wb") for name in columns}  # noqa: SIM115 closed below

    def extend(self, *values: list[int]) -> None:
        for column, new in zip(self._columns.values(), values, strict=True):
            column.extend(new)

    def flush_if_full(self) -> None:
        if len(next(iter(self._columns.values()))) >= _ROWS_HELD:
            self.flush()

    def flush(self) -> None:
        for name, column in self._columns.items():
            column.tofile(self._files[name])
            del column[:]

    def close(self) -> None:
        self.flush()
        for file in self._files.values():
            file.close()


def collect(order: Collect) -> Collected:
    """Reads the spool; writes `<columns>.<name>`, plain numbers each, and `<columns>.texts`, JSON Lines of Text."""
    _, door = load(order.backend).door(order.endpoint, Options(stream=order.streaming))
    rows = _Files(order.columns, COLUMNS)
    events = _Files(order.columns, EVENT_COLUMNS)
    messages: dict[str, Counter[str]] = {}
    count = event_count = texts = 0
    with Path(f"{order.columns}.texts").open("wb") as text_file:
        for index, sent, flags, reads, end in _answers(order.spool):
            row = read_answer(reads, end, door, order.streaming)
            rows.extend(*([number] for number in _numbers(index, sent, flags, row, order.start_ns)))
            events.extend(
                [at - order.start_ns for at, _ in row.events], [min(tokens, _MOST_TOKENS) for _, tokens in row.events]
            )
            rows.flush_if_full()
            events.flush_if_full()
            count += 1
            event_count += len(row.events)
            if row.text is not None and row.status == Status.OK:
                text_file.write(msgspec.json.encode(Text(index, row.text)) + b"\n")
                texts += 1
            if row.status != Status.OK:
                kept = messages.setdefault(row.status.name, Counter())
                message = _without(order.secrets, row.message or "")[:LONGEST_MESSAGE]
                if message in kept or len(kept) < MESSAGES_KEPT:
                    kept[message] += 1
    rows.close()
    events.close()
    errors = {status: [f"{times} × {text}" for text, times in kept.items()] for status, kept in messages.items()}
    return Collected(rows=count, events=event_count, texts=texts, errors=errors)


def _answers(spool: str) -> Iterable[tuple[int, int, int, deque[Entry], Entry]]:
    """(index, sent, flags, reads, end) of each request, as it ended. Holds only what was in flight at a time."""
    sent: dict[int, tuple[int, int]] = {}
    reads: dict[int, deque[Entry]] = {}
    for entry in replay(Path(spool)):
        match entry.kind:
            case Kind.READ:
                reads.setdefault(entry.request, deque()).append(entry)
            case Kind.SENT:
                sent[entry.request] = (entry.at_ns, entry.info)
                reads.pop(entry.request, None)
            case Kind.END:
                at, flags = sent.pop(entry.request, (NONE, 0))
                yield entry.request, at, flags, reads.pop(entry.request, deque()), entry


def _numbers(index: int, sent: int, flags: int, row: Row, start: int) -> tuple[int, ...]:
    unfinished = Flag.UNFINISHED_AT_STOP if row.status == Status.CANCELLED else 0
    return (
        index,
        _since(sent, start),
        _since(row.first_token_ns, start),
        _since(row.last_token_ns, start),
        _since(row.end_ns, start),
        row.server_input_tokens,
        row.output_tokens,
        row.event_output_tokens,
        row.token_source,
        row.status,
        row.http_status,
        flags | row.flags | unfinished,
        row.read_delay_ns,
        row.answer_bytes,
        row.merged_events,
        len(row.events),
    )


def _since(at: int, start: int) -> int:
    return NONE if at == NONE else at - start


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
