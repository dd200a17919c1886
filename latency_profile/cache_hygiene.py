"""What a profile does about the server's prefix cache at a point's edges: drops it where asked, reads its counters.

All of it happens before the point's first connection is opened and after its last answer has come.
"""

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from backends.base import Backend, CacheReset
from latency_profile.errors import ServerUnavailable, UsageError
from latency_profile.sender.job import joined
from latency_profile.server import NoAnswer, Server
from latency_profile.telemetry.prefix_cache import CacheCounters

RESET_TIMEOUT_S = 30.0  # of one request
# Servers refuse while blocks are in use. Requests that were given up at the end of a point may hold some for a moment.
BUSY_S = 10.0
BUSY_PAUSE_S = 0.2
_NO_SUCH_DOOR = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


class CacheHygiene:
    """For the points of one profile, one after another."""

    def __init__(self, servers: Sequence[Server], backend: Backend, *, reset: bool, stop: Callable[[], bool]) -> None:
        self._servers, self._stop = servers, stop
        self._reset = backend.cache_reset if reset else None
        self._counters = CacheCounters(backend.name, servers)

    def point_started(self) -> None:
        """Drops every server's cache if that was asked for. Raises UsageError, ServerUnavailable where one does not."""
        if self._reset is not None:
            for server in self._servers:
                reset_cache(server, self._reset, self._stop)
        self._counters.point_started()

    def point_finished(self) -> dict[str, Any] | None:
        """What the servers' counters say of the point (telemetry.prefix_cache); None where they say nothing, and after
        a signal, when there is no time to ask."""
        return None if self._stop() else self._counters.point_finished()


def reset_cache(server: Server, hook: CacheReset, stop: Callable[[], bool]) -> None:
    """Asks the server until its cache is gone, it has been busy for too long, or `stop` says so.

    Raises UsageError where the server, as it was started, has no such door, ServerUnavailable where it refuses.
    """
    what = f"--reset-cache: POST {server.url.removesuffix(server.prefix)}{joined(server.prefix, hook.path)}"
    deadline = time.monotonic() + BUSY_S
    while not stop():
        try:
            status, body = server.ask(hook.path, RESET_TIMEOUT_S, "POST")
        except NoAnswer as error:
            raise ServerUnavailable(f"{what} failed: {error}") from None
        if status in _NO_SUCH_DOOR:
            raise UsageError(f"{what} answered {status}; {hook.needs}")
        if status == HTTPStatus.OK and hook.done(body):
            return
        if status not in (HTTPStatus.OK, HTTPStatus.BAD_REQUEST):
            raise ServerUnavailable(f"{what} answered {status}, takes 200; {hook.needs}")
        if time.monotonic() > deadline:
            raise ServerUnavailable(
                f"{what}: the server did not drop its prefix cache within {BUSY_S:.0f} s, as it does not while any "
                f"request runs on it"
            )
        time.sleep(BUSY_PAUSE_S)
