"""The termination message: why the container ended, in a line that `kubectl describe pod` shows.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

POD_FILE = Path("/dev/termination-log")  # a mount of the kubelet's, which makes it writable for everybody
MOST_BYTES = 4096  # the kubelet reads no more
VARIABLE = "LATENCY_PROFILE_TERMINATION_LOG"  # of --termination-log; the settings are not imported to know it


class TerminationLog:
    """Where this process's message goes; a process has one."""

    def __init__(self) -> None:
        self.path: Path | None = None  # None: the pod's, where there is one
        self.told = False

    def from_environment(self, environ: Mapping[str, str]) -> None:
        """Until the settings are known, which may be what is wrong."""
        given = environ.get(VARIABLE, "").strip()
        self.path = Path(given) if given else None

    def write(self, text: str) -> None:
        """The message, in place of an earlier one. One that cannot be written is no error: the log has it too."""
        self.told = True
        path = self.path or POD_FILE
        if self.path is None and not os.access(path, os.W_OK):
            return
        with contextlib.suppress(OSError):
            path.write_bytes(shortened(text).encode())


def shortened(text: str) -> str:
    """Within what the kubelet reads; the end is kept, where the exit code stands."""
    data = text.strip().encode()
    if len(data) <= MOST_BYTES:
        return data.decode()
    gap = " … "
    room = MOST_BYTES - len(gap.encode())
    head, tail = data[: room * 3 // 4], data[-(room - room * 3 // 4) :]
    return head.decode(errors="ignore") + gap + tail.decode(errors="ignore")


LOG = TerminationLog()
