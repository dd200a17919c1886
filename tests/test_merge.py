"""Shards into one point: spools written by hand, collected and merged."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from backends import vllm
from backends.base import Piece, Times
from latency_profile.merge import merge
from latency_profile.outcome import Flag
from latency_profile.records import EVENT_COLUMNS, NONE, REQUEST_COLUMNS, PointContext, Records, Status, TokenSource
from latency_profile.sender.collect import MESSAGES_KEPT, collect
from latency_profile.sender.job import Collect, Collected
from latency_profile.sender.spool import End, Kind, Spool
from tests.servers import odd

START = 5_000_000
MS = 1_000_000
SERVER_TIMES = ("server_queue_ns", "server_prefill_ns", "server_decode_ns", "server_total_ns")
ABSENT_WHERE_UNSENT = (
    *("sent_ns", "first_token_ns", "first_visible_ns", "last_token_ns", "end_ns", "read_delay_ns"),
    *("output_tokens", "server_input_tokens", "event_output_tokens", *SERVER_TIMES),
)


class Shard:
    """Writes one process's spool; times in ms since the point's start."""

    def __init__(self, folder: Path, number: int) -> None:
        self.spool_path, self.columns = str(folder / f"spool-{number}"), str(folder / f"columns-{number}")
        self._spool = Spool(Path(self.spool_path))

    def sent(self, index: int, at_ms: float, flags: int = 0) -> None:
        self._spool.note(Kind.SENT, index, START + round(at_ms * MS), flags)

    def read(self, index: int, at_ms: float, data: bytes) -> None:
        self._spool.room()[: len(data)] = data
        self._spool.read(index, 0, START + round(at_ms * MS), len(data))

    def ended(self, index: int, at_ms: float, end: End = End.COMPLETE, number: int = 0) -> None:
        self._spool.note(Kind.END, index, START + round(at_ms * MS), end, number)

    def answer(self, index: int, sent_ms: float, token_ms: list[float], usage: bool = True, word: str = "w") -> None:
        """Sent, answered with a token at each of these times, ended with the last."""
        self.sent(index, sent_ms)
        parts = [odd.event(word, at if usage else None) for at in range(1, len(token_ms) + 1)]
        self.read(index, sent_ms, odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"))
        for at, part in zip(token_ms, parts, strict=True):
            self.read(index, at, odd.chunk(part))
        self.read(index, token_ms[-1], odd.chunk(odd.DONE) + odd.chunk(b""))
        self.ended(index, token_ms[-1] + 1)

    def retry(self, index: int, at_ms: float, number: int) -> None:
        """An attempt failed, and there will be another."""
        self._spool.note(Kind.RETRY, index, START + round(at_ms * MS), number)

    def collect(self, secrets: list[str] | None = None, endpoint: str = "completions") -> Collected:
        self._spool.close()
        order = Collect(
            spool=self.spool_path,
            columns=self.columns,
            start_ns=START,
            backend="vllm",
            endpoint=endpoint,
            streaming=True,
            bodies="",
            bounds="",
            secrets=secrets or [],
        )
        return collect(order)


def shards(folder: Path, count: int) -> list[Shard]:
    return [Shard(folder, number) for number in range(count)]


def join(
    parts: list[Shard], due_ms: list[float] | None, ended_ms: float = 1000, requests: int = 100, urls: int = 1
) -> Records:
    """The records; the tokenizer of these tests counts letters."""
    return merge(
        cast("PointContext", None),
        [part.columns for part in parts],
        due_ns=None if due_ms is None else np.asarray(np.multiply(due_ms, MS), dtype=np.int64),
        ended_ns=round(ended_ms * MS),
        asked={
            "model": np.arange(requests) % 2,
            "input_tokens": np.arange(requests) + 10,
            "wanted_tokens": np.arange(requests) + 20,
        },
        urls=urls,
        count_tokens=lambda texts: [len(text) for text in texts],
    )


def events_of(records: Records, row: int) -> list[tuple[float, int]]:
    part = slice(records.event_start[row], records.event_start[row + 1])
    return [
        (at / MS, int(tokens)) for at, tokens in zip(records.event_ns[part], records.event_tokens[part], strict=True)
    ]


def test_rows_come_by_index_with_their_own_events(tmp_path: Path) -> None:
    """Five requests over two processes, ended in another order than sent, with no, one, two and three events."""
    even, odd_one = parts = shards(tmp_path, 2)
    even.sent(4, 40)
    even.answer(2, 20, [50, 60, 70])
    even.answer(0, 1, [80])
    even.ended(4, 90, End.TIMEOUT)
    odd_one.answer(3, 30, [31, 32])
    odd_one.answer(1, 10, [41, 42, 43, 44])
    for part in parts:
        part.collect()
    records = join(parts, [0, 10, 20, 30, 40])
    assert list(records["index"]) == [0, 1, 2, 3, 4]
    assert list(records["worker"]) == [0, 1, 0, 1, 0]
    assert list(records["due_ns"]) == [0, 10 * MS, 20 * MS, 30 * MS, 40 * MS]
    assert list(records["sent_ns"]) == [MS, 10 * MS, 20 * MS, 30 * MS, 40 * MS]
    assert [events_of(records, row) for row in range(5)] == [
        [(80, 1)],
        [(41, 1), (42, 1), (43, 1), (44, 1)],
        [(50, 1), (60, 1), (70, 1)],
        [(31, 1), (32, 1)],
        [],
    ]
    assert list(records["first_token_ns"]) == [80 * MS, 41 * MS, 50 * MS, 31 * MS, NONE]
    assert list(records["last_token_ns"]) == [80 * MS, 44 * MS, 70 * MS, 32 * MS, NONE]
    assert list(records["end_ns"]) == [80 * MS, 44 * MS, 70 * MS, 32 * MS, 90 * MS]
    assert list(records["output_tokens"]) == [1, 4, 3, 2, NONE]
    assert list(records["status"]) == [Status.OK] * 4 + [Status.TIMEOUT]
    assert list(records["model"]) == [0, 1, 0, 1, 0]
    assert list(records["input_tokens"]) == [10, 11, 12, 13, 14]
    assert list(records["wanted_tokens"]) == [20, 21, 22, 23, 24]
    assert {name: column.dtype.str[1:] for name, column in records.columns.items()} == REQUEST_COLUMNS
    assert records.event_ns.dtype.str[1:] == EVENT_COLUMNS["event_ns"]
    assert records.event_tokens.dtype.str[1:] == EVENT_COLUMNS["event_tokens"]


def test_requests_that_a_stop_left_unsent_are_rows_among_the_others(tmp_path: Path) -> None:
    """Due before the end and never sent: a row. Due at the end or later: none. Events keep to their own rows."""
    part = Shard(tmp_path, 0)
    part.answer(0, 0, [5])
    part.answer(3, 30, [35, 36])
    part.sent(1, 10)
    part.ended(1, 50, End.STOPPED)
    part.collect()
    records = join([part], [0, 10, 20, 30, 40, 50, 60], ended_ms=50)
    assert list(records["index"]) == [0, 1, 2, 3, 4]
    assert list(records["status"]) == [Status.OK, Status.CANCELLED, Status.NOT_SENT, Status.OK, Status.NOT_SENT]
    assert list(records["flags"]) == [0, Flag.UNFINISHED_AT_STOP, 0, 0, 0]
    assert [events_of(records, row) for row in range(5)] == [[(5, 1)], [], [], [(35, 1), (36, 1)], []]
    for row in (2, 4):
        assert records["due_ns"][row] == row * 10 * MS
        for name in ABSENT_WHERE_UNSENT:
            assert records[name][row] == NONE, name
        assert (records["http_status"][row], records["answer_bytes"][row], records["retries"][row]) == (0, 0, 0)
        assert records["token_source"][row] == TokenSource.NONE
        assert (records["input_tokens"][row], records["wanted_tokens"][row]) == (10 + row, 20 + row)


def test_a_closed_loop_has_neither_due_times_nor_unsent_rows(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    part.answer(0, 0, [5])
    part.answer(7, 30, [35])
    part.collect()
    records = join([part], None)
    assert list(records["index"]) == [0, 7]
    assert list(records["due_ns"]) == [NONE, NONE]
    assert list(records["input_tokens"]) == [10, 17]


def test_texts_that_nobody_counted_are_counted_after_the_run(tmp_path: Path) -> None:
    even, odd_one = parts = shards(tmp_path, 2)
    even.answer(0, 0, [5, 6], usage=False, word="ab")
    even.answer(2, 0, [5, 6])
    odd_one.answer(1, 0, [5, 6, 7], usage=False, word="é\n")
    odd_one.sent(3, 0)
    odd_one.read(3, 5, odd.head("200 OK", "text/event-stream") + odd.event("failed"))
    odd_one.ended(3, 9, End.BROKEN)
    assert [part.collect().texts for part in parts] == [1, 1]
    records = join(parts, [0, 0, 0, 0])
    assert list(records["output_tokens"]) == [4, 6, 2, NONE]
    sources = [TokenSource.TOKENIZER, TokenSource.TOKENIZER, TokenSource.USAGE, TokenSource.NONE]
    assert list(records["token_source"]) == sources


def test_many_texts_are_counted_in_parts(tmp_path: Path) -> None:
    """More than are held at a time: each count comes to its own row."""
    part = Shard(tmp_path, 0)
    for index in range(60):
        part.answer(index, 0, [5], usage=False, word="x" * (40_000 + index))
    part.collect()
    records = join([part], [0.0] * 60)
    assert list(records["output_tokens"]) == [40_000 + index for index in range(60)]


def test_a_request_that_was_sent_again_keeps_its_first_sending(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    part.sent(0, 3, Flag.REUSED_CONNECTION)
    part.sent(0, 4, Flag.RESENT)
    part.read(0, 9, odd.whole(2))
    part.ended(0, 9)
    part.collect()
    records = join([part], [0])
    assert records["sent_ns"][0] == 3 * MS
    assert records["flags"][0] == Flag.RESENT


def test_a_retried_request_keeps_its_first_sending_and_only_its_last_answer(tmp_path: Path) -> None:
    """0: two failed attempts, the first broke among its tokens. 1: its first attempt found no connection at all."""
    part = Shard(tmp_path, 0)
    part.sent(0, 3)
    part.sent(1, 4)
    part.ended(1, 6, End.BROKEN)
    part.read(0, 5, odd.head() + odd.event("lost") * 3)
    part.retry(0, 10, 1)
    part.sent(0, 20)
    part.read(0, 25, odd.plain(b"busy", "text/plain", "503 Service Unavailable"))
    part.retry(0, 25, 2)
    part.retry(2, 26, 1)
    part.sent(0, 40, Flag.REUSED_CONNECTION)
    part.sent(0, 41, Flag.RESENT)
    part.sent(2, 42)
    part.read(0, 60, odd.whole(2))
    part.ended(0, 60)
    part.read(2, 62, odd.whole(1))
    part.ended(2, 62)
    part.collect()
    records = join([part], [2, 4, 5])
    assert list(records["retries"]) == [2, 0, 1]
    assert list(records["due_ns"]) == [2 * MS, 4 * MS, 5 * MS]
    assert list(records["sent_ns"]) == [3 * MS, 4 * MS, 42 * MS]
    assert list(records["status"]) == [Status.OK, Status.RESET, Status.OK]
    assert list(records["http_status"]) == [200, 0, 200]
    assert list(records["flags"]) == [Flag.RESENT, 0, 0]
    assert list(records["first_token_ns"]) == [60 * MS, NONE, 62 * MS]
    assert events_of(records, 0) == [(60, 1), (60, 1)]
    assert records["answer_bytes"][0] == len(odd.whole(2))


def test_a_request_that_failed_in_all_its_attempts(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    for number, at in enumerate((0, 100, 200)):
        part.sent(0, at)
        part.read(0, at + 5, odd.plain(b"busy", "text/plain", "503 Service Unavailable"))
        if number < 2:
            part.retry(0, at + 5, number + 1)
    part.ended(0, 205)
    part.collect()
    records = join([part], [0])
    assert (records["status"][0], records["http_status"][0]) == (Status.HTTP_UNAVAILABLE, 503)
    assert (records["retries"][0], records["sent_ns"][0], records["end_ns"][0]) == (2, 0, 205 * MS)


@pytest.mark.parametrize("urls", [1, 2, 3])
def test_requests_go_to_the_urls_in_turn_also_those_never_sent(tmp_path: Path, urls: int) -> None:
    even, odd_one = parts = shards(tmp_path, 2)
    for index in (0, 2, 6):
        even.answer(index, 0, [5])
    odd_one.answer(1, 0, [5])
    for part in parts:
        part.collect()
    records = join(parts, [0.0] * 8, urls=urls)
    assert list(records["index"]) == list(range(8))
    assert list(records["url"]) == [index % urls for index in range(8)]


def test_the_visible_answer_begins_behind_its_reasoning(tmp_path: Path) -> None:
    """0: reasoning, then an answer. 1: an answer. 2: reasoning only."""

    def delta(kind: str) -> bytes:
        return b'data: {"choices":[{"index":0,"delta":{"%s":"w"}}]}\n\n' % kind.encode()

    part = Shard(tmp_path, 0)
    for index, kinds in enumerate((("reasoning", "reasoning", "content"), ("content",), ("reasoning", "reasoning"))):
        part.sent(index, 0)
        part.read(index, 1, odd.head("200 OK", "text/event-stream", "transfer-encoding: chunked"))
        for number, kind in enumerate(kinds):
            part.read(index, 10 * (number + 1), odd.chunk(delta(kind)))
        part.read(index, 90, odd.chunk(odd.DONE) + odd.chunk(b""))
        part.ended(index, 90)
    part.collect(endpoint="chat")
    records = join([part], [0, 0, 0])
    assert list(records["status"]) == [Status.OK] * 3
    assert list(records["first_token_ns"]) == [10 * MS, 10 * MS, 10 * MS]
    assert list(records["first_visible_ns"]) == [30 * MS, 10 * MS, NONE]


class TellingDoor(vllm.CompletionsDoor):
    """Its server tells in a header of its answers how long they queued, and in all how long they took."""

    def read_head(self, headers: Mapping[bytes, bytes]) -> Piece | None:
        queued = headers.get(b"x-queued-ns")
        return Piece(times=Times(queue_ns=int(queued), total_ns=7_000_000_000)) if queued else None


def test_what_the_server_says_of_its_times_stands_in_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    telling = dataclasses.replace(vllm.BACKEND, doors={"completions": TellingDoor})
    monkeypatch.setattr("latency_profile.sender.collect.load", lambda _: telling)
    part = Shard(tmp_path, 0)
    for index, headers in enumerate((["x-queued-ns: 0"], [], ["x-queued-ns: 250"])):
        part.sent(index, 0)
        part.read(index, 1, odd.whole(1, *headers))
        part.ended(index, 1)
    part.collect()
    records = join([part], [0, 0, 0])
    assert list(records["server_queue_ns"]) == [0, NONE, 250]
    assert list(records["server_total_ns"]) == [7_000_000_000, NONE, 7_000_000_000]
    assert list(records["server_prefill_ns"]) == list(records["server_decode_ns"]) == [NONE] * 3


def test_more_rows_than_are_held_at_a_time(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    count = 10_000
    for index in range(count):
        part.sent(index, index)
        if index % 2:
            part.read(index, index + 1, odd.whole(1))
        part.ended(index, index + 2, End.COMPLETE if index % 2 else End.TIMEOUT)
    told = part.collect()
    assert (told.rows, told.events) == (count, count // 2)
    records = join([part], list(range(count)), ended_ms=1e6, requests=count)
    assert np.array_equal(records["index"], np.arange(count))
    assert np.array_equal(records["sent_ns"], np.arange(count) * MS)
    assert np.array_equal(np.diff(records.event_start), np.arange(count) % 2)
    assert np.array_equal(records.event_ns, (np.arange(1, count, 2) + 1) * MS)


def test_a_shard_without_a_row(tmp_path: Path) -> None:
    full, _ = parts = shards(tmp_path, 2)
    full.answer(0, 0, [5])
    for part in parts:
        part.collect()
    records = join(parts, [0])
    assert list(records["index"]) == [0]


def test_a_point_without_a_row(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    part.collect()
    assert len(join([part], [0, 5], ended_ms=0)) == 0


def test_a_few_messages_of_each_kind_are_kept_without_secrets(tmp_path: Path) -> None:
    part = Shard(tmp_path, 0)
    for index in range(20):
        part.sent(index, 0)
        said = b"no key-%d" % (index % 5) if index else b"x" * 298 + b"key-1 and more"
        part.read(index, 1, odd.plain(said, "text/plain", "401 Unauthorized"))
        part.ended(index, 2)
    part.sent(20, 0)
    part.ended(20, 1, End.CONNECT_FAILED, 111)
    errors = part.collect(secrets=["key-1", "key-2"]).errors
    assert set(errors) == {"HTTP_UNAUTHORIZED", "CONNECT_REFUSED"}
    assert errors["CONNECT_REFUSED"] == ["1 × ECONNREFUSED"]
    kept = errors["HTTP_UNAUTHORIZED"]
    assert len(kept) == MESSAGES_KEPT
    assert kept[1] == "8 × HTTP 401: no ***"
    assert not any("key-1" in message or "key-2" in message or message.endswith("ke") for message in kept)
    assert all(len(message) < 330 for message in kept)


@pytest.mark.parametrize("length", [1, 70_000])
def test_an_event_of_more_tokens_than_the_column_holds(tmp_path: Path, length: int) -> None:
    part = Shard(tmp_path, 0)
    part.sent(0, 0)
    finished: Any = odd.event("a", length, "stop")
    part.read(0, 1, odd.plain(finished + odd.DONE, "text/event-stream"))
    part.ended(0, 1)
    part.collect()
    records = join([part], [0])
    assert records["output_tokens"][0] == length
    assert events_of(records, 0) == [(1, min(length, 65_535))]
