"""Turns one process's spool into columns on disk. Memory stays flat in the number of requests: rows go to files."""

import os
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from backends import load
from backends.base import Options
from latency_profile.answer_tokens import NONE
from latency_profile.answers import Row, read_answer
from latency_profile.outcome import Flag, Status
from latency_profile.sender.job import Collect, Collected
from latency_profile.sender.spool import Entry, Kind, replay
from latency_profile.sender.text_sample import Text, TextSample

COLUMNS: dict[str, str] = {  # name → array type code
    "index": "I",
    "sent_ns": "q",
    "send_ns": "q",
    "first_token_ns": "q",
    "first_early_ns": "q",
    "first_visible_ns": "q",
    "last_token_ns": "q",
    "end_ns": "q",
    "server_input_tokens": "i",
    "cached_tokens": "i",
    "output_tokens": "q",
    "event_output_tokens": "q",
    "token_source": "B",
    "event_source": "B",
    "status": "B",
    "http_status": "H",
    "flags": "B",
    "read_delay_ns": "q",
    "answer_bytes": "I",
    "merged_events": "I",
    "retries": "B",
    "server_queue_ns": "q",
    "server_prefill_ns": "q",
    "server_decode_ns": "q",
    "server_total_ns": "q",
    "events": "I",  # how many
}
EVENT_COLUMNS: dict[str, str] = {"event_ns": "q", "event_tokens": "H"}
MESSAGES_KEPT = 3  # of each status
LONGEST_MESSAGE = 300  # characters
_ROWS_HELD = 4096
_MOST_TOKENS = 0xFFFF


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


class _Asked:
    """The requests' bodies, for doors whose answers repeat the prompt."""

    def __init__(self, order: Collect, echoes: bool) -> None:
        self._bounds = array("q")
        if echoes:
            self._bounds.frombytes(Path(order.bounds).read_bytes())
            self._file = os.open(order.bodies, os.O_RDONLY)

    def body(self, index: int) -> bytes:
        """Empty where no answer repeats the prompt."""
        if not self._bounds:
            return b""
        return os.pread(self._file, self._bounds[index + 1] - self._bounds[index], self._bounds[index])

    def close(self) -> None:
        if self._bounds:
            os.close(self._file)


class _Answer(NamedTuple):
    """What the spool has of one request that ended."""

    request: int
    sent_ns: int
    send_ns: int
    flags: int
    retries: int
    reads: Sequence[Entry]
    end: Entry


def collect(order: Collect) -> Collected:
    """Reads the spool; writes `<columns>.<name>`, plain numbers each, and `<columns>.texts`, JSON Lines of Text."""
    door = load(order.backend).doors[order.endpoint](Options(stream=order.streaming))
    asked = _Asked(order, door.echoes)
    rows = _Files(order.columns, COLUMNS)
    events = _Files(order.columns, EVENT_COLUMNS)
    messages: dict[str, Counter[str]] = {}
    sample = TextSample(order.sampled_texts)
    count = event_count = texts = 0
    with Path(f"{order.columns}.texts").open("wb") as text_file:
        for answer in _answers(order.spool):
            row = read_answer(answer.reads, answer.end, door, asked.body(answer.request), sample.wants_next)
            tokens = row.tokens
            rows.extend(*([number] for number in _numbers(answer, row, order.start_ns)))
            events.extend(
                [at - order.start_ns for at, _ in tokens.events], [min(held, _MOST_TOKENS) for _, held in tokens.events]
            )
            rows.flush_if_full()
            events.flush_if_full()
            count += 1
            event_count += len(tokens.events)
            uncounted = tokens.output_tokens == NONE
            text = Text(answer.request, tokens.text) if tokens.text is not None and row.status == Status.OK else None
            if text is not None and uncounted:
                text_file.write(msgspec.json.encode(text) + b"\n")
                texts += 1
            sample.offer(None if uncounted else text)
            if row.status != Status.OK:
                kept = messages.setdefault(row.status.name, Counter())
                message = _without(order.secrets, row.message or "")[:LONGEST_MESSAGE]
                if message in kept or len(kept) < MESSAGES_KEPT:
                    kept[message] += 1
        text_file.writelines(msgspec.json.encode(text) + b"\n" for text in sample.texts)
    rows.close()
    events.close()
    asked.close()
    errors = {status: [f"{times} × {text}" for text, times in kept.items()] for status, kept in messages.items()}
    return Collected(rows=count, events=event_count, texts=texts, errors=errors)


def _answers(spool: str) -> Iterable[_Answer]:
    """Each request as it ended. Holds only what was in flight at a time.

    A request that was sent again was sent when it was first; what the failed attempts brought is left out.
    """
    sent: dict[int, tuple[int, int, int]] = {}
    reads: dict[int, deque[Entry]] = {}
    retries: dict[int, int] = {}
    for entry in replay(Path(spool)):
        index = entry.request
        match entry.kind:
            case Kind.READ:
                reads.setdefault(index, deque()).append(entry)
            case Kind.SENT:
                first, took, flags = sent.get(index, (entry.at_ns, entry.delay_ns, 0))
                sent[index] = (first, took, entry.info | (flags & Flag.RESENT))
                reads.pop(index, None)
            case Kind.RETRY:
                retries[index] = entry.info
                reads.pop(index, None)
            case Kind.END:
                at, took, flags = sent.pop(index, (NONE, NONE, 0))
                yield _Answer(index, at, took, flags, retries.pop(index, 0), reads.pop(index, deque()), entry)


def _numbers(answer: _Answer, row: Row, start: int) -> tuple[int, ...]:
    unfinished = Flag.UNFINISHED_AT_STOP if row.status == Status.CANCELLED else 0
    tokens = row.tokens
    return (
        answer.request,
        _since(answer.sent_ns, start),
        answer.send_ns,
        _since(tokens.first_token_ns, start),
        tokens.first_early_ns,
        _since(tokens.first_visible_ns, start),
        _since(tokens.last_token_ns, start),
        _since(row.end_ns, start),
        tokens.server_input_tokens,
        tokens.cached_tokens,
        tokens.output_tokens,
        tokens.event_output_tokens,
        tokens.source,
        tokens.event_source,
        row.status,
        row.http_status,
        answer.flags | row.flags | unfinished,
        row.read_delay_ns,
        row.answer_bytes,
        tokens.merged_events,
        answer.retries,
        *(NONE if took is None else took for took in tokens.times),
        len(tokens.events),
    )


def _since(at: int, start: int) -> int:
    return NONE if at == NONE else at - start


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
