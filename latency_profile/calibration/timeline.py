"""When each token of an answer is due, from the request's arrival. Drawn or given beforehand; nobody's load matters."""

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Timeline = tuple[NDArray[np.int64], tuple[int, ...]]  # of each event: ns from the arrival; tokens of the answer by then


@lru_cache
def _counted(tokens: int) -> tuple[int, ...]:
    return tuple(range(1, tokens + 1))


class Timelines(Protocol):
    def next(self, request_id: str, tokens: int) -> Timeline:
        """Of the request that has just arrived and wants so many tokens."""


class Jittered:
    """The first token after `ttft_ns`, then one every `itl_ns`, each length uniform within ± `jitter` (a share). Drawn
    request after request, in order of arrival."""

    def __init__(self, ttft_ns: int, itl_ns: int, jitter: float, seed: int) -> None:
        self._ttft_ns, self._itl_ns, self._jitter = ttft_ns, itl_ns, jitter
        self._generator = np.random.default_rng(seed)

    def next(self, request_id: str, tokens: int) -> Timeline:
        del request_id
        lengths = self._generator.uniform(1 - self._jitter, 1 + self._jitter, tokens)
        lengths[0] *= self._ttft_ns
        lengths[1:] *= self._itl_ns
        return np.cumsum(lengths).astype(np.int64), _counted(tokens)


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

    def next(self, request_id: str, tokens: int) -> Timeline:
        del tokens
        number = request_id.rpartition("-")[2]
        row = int(number) % (len(self._starts) - 1) if number.isdigit() else 0
        place = slice(self._starts[row], self._starts[row + 1])
        return self._offsets[place], tuple(np.cumsum(self._tokens[place]).tolist())
