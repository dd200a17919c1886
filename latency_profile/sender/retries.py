"""Requests that failed and are to be sent again: how often, and when."""

import heapq
from collections.abc import Iterable, Iterator

from latency_profile.sender.clock import Timer

MOST_ASKED_S = 30  # of a server's Retry-After
FIRST_WAIT_NS = 100_000_000
LONGEST_WAIT_NS = 5_000_000_000


def wait_ns(attempt: int, asked_s: int | None) -> int:
    """How long to wait before further attempt 1, 2, ...: as the server asked, else twice as long each time.

    Without a random part: requests come back as far apart as they were refused, and a point can be repeated.
    """
    if asked_s is not None:
        return min(asked_s, MOST_ASKED_S) * 1_000_000_000
    return min(FIRST_WAIT_NS << min(attempt - 1, 16), LONGEST_WAIT_NS)


class Retries:
    """Those that wait for another attempt, and how many each has had. `timer` fires when the next is due."""

    def __init__(self, most: int) -> None:
        """most: further attempts of one request; 0: nothing is ever put off."""
        self.most = most
        self.timer = Timer()
        self._due: list[tuple[int, int]] = []  # a heap of (when, index)
        self._attempts: dict[int, int] = {}
        self._sent: set[int] = set()
        self.requests = self.attempts = 0

    def put_off(self, index: int, now: int, asked_s: int | None, sent: bool) -> int:
        """The number of the attempt that comes when the request has waited; 0 where it has none left."""
        attempt = self._attempts.get(index, 0) + 1
        if attempt > self.most:
            return 0
        self._attempts[index] = attempt
        if sent:
            self._sent.add(index)
        self.requests += attempt == 1
        self.attempts += 1
        heapq.heappush(self._due, (now + wait_ns(attempt, asked_s), index))
        self.timer.set(self._due[0][0])
        return attempt

    def due(self, now: int) -> Iterator[int]:
        """Those that have waited long enough."""
        while self._due and self._due[0][0] <= now:
            yield heapq.heappop(self._due)[1]
        if self._due:
            self.timer.set(self._due[0][0])

    def over(self, index: int) -> None:
        """The request has ended."""
        if self._attempts.pop(index, 0):
            self._sent.discard(index)

    def has(self, index: int) -> bool:
        """Whether the request has failed before, and goes on."""
        return index in self._attempts

    def has_sent(self, index: int) -> bool:
        """Whether one of its earlier attempts was sent."""
        return index in self._sent

    @property
    def all(self) -> Iterable[int]:
        """Requests that have failed before and go on: they wait, or are on their way again."""
        return self._attempts

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def close(self) -> None:
        self.timer.close()
