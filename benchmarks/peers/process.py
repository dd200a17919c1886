"""Runs a command and watches what it costs: the CPU time and the memory of all of its processes.

CPU time is read from /proc four times a second: of every living process of the tree, and of the children that it has
waited for. What the whole command used is the kernel's own sum at its end (`wait4`), which no short process escapes.
Memory is the proportional set size, the sum over the tree, looked at every second, since reading it stops the
process for a moment.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LOOK_S = 0.25
_LOOKS_A_WEIGHING = 4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ran:
    """One command, as it went. Times are CLOCK_MONOTONIC ns."""

    began_ns: int
    exit_code: int | None  # None: it was killed after its time
    looked_ns: tuple[int, ...]
    cpu_s: tuple[float, ...]  # of all processes from the start until then; one for each look, the last at its end
    peak_mb: float

    @property
    def total_cpu_s(self) -> float:
        return self.cpu_s[-1]

    def cpu_since(self, moment_ns: int) -> float:
        """Seconds of CPU from that time until its end."""
        before = np.interp(moment_ns, (self.began_ns, *self.looked_ns), (0.0, *self.cpu_s))
        return self.total_cpu_s - float(before)


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path, limit_s: float) -> Ran:
    """Runs it in `folder`, its output into a file; kills it and all of its processes after `limit_s` seconds. OSError
    where it cannot be started."""
    began = time.monotonic_ns()
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    tree = _Tree(process.pid)
    looked, cpu, peak, used = [], [], 0.0, None
    code: int | None = None
    while used is None and time.monotonic_ns() - began < limit_s * 1e9:
        tree.look()
        looked.append(time.monotonic_ns())
        cpu.append(tree.cpu_s())
        if len(looked) % _LOOKS_A_WEIGHING == 0:
            peak = max(peak, tree.memory_mb())
        time.sleep(_LOOK_S)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            used = usage.ru_utime + usage.ru_stime
            code = process.returncode = os.waitstatus_to_exitcode(status)
    tree.kill()
    if used is None:
        process.wait()
    looked.append(time.monotonic_ns())
    cpu.append(max([used or 0.0, *cpu]))
    return Ran(began, code, tuple(looked), tuple(cpu), peak)


class _Tree:
    """A process and all that descend from it, also those whose parent has ended."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen = {root: _started(root)}  # start times, since numbers are given again

    def look(self) -> None:
        waiting = self._alive()
        while waiting:
            for child in _children(waiting.pop()):
                if child not in self._seen:
                    self._seen[child] = _started(child)
                    waiting.append(child)

    def cpu_s(self) -> float:
        """User and system time of those that live, with the children that they have waited for."""
        return sum(sum(map(int, fields[11:15])) for pid in self._alive() if (fields := _stat(pid))) / _TICKS_PER_S

    def memory_mb(self) -> float:
        return sum(map(_pss_mb, self._alive()))

    def kill(self) -> None:
        """All that are left."""
        self.look()
        for pid in self._alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _alive(self) -> list[int]:
        return [pid for pid, started in self._seen.items() if started is not None and _started(pid) == started]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields else None


def _children(pid: int) -> list[int]:
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(child) for file in files for child in file.read_text().split()]
    except OSError:
        return []


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
