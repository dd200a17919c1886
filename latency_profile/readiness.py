"""Waits for servers that are still starting: a model takes minutes to load, and a Job may be there first."""

import http
import threading
import time
from collections.abc import Callable, Sequence

from latency_profile.errors import ServerUnavailable
from latency_profile.server import NoAnswer, Server

POLL_S = 1.0  # between the end of one poll and the next
POLL_TIMEOUT_S = 10.0
SAY_S = 10.0
_LOOK_S = 0.05  # how late a signal or the last server may be noticed


def wait_for(
    servers: Sequence[Server],
    health_path: str | None,
    seconds: float,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    """Returns when each server has once said that it is healthy, by a 200 to a GET of `health_path`, or, where there is
    none and of gRPC, by taking a connection; or when `stopped()`. The first poll is at once.

    Raises ServerUnavailable after `seconds`, with the last reason. `say` gets a line every 10 s at most while it waits.
    """
    deadline = time.monotonic() + seconds
    over = threading.Event()
    watches = [_Watch(server, health_path, over) for server in servers]
    said_at = float("-inf")
    try:
        while pending := [watch for watch in watches if not watch.ready.is_set()]:
            if stopped():
                return
            now = time.monotonic()
            told = [watch for watch in pending if watch.reason] or pending
            what = f"{told[0].server.url}: {told[0].reason or 'no answer yet'}"
            more = f" (and {len(pending) - 1} more)" if len(pending) > 1 else ""
            if now >= deadline:
                raise ServerUnavailable(f"not ready within {seconds:g} s: {what}{more}")
            if told[0].reason and now >= said_at + SAY_S:
                say(f"waiting for {what}{more}")
                said_at = now
            pending[0].ready.wait(min(_LOOK_S, deadline - now))
    finally:
        over.set()


class _Watch:
    """Polls one server in a thread of its own, so that one that hangs delays neither the others nor a signal."""

    def __init__(self, server: Server, health_path: str | None, over: threading.Event) -> None:
        self.server = server
        self.reason = ""  # why the last poll found it not ready
        self.ready = threading.Event()
        self._path = None if server.grpc else health_path
        self._over = over
        threading.Thread(target=self._poll, daemon=True, name=f"waiting for {server.authority}").start()

    def _poll(self) -> None:
        while not self._over.is_set():
            try:
                if (reason := self._ask()) is None:
                    self.ready.set()
                    return
                self.reason = reason
            except NoAnswer as error:
                self.reason = str(error)
            self._over.wait(POLL_S)

    def _ask(self) -> str | None:
        """Why the server is not ready, or None. Raises NoAnswer."""
        if self._path is None:
            self.server.connect(POLL_TIMEOUT_S)
            return None
        status, _ = self.server.ask(self._path, POLL_TIMEOUT_S)
        return None if status == http.HTTPStatus.OK else f"{self._path} answers {status}"
