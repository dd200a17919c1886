"""An alarm on CLOCK_MONOTONIC for an asyncio loop, whose own timers end in epoll_wait and so in whole milliseconds."""

import asyncio
from collections.abc import Callable

from latency_profile.sender.clock import Timer, wait_until


class Alarm:
    """Calls `callback` once when the time has come. Setting it again replaces the earlier time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer = Timer()
        self._at_ns: int | None = None
        loop.add_reader(self._timer.fd, self._fire)

    def set(self, at_ns: int | None) -> None:
        """Rings at `at_ns`, at once if that is past; None: not at all."""
        if at_ns == self._at_ns:
            return
        self._at_ns = at_ns
        if at_ns is None:
            self._timer.disarm()
        else:
            self._timer.set_early(at_ns)

    def close(self) -> None:
        self._loop.remove_reader(self._timer.fd)
        self._timer.close()

    def _fire(self) -> None:
        if self._at_ns is not None:
            wait_until(self._at_ns)
        self._at_ns = None
        self._callback()
        if self._at_ns is None:
            self._timer.disarm()  # takes the readiness away; setting a new time does so as well
