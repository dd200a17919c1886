"""A server behind a guard, and the port that it gets."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from latency_profile.guarded.process import GuardedProcess
from latency_profile.interrupt import Ended, interrupts

HOST = "127.0.0.1"
STOP_WITHIN_S = 20.0  # from SIGTERM to SIGKILL: what vLLM takes to let go of its workers, several times over
WITHOUT_SERVER_S = 5.0  # what is still in flight fails at once


class ServerProcess(GuardedProcess):
    """A server from its start until the end of the block, whatever ends that; its output goes to `log`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        super().__init__(command, environment, log, STOP_WITHIN_S)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.stop()

    @contextmanager
    def cuts_short(self, when: Callable[[], None]) -> Iterator[None]:
        """While the block runs: where the server ends and the block goes on for WITHOUT_SERVER_S (it may wait for an
        answer until its own deadline), `when` is called and the block gets a SIGINT, as from Ctrl-C."""
        over = threading.Event()
        lock = threading.Lock()

        def watch() -> None:
            self.wait_unreaped()
            if over.wait(WITHOUT_SERVER_S):
                return
            with lock:
                if not over.is_set():
                    when()
                    os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=watch, daemon=True, name="watching the server").start()
        try:
            yield
        finally:
            with lock:
                over.set()

    def stop(self) -> None:
        """Ends the server and all that it started. A first Ctrl-C or SIGTERM meanwhile is raised when that is done; a
        second Ctrl-C at once, and the guard goes on alone."""
        with interrupts() as interrupt:
            super().stop()
        if interrupt.reason == "SIGTERM":
            raise Ended
        if interrupt:
            raise KeyboardInterrupt


def port_for(wanted: int) -> int:
    """The port that is wanted, or a free one where something listens there."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an earlier server's connections may linger
            try:
                probe.bind((HOST, port))
                probe.listen()
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise OSError("no free port")
