"""A program that runs behind a guard, and its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from latency_profile import children
from latency_profile.guarded.guard import GRACE_S, NO_PROGRAM, descendants

GUARD = "latency_profile.guarded.guard"
KILL_WITHIN_S = 15.0  # a process in a driver's call may not die sooner
SOON_S = 1.0  # the guard first clears away what the program has left
_LOOK_BYTES = 1 << 16


class GuardedProcess:
    """A program from now until `stop`, or the end of this process."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        stop_within_s: float,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """log: where its output goes, behind what is there; stop_within_s: from SIGTERM to SIGKILL; pass_fds: open file
        descriptors that it gets, under the same numbers. A program that is not there has `ended_by_itself`."""
        self.log = log
        self._command = command
        self._stop_within_s = stop_within_s
        order = {
            "command": [*command],
            "environment": {**environment},
            "stop_within_s": stop_within_s,
            "pass_fds": [*pass_fds],
        }
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                children.command(GUARD),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=children.environment(),
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C reaches the terminal's whole group: the runner decides
            )
        assert self._guard.stdin
        self._to = self._guard.stdin
        self._to.write(json.dumps(order).encode() + b"\n")
        self._to.flush()

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    def pids(self) -> list[int]:
        """The program and all that it has started and not yet outlived."""
        return descendants(self._guard.pid)

    def exit_code(self, within_s: float = 0.0) -> int | None:
        """128 + n for signal n, NO_PROGRAM where there was none; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self._guard.wait(within_s)
        return None

    def ended_by_itself(self, *, soon: bool = False) -> str | None:
        """How the program ended; None while it runs. soon: it is waited for a moment, as one that does not answer any
        more may not be known to have ended yet."""
        code = self.exit_code(SOON_S if soon else 0.0)
        return None if code is None else how_it_ended(code)

    def wait_unreaped(self) -> None:
        """Sleeps until it has ended; for a thread beside the one that asks how."""
        with suppress(ChildProcessError):  # it has been reaped already
            os.waitid(os.P_PID, self._guard.pid, os.WEXITED | os.WNOWAIT)

    def stop(self) -> None:
        """Ends the program and all that it started."""
        self._to.close()
        if self.exit_code(self._stop_within_s + GRACE_S + KILL_WITHIN_S) is None:
            print(f"{self._command[0]}, or what it started, does not end; process {self._guard.pid} waits for it",
                  file=sys.stderr, flush=True)  # fmt: skip

    def last_lines(self, number: int) -> list[str]:
        """The end of what it has said."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOOK_BYTES))
            return file.read().decode(errors="replace").splitlines()[-number:]


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
