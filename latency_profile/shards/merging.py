"""Joins the records of a point's shards into those of the point: exact percentiles, not averages of averages. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from latency_profile.records import REQUEST_COLUMNS, PointContext, Records
from latency_profile.shards.structure import Part

# What must be the same in all of them, or they are of other points, other runs or other plans.
_SAME = ("nonce", "point", "request_rate", "concurrency", "duration_s", "models", "backend", "endpoint", "streaming")
_LARGEST = frozenset({"most_waiting_for_connection", "longest_turn_s", "slowest_spool_flush_s"})


class NotOnePoint(ValueError):
    """Records that do not belong together."""


def merge_shards(parts: Sequence[Records]) -> Records:
    """The point that these are shards of: all their rows, in order of the plan. Times stay as they are: each shard's
    are from its own start, as the plan's are.

    What is known once of a point (its date, what the server says of itself, provenance) is shard 0's, or that of the
    first one that is here. Raises NotOnePoint.
    """
    parts = sorted(parts, key=lambda part: _part(part).index)
    context = _context(parts)
    index = np.concatenate([part["index"] for part in parts])
    order = np.argsort(index, kind="stable")
    columns = {name: np.concatenate([part[name] for part in parts])[order] for name in REQUEST_COLUMNS}
    lengths = np.concatenate([np.diff(part.event_start) for part in parts])
    starts = np.cumsum(lengths, dtype=np.int64) - lengths  # of each row's events, shard behind shard
    event_start = np.concatenate(([0], np.cumsum(lengths[order], dtype=np.int64)))
    places = np.repeat(starts[order] - event_start[:-1], lengths[order]) + np.arange(event_start[-1])
    return Records(
        context,
        columns,
        event_start,
        _events([part.event_ns for part in parts], places),
        _events([part.event_tokens for part in parts], places),
    )


def _events(arrays: Sequence[NDArray[Any]], places: NDArray[np.int64]) -> NDArray[Any]:
    return np.concatenate(arrays)[places]


def _part(records: Records) -> Part:
    if len(records.context.parts) != 1:
        raise NotOnePoint("these are no records of one shard")
    return records.context.parts[0]


def _context(parts: Sequence[Records]) -> PointContext:
    first = parts[0].context
    known = [_part(part) for part in parts]
    for part, of in zip(parts, known, strict=True):
        for name in _SAME:
            this, that = getattr(first, name), getattr(part.context, name)
            if this != that:
                raise NotOnePoint(f"shards {known[0].index} and {of.index} are not of one point: {name} {this}, {that}")
        if (of.shards, of.whole) != (known[0].shards, known[0].whole):
            raise NotOnePoint(f"shards {known[0].index} and {of.index} are not of one plan")
    indices = [of.index for of in known]
    if len(set(indices)) < len(indices):
        raise NotOnePoint(f"a shard is there twice: {', '.join(map(str, indices))}")
    return msgspec.structs.replace(
        first,
        measured_ns=max(part.context.measured_ns for part in parts),
        # The load went on where one of them did: then the others' ends are what they did not send.
        cut_short=first.cut_short if all(part.context.cut_short for part in parts) else None,
        client=clients_together([part.context.client for part in parts]),
        parts=[msgspec.structs.replace(of, client=part.context.client) for part, of in zip(parts, known, strict=True)],
    )


def clients_together(clients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of several clients as those of one: sums, and the largest of what is a largest. What a processor did
    belongs to its machine, and the loops' counters to their clocks: these stay with each client."""
    errors: dict[str, list[str]] = {}
    for client in clients:
        for status, messages in client.get("error_samples", {}).items():
            errors.setdefault(status, []).extend(messages)
    numbers = [name for name, value in clients[0].items() if isinstance(value, int | float)]
    found: dict[str, Any] = {}
    for name in numbers:
        values = [client[name] for client in clients if name in client]
        found[name] = max(values) if name in _LARGEST else sum(values)
    shares = [share for client in clients for share in client.get("sender_core_shares", [])]
    return {**found, "error_samples": errors, "sender_core_shares": shares}
