"""Processes under a CPU quota, in a control group made for them, of v1 or v2, whichever accounts for CPU. Root only."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from latency_profile.telemetry.cgroup import membership

PERIOD_US = 100_000
_EMPTY_WITHIN_S = 5.0


class NoLimits(Exception):
    """Why no group with a quota can be made here, in words."""


@contextmanager
def cpu_limited(cores: float) -> Iterator[Callable[[], None]]:
    """A group that may use so many cores. Gives what moves the process that calls it into the group: a `preexec_fn`.

    Raises NoLimits where the system does not let us. The group goes with the block; its processes must have ended.
    """
    found = membership(Path("/"), "cpu")
    if found is None:
        raise NoLimits("no control group accounts for CPU here")
    group = found.folders[0] / f"latency-profile-{os.getpid()}-{time.monotonic_ns()}"
    quota = round(cores * PERIOD_US)
    try:
        group.mkdir()
    except OSError as error:
        raise NoLimits(f"{group} cannot be made: {error.strerror}") from error
    try:
        try:
            if found.version == "v1":
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        except OSError as error:
            raise NoLimits(f"{group} takes no quota: {error.strerror}") from error
        members = group / "cgroup.procs"
        yield lambda: _join(members)
    finally:
        _remove(group)


def _join(members: Path) -> None:
    members.write_text(str(os.getpid()))


def _remove(group: Path) -> None:
    """A group can go when its last process has been reaped, which may take the kernel a moment."""
    deadline = time.monotonic() + _EMPTY_WITHIN_S
    while True:
        try:
            group.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
