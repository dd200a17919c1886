"""Records of one plan, cut into those of its shards as pods would have written them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from latency_profile.records import Records
from latency_profile.shards.structure import Part


def part(index: int, shards: int, whole: int, **changes: Any) -> Part:
    known: dict[str, Any] = {"workers": 1, "host": f"pod-{index}", "clock_s": (-0.1, 0.1)}
    return Part(index=index, shards=shards, whole=whole, **(known | changes))


def cut(records: Records, shards: int, changes: dict[int, dict[str, Any]] | None = None) -> list[Records]:
    """The records of each of so many shards; `changes` to their parts, by index."""
    whole = records.context.concurrency or len(records)
    return [
        chosen(
            records, records["index"] % shards == index, [part(index, shards, whole, **(changes or {}).get(index, {}))]
        )
        for index in range(shards)
    ]


def chosen(records: Records, rows: Any, parts: Sequence[Part] = ()) -> Records:
    """Those rows of the records, row by row: slow, and plain to see."""
    indices = np.flatnonzero(rows)
    slices = [slice(int(records.event_start[row]), int(records.event_start[row + 1])) for row in indices]
    lengths = [one.stop - one.start for one in slices]
    return Records(
        msgspec.structs.replace(records.context, parts=list(parts)),
        {name: column[indices] for name, column in records.columns.items()},
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        np.concatenate([records.event_ns[:0], *(records.event_ns[one] for one in slices)]),
        np.concatenate([records.event_tokens[:0], *(records.event_tokens[one] for one in slices)]),
    )
