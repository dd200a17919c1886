"""Joins what the sender processes wrote into the columns of one point."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from latency_profile.records import (
    EVENT_COLUMNS,
    NONE,
    REQUEST_COLUMNS,
    EventSource,
    PointContext,
    Records,
    Status,
    TokenSource,
)
from latency_profile.sender import collect
from latency_profile.sender.text_sample import Text

_TEXTS_AT_A_TIME = 1000


def merge(
    context: PointContext,
    shards: Sequence[str],
    *,
    due_ns: NDArray[np.int64] | None,
    ended_ns: int,
    asked: dict[str, NDArray[Any]],
    urls: int = 1,
    pod: tuple[int, int] = (0, 1),
    count_tokens: Callable[[list[str]], list[int]],
) -> Records:
    """The records of one point.

    shards: prefixes of the files that each process wrote (sender.collect). due_ns: the plan, None in a closed loop.
    ended_ns: from the point's start to its end. asked: columns `model`, `input_tokens`, `wanted_tokens` by index of the
    request. urls: to how many servers requests went in turn. pod: which of how many pods this is: its requests are
    those whose index is so mod their number. Of a point that was cut short, requests that were due
    before its end and never sent are rows with NOT_SENT; those that were not due yet are no rows. Answers that nobody
    counted are counted by `count_tokens`, and so is the sample of the others.
    """
    parts = [{name: _read(prefix, name, code) for name, code in collect.COLUMNS.items()} for prefix in shards]
    shard_of = np.concatenate([np.full(len(part["index"]), number) for number, part in enumerate(parts)])
    whole = {name: np.concatenate([part[name] for part in parts]) for name in collect.COLUMNS}
    order = np.argsort(whole["index"], kind="stable")
    index = whole["index"][order]
    missing = _never_sent(index, due_ns, ended_ns, pod)
    columns: dict[str, NDArray[Any]] = {}
    for name, dtype in REQUEST_COLUMNS.items():
        if name in whole:
            known = whole[name][order]
            columns[name] = np.concatenate([known, np.full(len(missing), _absent(name))]).astype(dtype)
    columns["index"] = np.concatenate([index, missing]).astype(np.uint32)
    final = np.argsort(columns["index"], kind="stable")
    columns = {name: column[final] for name, column in columns.items()}
    rows = columns["index"]
    columns["text_tokens"] = np.full(len(rows), NONE, dtype=REQUEST_COLUMNS["text_tokens"])
    columns["worker"] = (rows % (len(shards) * pod[1])).astype(np.uint16)
    columns["url"] = (rows % urls).astype(np.uint16)
    columns["due_ns"] = np.full(len(rows), NONE, dtype=np.int64) if due_ns is None else due_ns[rows]
    for name, column in asked.items():
        columns[name] = column[rows].astype(REQUEST_COLUMNS[name])
    lengths = np.concatenate([whole["events"][order], np.zeros(len(missing), dtype=np.uint32)])[final]
    event_start = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    sources = _event_sources(parts)[order], shard_of[order]
    events = _gather_events(shards, sources, whole["events"][order], np.searchsorted(rows, index), event_start)
    records = Records(context, {name: columns[name] for name in REQUEST_COLUMNS}, event_start, *events)
    _count_texts(records, shards, count_tokens)
    return records


def _read(prefix: str, name: str, code: str) -> NDArray[Any]:
    return np.fromfile(f"{prefix}.{name}", dtype=np.dtype(code))


def _never_sent(
    index: NDArray[Any], due_ns: NDArray[np.int64] | None, ended_ns: int, pod: tuple[int, int]
) -> NDArray[Any]:
    if due_ns is None:
        return np.zeros(0, dtype=np.int64)
    due = np.flatnonzero(due_ns < ended_ns)
    return np.setdiff1d(due[due % pod[1] == pod[0]], index, assume_unique=True)


def _absent(column: str) -> int:
    match column:
        case "status":
            return Status.NOT_SENT
        case "token_source":
            return TokenSource.NONE
        case "event_source":
            return EventSource.NONE
        case "first_early_ns" | "http_status" | "flags" | "answer_bytes" | "merged_events" | "retries":
            return 0
    return NONE


def _event_sources(parts: Sequence[dict[str, NDArray[Any]]]) -> NDArray[np.int64]:
    """Where each row's events begin in its own shard's file."""
    return np.concatenate([np.cumsum(part["events"], dtype=np.int64) - part["events"] for part in parts])


def _gather_events(
    shards: Sequence[str],
    sources: tuple[NDArray[np.int64], NDArray[Any]],
    lengths: NDArray[Any],
    places: NDArray[np.int64],
    event_start: NDArray[np.int64],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Events in the order of the rows. Copies row by row out of mapped files: one copy in memory, not three."""
    gathered = []
    for name, code in collect.EVENT_COLUMNS.items():
        files = [_map(f"{prefix}.{name}", np.dtype(code)) for prefix in shards]
        target = np.empty(int(event_start[-1]), dtype=EVENT_COLUMNS[name])
        for begin, shard, length, place in zip(*(a.tolist() for a in (*sources, lengths, places)), strict=True):
            if length:
                to = event_start[place]
                target[to : to + length] = files[shard][begin : begin + length]
        gathered.append(target)
    return gathered[0], gathered[1]


def _map(path: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not Path(path).stat().st_size:
        return np.zeros(0, dtype=dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype=dtype, mode="r")


def _count_texts(records: Records, shards: Sequence[str], count_tokens: Callable[[list[str]], list[int]]) -> None:
    nobody_counted = records["output_tokens"] == NONE
    for prefix in shards:
        with Path(f"{prefix}.texts").open("rb") as file:
            while lines := file.readlines(_TEXTS_AT_A_TIME << 10):
                texts = [msgspec.json.decode(line, type=Text) for line in lines]
                places = np.searchsorted(records["index"], [text.index for text in texts])
                counts = np.asarray(count_tokens([text.text for text in texts]), dtype=np.int64)
                only = nobody_counted[places]
                records["output_tokens"][places[only]] = counts[only]
                records["token_source"][places[only]] = TokenSource.TOKENIZER
                records["text_tokens"][places[~only]] = counts[~only]
