"""When each token of an answer is due, from the request's arrival. Drawn or given beforehand; nobody's load matters."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from latency_profile.simulator.slots import SlotProfile, Slots


class Timeline(NamedTuple):
    """Of one answer."""

    offsets_ns: NDArray[np.int64]  # of each event, from the request's arrival
    tokens: tuple[int, ...]  # of the answer by then
    waits_ns: int = 0  # from the arrival to the beginning of its service


@lru_cache
def _counted(tokens: int) -> tuple[int, ...]:
    return tuple(range(1, tokens + 1))


class Timelines(Protocol):
    def next(self, request_id: str, tokens: int, arrival_ns: int) -> Timeline:
        """Of the request that has just arrived and wants so many tokens."""


class Jittered:
    """The first token after `ttft_ns`, then one every `itl_ns`, each length uniform within ± `jitter` (a share). Drawn
    request after request, in order of arrival."""

    def __init__(self, ttft_ns: int, itl_ns: int, jitter: float, seed: int) -> None:
        self._ttft_ns, self._itl_ns, self._jitter = ttft_ns, itl_ns, jitter
        self._generator = np.random.default_rng(seed)

    def next(self, request_id: str, tokens: int, arrival_ns: int) -> Timeline:
        del request_id, arrival_ns
        lengths = self._generator.uniform(1 - self._jitter, 1 + self._jitter, tokens)
        lengths[0] *= self._ttft_ns
        lengths[1:] *= self._itl_ns
        return Timeline(np.cumsum(lengths).astype(np.int64), _counted(tokens))


class Queued:
    """A queue before slots: all tokens of an answer come together when its service ends."""

    def __init__(self, profile: SlotProfile, seed: int) -> None:
        self._slots = Slots(profile, seed)

    def next(self, request_id: str, tokens: int, arrival_ns: int) -> Timeline:
        del request_id
        start_ns, end_ns = self._slots.take(arrival_ns)
        return Timeline(np.full(tokens, end_ns - arrival_ns), _counted(tokens), start_ns - arrival_ns)


class Scheduled:
    """Request "…-k" is answered by row k mod n of a file: arrays `event_start` (n + 1,), `offset_ns` and `event_tokens`
    (events,). Raises OSError, KeyError or ValueError where it is none."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            starts = file["event_start"].astype(np.int64)
            offsets, tokens = file["offset_ns"].astype(np.int64), file["event_tokens"].astype(np.int64)
        if len(starts) < 2 or starts[-1] != len(offsets) or len(offsets) != len(tokens) or (np.diff(starts) < 1).any():
            raise ValueError("a schedule needs a row or more, and of each row an event or more")
        self._starts, self._offsets, self._tokens = starts, offsets, tokens

    def next(self, request_id: str, tokens: int, arrival_ns: int) -> Timeline:
        del tokens, arrival_ns
        number = request_id.rpartition("-")[2]
        row = int(number) % (len(self._starts) - 1) if number.isdigit() else 0
        place = slice(self._starts[row], self._starts[row + 1])
        return Timeline(self._offsets[place], tuple(np.cumsum(self._tokens[place]).tolist()))
