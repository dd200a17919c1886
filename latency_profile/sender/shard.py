"""The requests that one process has to send: which, to which target, when each is due, and its bytes."""

import os
from array import array
from collections import deque
from pathlib import Path

from latency_profile.sender.job import Point, joined
from latency_profile.sender.protocol import speller

_READ_AHEAD = 4  # messages


class Shard:
    """Every `shards`-th request of the point, in order. Of the bodies only the next few are in memory."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._bodies = os.open(point.bodies, os.O_RDONLY)
        self._bounds = _numbers("q", point.bounds)
        self._path_of = _numbers("H", point.path_of) if point.path_of is not None else None
        self._indexes = range(point.shard, len(self._bounds) - 1, point.shards)
        self._due = _numbers("q", point.plan)[point.shard :: point.shards] if point.plan is not None else None
        self._next = len(range(point.shard, point.first, point.shards))  # place of the next request to send
        self._ahead: deque[bytes] = deque()  # messages of the next requests, read from disk before they are due
        self._targets = [
            (target, speller(target), [joined(target.prefix, path) for path in point.paths]) for target in point.targets
        ]

    @property
    def more(self) -> bool:
        """Whether a request is left that has not been begun."""
        return self._next < len(self._indexes)

    @property
    def next_due_ns(self) -> int:
        """From the start; of an open loop that has more."""
        assert self._due is not None
        return self._due[self._next]

    def due_ns(self, index: int) -> int:
        """The same of any request."""
        assert self._due is not None
        return self._due[index // self._point.shards]

    @property
    def rate_per_ns(self) -> float:
        """Mean of the plan; 0 of a burst, and of a closed loop, which has none."""
        return len(self._due) / self._due[-1] if self._due and self._due[-1] else 0.0

    def target_of(self, index: int) -> int:
        """The number of the target that a request goes to."""
        return index % len(self._targets)

    @property
    def targets(self) -> list[int]:
        """The numbers of those that any of these requests goes to: with two shards and two targets, one."""
        return sorted({self.target_of(index) for index in self._indexes[: len(self._targets)]})

    def end(self) -> None:
        """Leaves out all that has not been begun."""
        self._next = len(self._indexes)
        self._ahead.clear()

    def connection_limits(self) -> dict[int, int]:
        """The most connections to each target, 0 for any number: together the shard's limit. What cannot be divided
        goes to other targets in each shard."""
        targets, limit = self.targets, self._point.connection_limit
        if not limit:
            return dict.fromkeys(targets, 0)
        first = self._point.shard % len(targets)
        order = targets[first:] + targets[:first]
        return {number: max(1, len(range(place, limit, len(order)))) for place, number in enumerate(order)}

    def take(self) -> tuple[int, bytes]:
        """Begins the next request: its index and its message."""
        index = self._indexes[self._next]
        message = self._ahead.popleft() if self._ahead else self.message(index)
        self._next += 1
        return index, message

    def read_ahead(self) -> None:
        """Makes the next messages, where there is time for it."""
        for index in self._indexes[self._next + len(self._ahead) : self._next + _READ_AHEAD]:
            self._ahead.append(self.message(index))

    def message(self, index: int) -> bytes:
        """The bytes of a request."""
        target, spell, paths = self._targets[self.target_of(index)]
        path = paths[self._path_of[index]] if self._path_of else paths[0]
        begin, end = self._bounds[index], self._bounds[index + 1]
        return spell(target, path, f"{self._point.request_id}{index}", os.pread(self._bodies, end - begin, begin))

    def close(self) -> None:
        os.close(self._bodies)


def _numbers(code: str, path: str) -> "array[int]":
    numbers = array(code)
    numbers.frombytes(Path(path).read_bytes())
    return numbers
