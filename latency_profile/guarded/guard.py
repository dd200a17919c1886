"""A process between the runner and a program: it ends when its standard input does, and with it all that the program
started, however the runner ended.

`python -m latency_profile.guarded.guard` reads one line of JSON, {"command", "environment", "stop_within_s",
"pass_fds"}, so that neither `ps` nor a log shows the environment. Its own output is the program's. It is the subreaper
of all that comes from the program (prctl(2), PR_SET_CHILD_SUBREAPER): what that leaves behind, in whatever session,
becomes the guard's child and is found. Should the guard itself be killed, the kernel kills the program
(PR_SET_PDEATHSIG), but not what that started.

Its exit code is the program's, 128 + n for signal n, as shells have it, and 127 where there was none.
Nothing but the standard library is imported: it lies beside a measurement, and sleeps.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

GRACE_S = 2.0  # of the program's own children, once it has gone
LOOK_S = 0.05
NO_PROGRAM = 127

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def descendants(of: int) -> list[int]:
    """All processes below `of`, children before theirs."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text(errors="replace").rpartition(") ")[2].split()
        except OSError:  # it has just ended
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found: list[int] = []
    left = [of]
    while left:
        below = children.get(left.pop(0), [])
        found += below
        left += below
    return found


class Guard:
    """The program's process and all below it."""

    def __init__(self, command: list[str], environment: dict[str, str], pass_fds: list[int]) -> None:
        """Raises OSError where there is no such program."""
        self.asked_to_stop = False
        self.returncode: int | None = None  # of the program, negative for a signal; None while it runs
        self._wake, woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler must stand for the pipe to be written to
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop_asked)
        self._process = subprocess.Popen(  # kept: one that is forgotten is reaped by Popen, and its code is lost
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 -- there are no threads here
        )
        self._program = self._process.pid
        for descriptor in pass_fds:  # or whoever reads at the other end would never see the program go
            os.close(descriptor)

    def _stop_asked(self, _: int, __: FrameType | None) -> None:
        self.asked_to_stop = True

    def wait(self, within_s: float | None = None, *, or_end_of_input: bool = False) -> bool:
        """Sleeps until a signal came, the time is over or the input has ended; True in the last case."""
        watched = [self._wake, 0] if or_end_of_input else [self._wake]
        ready = select.select(watched, [], [], within_s)[0]
        if self._wake in ready:
            os.read(self._wake, 4096)
        self._reap()
        return 0 in ready

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._program:
                self.returncode = os.waitstatus_to_exitcode(status)

    def stop(self, within_s: float) -> None:
        """SIGTERM to the program, then to what it left, then SIGKILL to all, until nothing is left."""
        if self.returncode is None:
            _send(self._program, signal.SIGTERM)
            self._until(lambda: self.returncode is not None, within_s)
            for pid in descendants(os.getpid()):
                _send(pid, signal.SIGTERM)
            self._until(lambda: not descendants(os.getpid()), GRACE_S)
        while left := descendants(os.getpid()):
            for pid in left:
                _send(pid, signal.SIGKILL)
            self.wait(LOOK_S)

    def _until(self, true: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        self._reap()
        while not true() and time.monotonic() < deadline:
            self.wait(LOOK_S)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def main() -> int:
    """The guard; its exit code."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the runner went before it had said what to do
        return 0
    order = json.loads(line)
    try:
        guard = Guard(order["command"], order["environment"], order["pass_fds"])
    except OSError as error:
        print(f"cannot start {order['command'][0]}: {error.strerror}", file=sys.stderr)
        return NO_PROGRAM
    while guard.returncode is None and not guard.asked_to_stop:
        if guard.wait(or_end_of_input=True):
            break
    guard.stop(order["stop_within_s"])
    assert guard.returncode is not None
    return guard.returncode if guard.returncode >= 0 else 128 - guard.returncode


if __name__ == "__main__":
    sys.exit(main())
