"""A server that runs behind a guard, and its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from latency_profile import children
from latency_profile.interrupt import Ended, interrupts
from latency_profile.launch.guard import GRACE_S, NO_PROGRAM

HOST = "127.0.0.1"
STOP_WITHIN_S = 20.0  # from SIGTERM to SIGKILL: what vLLM takes to let go of its workers, several times over
KILL_WITHIN_S = 15.0  # a process in a driver's call may not die sooner
WITHOUT_SERVER_S = 5.0  # what is still in flight fails at once
SOON_S = 1.0  # the guard first clears away what the server has left
LAST_LINES = 20
_LOOK_BYTES = 1 << 16
GUARD = "latency_profile.launch.guard"


class ServerProcess:
    """A server from its start until the end of the block, whatever ends that; its output goes to `log`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        order = {"command": [*command], "environment": {**environment}, "stop_within_s": STOP_WITHIN_S}
        with log.open("xb") as output:
            self._guard = subprocess.Popen(
                children.command(GUARD),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=children.environment(),
                start_new_session=True,  # Ctrl-C reaches the terminal's whole group: the runner decides
            )
        assert self._guard.stdin
        self._to = self._guard.stdin
        self._to.write(json.dumps(order).encode() + b"\n")
        self._to.flush()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.stop()

    def ended_by_itself(self, *, soon: bool = False) -> str | None:
        """How the server ended; None while it runs. soon: it is waited for a moment, as one that does not answer any
        more may not be known to have ended yet."""
        try:
            return how_it_ended(self._guard.wait(SOON_S if soon else 0))
        except subprocess.TimeoutExpired:
            return None

    @contextmanager
    def cuts_short(self, when: Callable[[], None]) -> Iterator[None]:
        """While the block runs: where the server ends and the block goes on for WITHOUT_SERVER_S (it may wait for an
        answer until its own deadline), `when` is called and the block gets a SIGINT, as from Ctrl-C."""
        over = threading.Event()
        lock = threading.Lock()

        def watch() -> None:
            with suppress(ChildProcessError):  # it has been reaped already
                os.waitid(os.P_PID, self._guard.pid, os.WEXITED | os.WNOWAIT)  # sleeps, and leaves it to be reaped
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
            self._to.close()
            try:
                self._guard.wait(STOP_WITHIN_S + GRACE_S + KILL_WITHIN_S)
            except subprocess.TimeoutExpired:
                print(f"the server, or what it started, does not end; process {self._guard.pid} waits for it",
                      file=sys.stderr, flush=True)  # fmt: skip
        if interrupt.reason == "SIGTERM":
            raise Ended
        if interrupt:
            raise KeyboardInterrupt

    def last_lines(self) -> list[str]:
        """The end of what it has said."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOOK_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]


def how_it_ended(code: int) -> str:
    """An exit code in words, as the guard gives it."""
    if code == NO_PROGRAM:
        return "could not be started"
    if code > 128:
        try:
            return f"was ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"ended with exit code {code}"


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
