"""When each event of each answer is due, as the server of known timing takes it. Pure.

Either the cadence that a point's records have, or, before anything was measured, an assumed one.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latency_profile.records import Records, Status
from latency_profile.statistics import NS_PER_MS, NS_PER_S

_SHORTEST_NS = 50_000_000  # what is left of an answer that was to begin after the end


class Cadence(NamedTuple):
    """An assumed cadence; each length is uniform within ± `jitter` (a share)."""

    ttft_ms: float
    gap_ms: float
    jitter: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Events of request k are `event_start[k]:event_start[k + 1]`, one or more; times in ns from its arrival."""

    event_start: NDArray[np.int64]
    offset_ns: NDArray[np.int64]
    event_tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.event_start) - 1

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, event_start=self.event_start, offset_ns=self.offset_ns, event_tokens=self.event_tokens)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each answer, shape (requests,)."""
        return np.add.reduceat(self.event_tokens, self.event_start[:-1])

    def within(self, due_ns: NDArray[np.int64] | None, end_ns: int) -> "Schedule":
        """Answers without what comes after `end_ns` from the start (of a closed loop: from each one's own arrival).

        Each keeps its first event. One that was to begin after the end begins at it, or 50 ms after its arrival.
        """
        due = np.zeros(len(self), dtype=np.int64) if due_ns is None else due_ns
        counts = np.diff(self.event_start)
        left = np.maximum(end_ns - due, _SHORTEST_NS)
        kept = self.offset_ns <= np.repeat(left, counts)
        firsts = self.event_start[:-1]
        offsets = self.offset_ns.copy()
        offsets[firsts] = np.minimum(offsets[firsts], left)
        kept[firsts] = True
        starts = np.concatenate(([0], np.cumsum(np.add.reduceat(kept.astype(np.int64), firsts))))
        return Schedule(starts, offsets[kept], self.event_tokens[kept])


def replayed(records: Records) -> Schedule:
    """The cadence of each request as it was measured, row by row: its events' times from its sending.

    An answer without events (not streamed) is one event at its end. A request that was not answered takes the cadence
    of the one before it, the first ones of the first that was. Raises ValueError where none was answered.
    """
    sent = records["sent_ns"]
    counts = np.diff(records.event_start)
    streamed = (counts > 0) & (sent >= 0)
    whole = ~streamed & (records["status"] == Status.OK)
    answered = np.flatnonzero(streamed | whole)
    if not len(answered):
        raise ValueError("none of its requests was answered")
    place = np.searchsorted(answered, np.arange(len(records)), side="right") - 1
    source = answered[np.maximum(place, 0)]
    lengths = np.where(streamed, counts, 1)[source]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    firsts = np.where(streamed, records.event_start[:-1], 0)[source]
    events = np.repeat(firsts - starts[:-1], lengths) + np.arange(starts[-1])
    if len(records.event_ns):
        offsets = records.event_ns[events] - np.repeat(sent[source], lengths)
        tokens = records.event_tokens[events].astype(np.int64)
    else:
        offsets, tokens = np.zeros((2, len(events)), dtype=np.int64)
    single = np.repeat(whole[source], lengths)
    offsets[single] = (records["end_ns"] - sent)[source][whole[source]]
    tokens[single] = records["output_tokens"][source][whole[source]]
    return Schedule(starts, np.maximum(offsets, 0), np.maximum(tokens, 1))


def assumed(output_tokens: NDArray[np.int64], cadence: Cadence, seed: int) -> Schedule:
    """Answers of so many tokens each, one an event, in the cadence. Drawn from PCG64 seeded by (seed,)."""
    lengths = np.maximum(output_tokens, 1)
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    mean = np.full(starts[-1], cadence.gap_ms * NS_PER_MS)
    mean[starts[:-1]] = cadence.ttft_ms * NS_PER_MS
    drawn = mean * np.random.default_rng(seed).uniform(1 - cadence.jitter, 1 + cadence.jitter, len(mean))
    running = np.concatenate(([0.0], np.cumsum(drawn)))
    offsets = running[1:] - np.repeat(running[starts[:-1]], lengths)
    return Schedule(starts, np.rint(offsets).astype(np.int64), np.ones(len(offsets), dtype=np.int64))


def most_tokens(cadence: Cadence, seconds: float) -> int:
    """More tokens than an answer of the assumed cadence has in so many seconds, so that no more need be drawn."""
    gap_s = cadence.gap_ms * (1 - cadence.jitter) * NS_PER_MS / NS_PER_S
    return 1 + math.ceil(seconds / gap_s)


def plan_within(due_ns: NDArray[np.int64], seconds: float, least: int) -> NDArray[np.int64]:
    """The part of a plan that is due within so many seconds. A plan with fewer than `least` requests in it is run
    faster, so that these many are: what is measured at a higher rate holds at a lower one too."""
    end_ns = seconds * NS_PER_S
    needed = min(least, len(due_ns))
    last = int(due_ns[needed - 1]) if needed else 0
    if last >= end_ns:
        due_ns = np.floor(due_ns[:needed] * (end_ns / (last + 1))).astype(np.int64)
    return due_ns[due_ns < end_ns]
